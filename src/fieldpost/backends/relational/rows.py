"""Between rows and messages: numbers of states and priorities, encoded envelopes, and the executor both databases have."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import BindParameter, ColumnElement, Connection, Insert, Table, bindparam, literal
from sqlalchemy.dialects import postgresql, sqlite

from fieldpost.backends.relational.schema import (
    CANCELLED,
    EXPIRED,
    FAILED,
    FIRST_FINAL,
    PROCESSING,
    QUEUED,
    SUCCEEDED,
    requests,
)
from fieldpost.messages.requests import Channel, Input, Priority, Request, RequestState, RequestStatus
from fieldpost.messages.responses import Response

T = TypeVar("T")

STATE_NUMBERS = {
    RequestState.QUEUED: QUEUED,
    RequestState.PROCESSING: PROCESSING,
    RequestState.SUCCEEDED: SUCCEEDED,
    RequestState.FAILED: FAILED,
    RequestState.EXPIRED: EXPIRED,
    RequestState.CANCELLED: CANCELLED,
}
STATES = {number: state for state, number in STATE_NUMBERS.items()}
PRIORITY_NUMBERS = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
PRIORITIES = {number: priority for priority, number in PRIORITY_NUMBERS.items()}

#: A list of ids, as long as it may be.
ids_parameter: BindParameter[Any] = bindparam("ids", expanding=True)

encode_request = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
_encode_json = msgspec.json.Encoder().encode


class Executor(Protocol):
    """Runs functions of a connection in a transaction: what SQLite and PostgreSQL each do in their way."""

    async def write(self, function: Callable[[Connection], T], *, needs_replica: bool = True) -> T:
        """In a transaction that is on disk when this returns; the function may run more than once.

        Args:
            needs_replica: False for what may be lost with this server's disk: marks that heal by themselves.
        """
        ...

    async def read(self, function: Callable[[Connection], T], *, believed: Callable[[T], bool] | None = None) -> T:
        """Over what is committed.

        Args:
            believed: which results may come from a replica, which can be a little behind; without it, none.
        """
        ...


def insert_or_ignore(connection: Connection, table: Table) -> Insert:
    """An insert that leaves rows alone whose key is already there; both databases have it, each under its own name."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def state_is(number: int) -> ColumnElement[bool]:
    """Written into the statement, not bound: a partial index serves only what can be seen to lie in it."""
    return requests.c.state == literal(number, literal_execute=True)


def is_final() -> ColumnElement[bool]:
    """As `state_is`, for all final states."""
    return requests.c.state >= literal(FIRST_FINAL, literal_execute=True)


def is_open() -> ColumnElement[bool]:
    """As `state_is`, for all states that are not final."""
    return requests.c.state < literal(FIRST_FINAL, literal_execute=True)


def encode_response(response: Response) -> bytes:
    """The answer as the device will read it."""
    return _encode_json(response)


def encode_text(request: Request) -> bytes:
    """A request as people read it in the dead letters."""
    return _encode_json(request)


def readable(envelope: bytes) -> Request | None:
    """The request in it; None when it cannot be read: one damaged row must not hold up what is done with many."""
    try:
        return decode_request(envelope)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def dead_letter(envelope: bytes) -> bytes:
    """The request as people read it, or its bytes as they are when it cannot be read."""
    request = readable(envelope)
    return bytes(envelope) if request is None else encode_text(request)


def request_of(row: Any) -> Request:
    """The request in a row; when it cannot be read, what the columns tell of it, with an empty prompt."""
    request = readable(row.envelope)
    if request is not None:
        return request
    return Request(
        id=row.id,
        device_id=row.device_id,
        channel=Channel(row.channel),
        model=row.model,
        priority=PRIORITIES[row.priority],
        input=Input(prompt=""),
        accepted_at=row.accepted_at,
        body_hash=bytes(row.body_hash),
        deadline_at=row.deadline_at,
        file_name=row.file_name,
    )


def status_of(row: Any) -> RequestStatus:
    """The status that a row of `requests` shows."""
    return RequestStatus(
        id=row.id,
        status=STATES[row.state],
        model=row.model,
        accepted_at=row.accepted_at,
        attempts=row.attempt,
        deadline_at=row.deadline_at,
        completed_at=row.completed_at,
        acknowledged_at=row.acknowledged_at,
        response=None if row.response is None else msgspec.Raw(row.response),
    )


def fitting(sizes: Sequence[tuple[UUID, int]], limit_bytes: int) -> list[UUID]:
    """The first ones that fit together, and the very first in any case."""
    ids: list[UUID] = []
    total_bytes = 0
    for request_id, size_bytes in sizes:
        total_bytes += size_bytes
        if ids and total_bytes > limit_bytes:
            break
        ids.append(request_id)
    return ids
