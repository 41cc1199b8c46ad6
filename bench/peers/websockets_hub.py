"""A bare `websockets` server: greets, echoes, and sends the news to all: `python -m bench.peers.websockets_hub PORT`."""

import asyncio
import contextlib
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError

from bench.measuring import NEWS


async def hear(connection: ServerConnection) -> None:
    # Clients leave without a word.
    with contextlib.suppress(ConnectionClosedError):
        await connection.send("hello")
        async for text in connection:
            if text == "news":
                broadcast(connection.server.connections, NEWS)
            else:
                await connection.send(text)


async def main(port: int) -> None:
    async with serve(hear, "127.0.0.1", port, compression=None, backlog=2048) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
