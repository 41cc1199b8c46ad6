"""A proxy before one RabbitMQ node that can change or swallow what the broker says, frame by frame."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

from tests.support.relaying import Relay, listening

_PREFIX = struct.Struct(">BHI")
#: How the payloads of some methods begin.
CHANNEL_OPENED, QUEUE_DECLARED = b"\x00\x14\x00\x0b", b"\x00\x32\x00\x0b"
CANCELLED = b"\x00\x3c\x00\x1f"
DELIVER, ACK, NACK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"

#: Number of the connection from 1 on, kind of frame, channel, payload; the payload to pass on, None to swallow it.
Change = Callable[[int, int, int, bytes], bytes | None]


def _unchanged(_connection: int, _kind: int, _channel: int, payload: bytes) -> bytes | None:
    return payload


class AmqpProxy(Relay):
    """`change` may be set at any time; it sees every frame from the broker."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.change: Change = _unchanged
        self.url = ""

    async def _pass_back(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, channel, size = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
                payload = (await reader.readexactly(size + 1))[:-1]
                changed = self.change(number, kind, channel, payload)
                if changed is not None:
                    writer.write(_PREFIX.pack(kind, channel, len(changed)) + changed + b"\xce")
                    await writer.drain()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def amqp_proxy(url: str, port: int) -> AsyncIterator[AmqpProxy]:
    """Listens while the context lasts.

    Args:
        url: the node's own, whose credentials and virtual host are kept.
    """
    proxy = AmqpProxy(port)
    async with listening(proxy) as own_port:
        proxy.url = url.replace(str(port), str(own_port))
        yield proxy
