"""Sends replies: whole bodies in pieces that meet back-pressure, and streams.

A caller that takes nothing is given up by its connection (`web.protocol`); what is sent to it then goes nowhere.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

from fieldpost.web.operations import Reply

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Larger bodies go out in pieces of this size, each waiting until the ones before are on their way.
_PIECE_BYTES = 65_536


async def send_reply(send: Send, reply: Reply) -> None:
    """Sends a reply; returns when all of it has been handed to the network, or the caller is gone."""
    headers = [(b"content-type", reply.content_type), *reply.headers]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    if reply.stream is not None:
        await _send_stream(send, start, reply.stream)
        return
    size_bytes = len(reply.body)
    if reply.status != 204:
        headers.append((b"content-length", b"%d" % size_bytes))
    await send(start)
    if size_bytes <= _PIECE_BYTES:
        await send({"type": "http.response.body", "body": reply.body})
        return
    for first in range(0, size_bytes, _PIECE_BYTES):
        await _send_piece(send, reply.body[first : first + _PIECE_BYTES], is_last=False)
    await _send_piece(send, b"", is_last=True)


async def _send_stream(send: Send, start: MutableMapping[str, Any], stream: AsyncIterator[bytes]) -> None:
    async with aclosing(stream) as pieces:  # type: ignore[type-var]
        await send(start)
        async for piece in pieces:
            await _send_piece(send, piece, is_last=False)
        await _send_piece(send, b"", is_last=True)


async def _send_piece(send: Send, piece: bytes, *, is_last: bool) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
