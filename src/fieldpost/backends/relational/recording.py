"""Statements by which requests enter the ledger, are cancelled, and are looked up."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, func, insert, select, tuple_, update

from fieldpost.backends.relational import locking, rows
from fieldpost.backends.relational.schema import CANCELLED, FIRST_FINAL, dead_letters, requests, tombstones
from fieldpost.messages.requests import Request, RequestState, RequestStatus
from fieldpost.messages.responses import Response
from fieldpost.ports.ledger_values import DeadLetter, RecordOutcome, RequestPage, Standing

_EXISTING = select(requests.c.id, requests.c.body_hash).where(requests.c.id.in_(rows.ids_parameter))
_TOMBSTONES = select(tombstones.c.request_id, tombstones.c.device_id).where(
    tombstones.c.request_id.in_(rows.ids_parameter)
)
_DROP_TOMBSTONES = delete(tombstones).where(tombstones.c.request_id.in_(rows.ids_parameter))
_STANDINGS = select(
    requests.c.id,
    requests.c.accepted_at,
    requests.c.body_hash,
    requests.c.file_name,
    requests.c.acknowledged_at,
).where(requests.c.id.in_(rows.ids_parameter))
_STATUS_COLUMNS = (
    requests.c.id,
    requests.c.state,
    requests.c.model,
    requests.c.accepted_at,
    requests.c.attempt,
    requests.c.deadline_at,
    requests.c.completed_at,
    requests.c.acknowledged_at,
    requests.c.response,
)
_ALL_COLUMNS = (
    *_STATUS_COLUMNS,
    requests.c.envelope,
    requests.c.device_id,
    requests.c.channel,
    requests.c.priority,
    requests.c.body_hash,
    requests.c.file_name,
)
_WHOLE = (
    select(*_ALL_COLUMNS)
    .where(requests.c.id.in_(rows.ids_parameter))
    .order_by(requests.c.accepted_at.desc(), requests.c.id.desc())
)
_CANCELLABLE = (
    select(*_ALL_COLUMNS)
    .where(requests.c.id == bindparam("id"), requests.c.device_id == bindparam("device_id"))
    .with_for_update()
)
_ONE = select(*_STATUS_COLUMNS).where(requests.c.id == bindparam("id"), requests.c.device_id == bindparam("device_id"))


def reach(connection: Connection) -> None:
    """See `ports.ledger.Records.reach`."""
    connection.execute(select(dead_letters.c.id).limit(1))


def record(
    connection: Connection, batch: Sequence[Request], dispatched: Collection[UUID], now: datetime
) -> Mapping[UUID, RecordOutcome]:
    """See `ports.ledger.Records.record`."""
    ids = [request.id for request in batch]
    locking.arrivals(connection, ids)
    tombs = {row.request_id: row.device_id for row in connection.execute(_TOMBSTONES, {"ids": ids})}
    first: dict[UUID, Request] = {}
    for request in batch:
        first.setdefault(request.id, request)
    cancelled = {request.id for request in first.values() if tombs.get(request.id) == request.device_id}
    new = _insert(
        connection,
        (
            _row(request, now, is_dispatched=request.id in dispatched, is_cancelled=request.id in cancelled)
            for request in first.values()
        ),
    )
    # Only now: nearly always all of them are new.
    hashes = _hashes(connection, first.keys() - new)
    outcomes: dict[UUID, RecordOutcome] = {}
    conflicts: list[dict[str, Any]] = []
    for request in batch:
        if request.id in new and request is first[request.id]:
            outcomes[request.id] = RecordOutcome.CANCELLED if request.id in cancelled else RecordOutcome.NEW
            hashes[request.id] = request.body_hash
        elif hashes.get(request.id, request.body_hash) == request.body_hash:
            outcomes.setdefault(request.id, RecordOutcome.DUPLICATE)
        else:
            outcomes.setdefault(request.id, RecordOutcome.CONFLICT)
            conflicts.append(_conflict(request, now))
    if conflicts:
        connection.execute(insert(dead_letters), conflicts)
    if tombs:
        connection.execute(_DROP_TOMBSTONES, {"ids": list(tombs)})
    return outcomes


def bury(connection: Connection, reason: str, body: bytes, now: datetime) -> None:
    """See `ports.ledger.Records.bury`."""
    connection.execute(insert(dead_letters), [{"reason": reason, "body": body, "created_at": now}])


def cancel(
    connection: Connection, request_id: UUID, device_id: int, expected: bool, now: datetime
) -> RequestStatus | None:
    """See `ports.ledger.Records.cancel`."""
    which = {"id": request_id, "device_id": device_id}
    row = connection.execute(_CANCELLABLE, which).first()
    if row is None and expected:
        # Somebody may be recording it: then this waits, and finds it.
        locking.absence(connection, request_id)
        row = connection.execute(_CANCELLABLE, which).first()
    if row is None:
        if expected:
            connection.execute(
                rows.insert_or_ignore(connection, tombstones),
                [{"request_id": request_id, "device_id": device_id, "created_at": now}],
            )
        return None
    if row.state < FIRST_FINAL:
        request = rows.request_of(row)
        connection.execute(update(requests).where(requests.c.id == request_id), _cancelled(request, row.attempt, now))
    return status(connection, request_id, device_id)


def status(connection: Connection, request_id: UUID, device_id: int) -> RequestStatus | None:
    """See `ports.ledger.Records.status`."""
    row = connection.execute(_ONE, {"id": request_id, "device_id": device_id}).first()
    return None if row is None else rows.status_of(row)


def page(
    connection: Connection,
    device_id: int | None,
    state: RequestState | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
    limit_bytes: int,
) -> RequestPage:
    """See `ports.ledger.Records.page`."""
    # Sizes first: a database need not read a large answer to know how large it is.
    size_bytes = func.length(requests.c.envelope) + func.coalesce(func.length(requests.c.response), 0)
    query = select(requests.c.id, size_bytes)
    if device_id is not None:
        query = query.where(requests.c.device_id == device_id)
    if state is not None:
        query = query.where(requests.c.state == rows.STATE_NUMBERS[state])
    if before is not None:
        query = query.where(tuple_(requests.c.accepted_at, requests.c.id) < tuple_(*before, types=_CURSOR_TYPES))
    query = query.order_by(requests.c.accepted_at.desc(), requests.c.id.desc()).limit(limit + 1)
    sizes = [(row[0], row[1]) for row in connection.execute(query)]
    ids = rows.fitting(sizes[:limit], limit_bytes)
    found = connection.execute(_WHOLE, {"ids": ids}).all()
    entries = [(row.device_id, rows.request_of(row), rows.status_of(row)) for row in found]
    return RequestPage(entries=entries, is_more=len(ids) < len(sizes))


def standings(connection: Connection, request_ids: Sequence[UUID]) -> Mapping[UUID, Standing]:
    """See `ports.ledger.Records.standings`."""
    return {
        row.id: Standing(
            accepted_at=row.accepted_at,
            body_hash=bytes(row.body_hash),
            file_name=row.file_name,
            is_acknowledged=row.acknowledged_at is not None,
        )
        for row in connection.execute(_STANDINGS, {"ids": list(request_ids)})
    }


def read_dead_letters(connection: Connection, before: int | None, limit: int) -> Sequence[DeadLetter]:
    """See `ports.ledger.Records.dead_letters`."""
    query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(dead_letters.c.id < before)
    return [
        DeadLetter(
            id=row.id,
            reason=row.reason,
            created_at=row.created_at,
            body=bytes(row.body).decode(errors="replace"),
            request_id=row.request_id,
            device_id=row.device_id,
        )
        for row in connection.execute(query)
    ]


def _hashes(connection: Connection, request_ids: Collection[UUID]) -> dict[UUID, bytes]:
    if not request_ids:
        return {}
    found = connection.execute(_EXISTING, {"ids": list(request_ids)})
    return {row.id: bytes(row.body_hash) for row in found}


def _insert(connection: Connection, candidates: Iterable[dict[str, Any]]) -> set[UUID]:
    """The ids of those that were not there; in order, so that batches that share some never wait in a circle."""
    ordered = sorted(candidates, key=lambda row: row["id"])
    if not ordered:
        return set()
    statement = rows.insert_or_ignore(connection, requests).returning(requests.c.id)
    return set(connection.scalars(statement, ordered))


_CURSOR_TYPES = (requests.c.accepted_at.type, requests.c.id.type)


def _row(request: Request, now: datetime, *, is_dispatched: bool, is_cancelled: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": request.id,
        "device_id": request.device_id,
        "channel": request.channel.value,
        "model": request.model,
        "priority": rows.PRIORITY_NUMBERS[request.priority],
        "state": 0,
        "body_hash": request.body_hash,
        "envelope": rows.encode_request(request),
        "accepted_at": request.accepted_at,
        "deadline_at": request.deadline_at,
        "dispatched_at": now if is_dispatched else None,
        # By this clock: a door's may run ahead, or have been set back since.
        "not_before": min(request.accepted_at, now),
        "completed_at": None,
        "acknowledged_at": None,
        "response": None,
        "file_name": request.file_name,
    }
    return row | _cancelled(request, 0, now) if is_cancelled else row


def _cancelled(request: Request, attempts: int, now: datetime) -> dict[str, Any]:
    # The device asked for it, so there is nothing to bring to it.
    response = Response(
        request_id=request.id,
        status=RequestState.CANCELLED,
        model=request.model,
        attempts=attempts,
        accepted_at=request.accepted_at,
        completed_at=now,
        file_name=request.file_name,
        traceparent=request.traceparent,
    )
    return {
        "state": CANCELLED,
        "completed_at": now,
        "acknowledged_at": now,
        "response": rows.encode_response(response),
    }


def _conflict(request: Request, now: datetime) -> dict[str, Any]:
    return {
        "reason": "This idempotency key was already used for another request.",
        "body": rows.encode_text(request),
        "created_at": now,
        "request_id": request.id,
        "device_id": request.device_id,
    }
