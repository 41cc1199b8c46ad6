"""What shared state keeps of a request between `202` and the ledger: how it is written, and filled in after a restart."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from fieldpost.messages.requests import Request
from fieldpost.observability import get_logger
from fieldpost.ports.shared import SharedValues

#: How long the doors remember what they accepted: for lookups that come before the ledger has it, and to tell another
#: request under the same key.
REMEMBER_SECONDS = 86_400.0
#: After a restart that many of the ledger's newest requests are remembered.
RECORDED_AT_MOST = 50_000

log = get_logger()


class Remembered(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is kept of a request."""

    device_id: int
    model: str
    accepted_at: datetime
    body_hash: bytes
    traceparent: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Remembered).decode
_decode_request = msgspec.msgpack.Decoder(Request).decode


def memory_key(request_id: UUID) -> str:
    """Where shared state remembers a request."""
    return f"request:{request_id}"


async def remember(requests: Sequence[Request], values: SharedValues) -> None:
    """Remembers requests; of two under one id the last."""
    entries = [(memory_key(request.id), _encode(_remembered(request))) for request in requests]
    await values.put(entries, ttl_seconds=REMEMBER_SECONDS)


async def recall(request_id: UUID, values: SharedValues) -> Remembered | None:
    """What is remembered of a request."""
    value = await values.get(memory_key(request_id))
    return None if value is None else _decode(value)


async def remember_queued(pages: AsyncIterator[Sequence[bytes]], values: SharedValues) -> None:
    """Remembers what waits in a queue of requests, when shared state has forgotten it.

    Args:
        pages: the queue's bodies, latest first: of two under one id, the earlier one is recorded, and remembered.
    """
    count = 0
    async for bodies in pages:
        requests = [request for body in bodies if (request := _request(body)) is not None]
        await remember(requests, values)
        count += len(requests)
    if count:
        log.info("queued_requests_remembered", count=count)


async def remember_recorded(
    pages: AsyncIterator[Sequence[tuple[UUID, int, str, datetime, bytes]]], values: SharedValues
) -> None:
    """Remembers what the ledger has under keys, when shared state has forgotten it.

    Args:
        pages: id, device, model, when it was accepted and what it asks, latest first.
    """
    async for page in pages:
        entries = [
            (memory_key(id_), _encode(Remembered(device_id=device, model=model, accepted_at=at, body_hash=asks)))
            for id_, device, model, at, asks in page
        ]
        await values.put(entries, ttl_seconds=REMEMBER_SECONDS)


def _remembered(request: Request) -> Remembered:
    return Remembered(
        device_id=request.device_id,
        model=request.model,
        accepted_at=request.accepted_at,
        body_hash=request.body_hash,
        traceparent=request.traceparent,
    )


def _request(body: bytes) -> Request | None:
    try:
        return _decode_request(body)
    except msgspec.MsgspecError:
        # What cannot be read becomes a dead letter when it is recorded.
        return None
