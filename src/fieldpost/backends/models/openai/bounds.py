"""A bound on what is held of a server's reply: the client's decoder has none."""

from collections.abc import AsyncIterator

import httpx2

#: What one event, or the whole reply when it is not a stream, may take.
MAX_EVENT_BYTES = 2 * 2**20

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST_END_BYTES = max(map(len, _ENDS)) - 1


class UnboundedReplyError(Exception):
    """What the server sends could take any memory."""


async def bound(response: httpx2.Response) -> None:
    """A hook for every response, before any of its body is read."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnboundedReplyError("compressed, although that was not asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """Passes bytes on; breaks off when an event does not end in time."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size_bytes = 0
        tail = b""
        async for part in self._stream:
            # An event's end may be cut in two: the last bytes are looked at again.
            seen = tail + part
            end = max(seen.rfind(mark) for mark in _ENDS)
            size_bytes = size_bytes + len(part) if end < 0 else len(seen) - end
            tail = seen[-_LONGEST_END_BYTES:]
            if size_bytes > MAX_EVENT_BYTES:
                raise UnboundedReplyError(f"an event of more than {MAX_EVENT_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
