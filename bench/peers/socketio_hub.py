"""python-socketio under uvicorn: echoes, and sends the news to all: `python -m bench.peers.socketio_hub PORT`."""

import sys

import socketio  # type: ignore[import-not-found]
import uvicorn

from bench.measuring import NEWS

server = socketio.AsyncServer(async_mode="asgi")


@server.event  # type: ignore[untyped-decorator]
async def news(_session: str) -> None:
    await server.emit("news", NEWS)


@server.event  # type: ignore[untyped-decorator]
async def echo(session: str, text: str) -> None:
    await server.emit("echo", text, to=session)


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )
