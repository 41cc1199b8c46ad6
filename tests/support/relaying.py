"""A proxy before one server, connection by connection; what it does to the replies is its subclasses'."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

#: Read at once.
CHUNK_BYTES = 65_536


class Relay:
    """Passes everything on, both ways."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._port = port
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(copy(reader, server_writer), self._pass_back(self.connections, server_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, server_writer):
                end.close()
            await asyncio.gather(writer.wait_closed(), server_writer.wait_closed(), return_exceptions=True)
            self._serving.discard(serving)

    async def over(self) -> None:
        """Returns when every connection has ended."""
        while self._serving:
            await asyncio.wait(self._serving, timeout=30)

    async def _pass_back(self, _number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await copy(reader, writer)


@contextlib.asynccontextmanager
async def listening(relay: Relay, *, port: int = 0) -> AsyncIterator[int]:
    """The port on which the relay listens while the context lasts."""
    async with await asyncio.start_server(relay.serve, "127.0.0.1", port) as server:
        yield int(server.sockets[0].getsockname()[1])
        await relay.over()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies one way until its end."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()
