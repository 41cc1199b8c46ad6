"""Short questions over HTTP to processes of this machine, asked every second: each with a bound on time and size."""

import asyncio

import msgspec

_SECONDS = 2.0
_MAX_BYTES = 262_144


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came; status 0 when nothing did."""

    status: int = 0
    body: bytes = b""


async def get(port: int, path: str, *, seconds: float = _SECONDS) -> Answer:
    """Asks; a server that is away, slow or speaks otherwise is an answer too."""
    try:
        async with asyncio.timeout(seconds):
            return _answer(await _exchange(port, path))
    except (OSError, TimeoutError, ValueError):
        return Answer()


async def _exchange(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        # In HTTP/1.0 the end of the connection is the end of the answer.
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii"))
        await writer.drain()
        received = bytearray()
        while len(received) < _MAX_BYTES and (piece := await reader.read(16_384)):
            received += piece
        return bytes(received)
    finally:
        writer.close()


def _answer(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        return Answer()
    return Answer(status=int(words[1]), body=body)
