"""Calls over HTTP, each within its time and size, with the vendor's errors turned into ours. Retrying is the caller's."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping

import httpx

from fieldpost.client.address import Address
from fieldpost.client.problems import raise_for
from fieldpost.errors import CorruptDataError, OutcomeUnknownError, UnreachableError

CONNECT_SECONDS = 10.0
#: A call that should answer at once.
CALL_SECONDS = 30.0
#: The server says something more often than this on a stream of events.
QUIET_SECONDS = 60.0
#: The largest reply, or event, that is read.
MAX_REPLY_BYTES = 16 * 2**20
#: Calls in flight at once, and streams of events open at once; further ones wait their turn.
MAX_CONNECTIONS = 64

#: Nothing of the call has left this machine.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class Http:
    """One server, as one device."""

    def __init__(self, address: Address) -> None:
        self._url = address.url
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._stream_turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self._client = httpx.AsyncClient(
            base_url=address.url,
            headers=address.headers,
            timeout=httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=MAX_CONNECTIONS),
        )

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    async def call(
        self, method: str, path: str, content: bytes | None = None, *, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The reply's body.

        Raises:
            UnreachableError: nothing was sent.
            OutcomeUnknownError: no whole reply came.
            FieldpostError: what the server says.
        """
        sent = {**({} if content is None else {"Content-Type": "application/json"}), **(headers or {})}
        async with self._turns:
            with _translated(self._url):
                async with (
                    asyncio.timeout(CALL_SECONDS),
                    self._client.stream(method, path, content=content, headers=sent) as reply,
                ):
                    body = await _read(reply)
        raise_for(reply.status_code, reply.headers.get("retry-after"), body)
        return body

    async def events(self, path: str) -> AsyncGenerator[tuple[str, bytes], None]:
        """Server-sent events: name and data, until the server ends the stream.

        Raises:
            UnavailableError: the stream broke off, or never began.
            FieldpostError: what the server says.
        """
        timeout = httpx.Timeout(QUIET_SECONDS, connect=CONNECT_SECONDS)
        headers = {"Accept": "text/event-stream"}
        async with self._stream_turns:
            with _translated(self._url):
                async with self._client.stream("GET", path, headers=headers, timeout=timeout) as reply:
                    if reply.status_code != 200:
                        raise_for(reply.status_code, reply.headers.get("retry-after"), await _read(reply))
                    async with contextlib.aclosing(_lines(reply)) as lines:
                        async for event in _events(lines):
                            yield event


async def _read(reply: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in reply.aiter_bytes():
        content += chunk
        _check_size(len(content))
    return bytes(content)


async def _lines(reply: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Lines as the sender ended them; httpx's own would also break at separators inside JSON text."""
    rest = b""
    async for chunk in reply.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        _check_size(len(rest))
        for line in lines:
            yield line.removesuffix(b"\r")


async def _events(lines: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    """Source: WHATWG HTML, section 9.2; one line of data, as this server sends it."""
    name, data = "message", b""
    async for line in lines:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode("utf-8", "replace")
        elif field == b"data":
            data = value
        elif not line:
            if data:
                yield name, data
            name, data = "message", b""


def _check_size(size_bytes: int) -> None:
    if size_bytes > MAX_REPLY_BYTES:
        raise CorruptDataError(f"the server sent more than {MAX_REPLY_BYTES} bytes at once")


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except _NOT_SENT as error:
        raise UnreachableError(f"{url}: {str(error) or type(error).__name__}") from error
    except httpx.DecodingError as error:
        raise CorruptDataError(f"{url}: {error}") from error
    except (httpx.TransportError, TimeoutError) as error:
        raise OutcomeUnknownError(f"{url}: {str(error) or type(error).__name__}") from error
