"""Server-sent events. Source: WHATWG HTML, section 9.2."""

from collections.abc import AsyncIterator

#: A comment goes out when nothing else has, so that proxies keep the connection.
KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
CONTENT_TYPE = b"text/event-stream; charset=utf-8"


def event(name: str, data: bytes, *, id: str | None = None) -> bytes:  # noqa: A002
    """One event; `data` is JSON on one line."""
    head = f"id: {id}\n" if id is not None else ""
    return f"{head}event: {name}\ndata: ".encode() + data + b"\n\n"


async def nothing() -> AsyncIterator[bytes]:
    """The events of a HEAD: its answer has the headers of a stream, and nothing is begun for it."""
    pieces: tuple[bytes, ...] = ()
    for piece in pieces:
        yield piece
