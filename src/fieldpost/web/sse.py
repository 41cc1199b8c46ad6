"""Server-sent events. Source: WHATWG HTML, section 9.2."""

import asyncio
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


async def kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events, with comments in between when they are rare."""
    iterator = aiter(events)
    pending: asyncio.Future[bytes] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(iterator))  # type: ignore[arg-type]  # noqa: TID251
            done, _ = await asyncio.wait([pending], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield KEEP_ALIVE
                continue
            try:
                piece = pending.result()
            except StopAsyncIteration:
                return
            pending = None
            yield piece
    finally:
        if pending is not None:
            pending.cancel()
