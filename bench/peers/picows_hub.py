"""A bare picows server, the limit: greets, echoes, and sends the news to all: `python -m bench.peers.picows_hub PORT`."""

import asyncio
import sys

import uvloop
from picows import (  # type: ignore[import-not-found]
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from bench.measuring import NEWS

_NEWS = NEWS.encode()


class Listener(WSListener):  # type: ignore[misc]
    """One connection; all of them share the set of those that are open."""

    def __init__(self, transports: set[WSTransport]) -> None:
        super().__init__()
        self._transports = transports

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transports.add(transport)
        transport.send(WSMsgType.TEXT, b"hello")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
            return
        text = frame.get_payload_as_bytes()
        if text == b"news":
            for each in self._transports:
                each.send(WSMsgType.TEXT, _NEWS)
        else:
            transport.send(WSMsgType.TEXT, text)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transports.discard(transport)


async def main(port: int) -> None:
    transports: set[WSTransport] = set()

    def listen(_request: WSUpgradeRequest) -> Listener:
        return Listener(transports)

    server = await ws_create_server(listen, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
