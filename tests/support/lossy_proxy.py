"""A proxy that passes requests on and can lose replies: the network as devices know it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.relaying import CHUNK_BYTES, Relay, listening


class LossyProxy(Relay):
    """Sits before one server; `lose` replies are cut off before their first byte, each with its connection."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.lose = 0
        self.lost = 0
        self.url = ""

    async def _pass_back(self, _number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
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
    async with listening(proxy) as own_port:
        proxy.url = f"http://127.0.0.1:{own_port}"
        yield proxy
