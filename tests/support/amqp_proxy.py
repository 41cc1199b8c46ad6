"""A proxy before one RabbitMQ node that can change or swallow what the broker says, frame by frame."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable

_PREFIX = struct.Struct(">BHI")
_CHUNK_BYTES = 65_536
#: How the payloads of some methods begin.
CHANNEL_OPENED, QUEUE_DECLARED = b"\x00\x14\x00\x0b", b"\x00\x32\x00\x0b"
DELIVER, ACK, NACK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"

#: Number of the connection from 1 on, kind of frame, channel, payload; the payload to pass on, None to swallow it.
Change = Callable[[int, int, int, bytes], bytes | None]


def _unchanged(_connection: int, _kind: int, _channel: int, payload: bytes) -> bytes | None:
    return payload


class AmqpProxy:
    """`change` may be set at any time; it sees every frame from the broker."""

    def __init__(self, port: int) -> None:
        self.change: Change = _unchanged
        self.connections = 0
        self.url = ""
        self._port = port
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        self.connections += 1
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(
                _copy(reader, broker_writer), self._copy_frames(self.connections, broker_reader, writer)
            )
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, broker_writer):
                end.close()
            await asyncio.gather(writer.wait_closed(), broker_writer.wait_closed(), return_exceptions=True)
            self._serving.discard(serving)

    async def over(self) -> None:
        """Returns when every connection has ended."""
        while self._serving:
            await asyncio.wait(self._serving, timeout=30)

    async def _copy_frames(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
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
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        proxy.url = url.replace(str(port), str(listening.sockets[0].getsockname()[1]))
        yield proxy
        await proxy.over()
