"""A proxy that passes requests on and can lose replies: the network as devices know it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

#: Read at once.
_CHUNK_BYTES = 65_536


class LossyProxy:
    """Sits before one server; `lose` replies are cut off before their first byte, each with its connection."""

    def __init__(self, port: int) -> None:
        self.lose = 0
        self.lost = 0
        self.url = ""
        self._port = port
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pass_on(reader, server_writer), self._pass_back(server_reader, writer))
        except ConnectionError:
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

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self.lost < self.lose:
                self.lost += 1
                break
            writer.write(chunk)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def lossy_proxy(port: int) -> AsyncIterator[LossyProxy]:
    """Listens while the context lasts."""
    proxy = LossyProxy(port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        proxy.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield proxy
        await proxy.over()
