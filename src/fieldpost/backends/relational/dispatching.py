"""Statements that find what waits for a worker, and what waited too long."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from fieldpost.backends.relational import claims, rows
from fieldpost.backends.relational.schema import PROCESSING, QUEUED, dead_letters, requests
from fieldpost.messages.requests import Channel, Priority, RequestState
from fieldpost.messages.responses import Job, Problem, Response
from fieldpost.ports.ledger_values import Finished, Reaped

_WAITS = (
    requests.c.model == bindparam("model"),
    requests.c.priority == bindparam("priority"),
    rows.state_is(QUEUED),
    requests.c.dispatched_at.is_(None),
    requests.c.not_before <= bindparam("now"),
)


def _next_device(after: Any) -> Any:
    return (
        select(requests.c.device_id)
        .where(*_WAITS, requests.c.device_id > after)
        .order_by(requests.c.device_id)
        .limit(1)
    )


# Hops from device to device through the index, so that a backlog of one device is stepped over, not read.
_hop = select(_next_device(bindparam("after")).scalar_subquery().label("device_id")).cte("hop", recursive=True)
_hop = _hop.union_all(select(_next_device(_hop.c.device_id).scalar_subquery()).where(_hop.c.device_id.is_not(None)))
_DEVICES = select(_hop.c.device_id).where(_hop.c.device_id.is_not(None)).limit(bindparam("row_limit"))
_OLDEST = (
    select(requests.c.id)
    .where(*_WAITS, requests.c.device_id == bindparam("device_id"))
    .order_by(requests.c.not_before)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
_FIRST = _next_device(bindparam("after"))
_MARK = update(requests).where(requests.c.id.in_(rows.ids_parameter)).values(dispatched_at=bindparam("now"))
_IN_FLIGHT = (
    requests.c.model == bindparam("model"),
    requests.c.priority == bindparam("priority"),
    rows.state_is(QUEUED),
    requests.c.dispatched_at.is_not(None),
)
_COUNT = select(func.count()).select_from(requests).where(*_IN_FLIGHT)
_COUNT_SOME = select(func.count()).select_from(
    select(requests.c.id).where(*_IN_FLIGHT).limit(bindparam("row_limit")).subquery()
)
_LOST = (
    select(requests.c.id)
    .where(*_IN_FLIGHT, requests.c.dispatched_at < bindparam("before"))
    .order_by(requests.c.dispatched_at)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
#: Each has an index that begins with the model.
_WAITING_OR_DISPATCHED = (requests.c.dispatched_at.is_(None), requests.c.dispatched_at.is_not(None))
_UNDISPATCH = (
    update(requests).where(requests.c.id.in_(rows.ids_parameter), rows.state_is(QUEUED)).values(dispatched_at=None)
)
_ENDING = (
    requests.c.id,
    requests.c.device_id,
    requests.c.channel,
    requests.c.file_name,
    requests.c.model,
    requests.c.accepted_at,
    requests.c.envelope,
    requests.c.attempt,
    requests.c.deaths,
)
_PAST_DEADLINE = (
    select(*_ENDING)
    .where(
        rows.is_open(),
        requests.c.deadline_at.is_not(None),
        requests.c.deadline_at <= bindparam("now"),
    )
    .order_by(requests.c.deadline_at)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
_PAST_CLAIM = (
    select(*_ENDING)
    .where(rows.state_is(PROCESSING), requests.c.claimed_until <= bindparam("now"))
    .order_by(requests.c.claimed_until)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
_REQUEUE = (
    update(requests)
    .where(requests.c.id.in_(rows.ids_parameter))
    .values(**claims.BACK_IN_LINE, not_before=bindparam("now"), deaths=requests.c.deaths + 1)
)

#: Why nobody answered what then passed its deadline.
_UNREADABLE = "The stored request cannot be read."


def is_waiting(connection: Connection, model: str, priority: Priority, now: datetime) -> bool:
    """See `ports.ledger.Dispatch.is_waiting`."""
    which = {"model": model, "priority": rows.PRIORITY_NUMBERS[priority], "now": now}
    return connection.scalar(_FIRST, which | {"after": 0}) is not None


def take(
    connection: Connection, model: str, priority: Priority, after_device: int, limit: int, now: datetime
) -> Sequence[Job]:
    """See `ports.ledger.Dispatch.take`."""
    which = {"model": model, "priority": rows.PRIORITY_NUMBERS[priority], "now": now}
    devices = list(connection.scalars(_DEVICES, which | {"after": after_device, "row_limit": limit}))
    if len(devices) < limit:
        first = connection.scalars(_DEVICES, which | {"after": 0, "row_limit": limit - len(devices)})
        devices += [device_id for device_id in first if device_id <= after_device]
    if not devices:
        return ()
    share = -(-limit // len(devices))
    lines = [
        [
            Job(request_id=request_id, device_id=device_id)
            for request_id in connection.scalars(_OLDEST, which | {"device_id": device_id, "row_limit": share})
        ]
        for device_id in devices
    ]
    turns = (line[turn] for turn in range(share) for line in lines if turn < len(line))
    jobs = [job for _, job in zip(range(limit), turns, strict=False)]
    connection.execute(_MARK, {"ids": [job.request_id for job in jobs], "now": now})
    return jobs


def dispatched(connection: Connection, model: str, priority: Priority, limit: int) -> int:
    """See `ports.ledger.Dispatch.dispatched`."""
    which = {"model": model, "priority": rows.PRIORITY_NUMBERS[priority], "row_limit": limit}
    return connection.scalar(_COUNT_SOME, which) or 0


def undispatch(
    connection: Connection,
    model: str,
    priority: Priority,
    in_queue: int,
    dispatched_before: datetime,
    surely_before: datetime,
    limit: int,
) -> int:
    """See `ports.ledger.Dispatch.undispatch`."""
    which = {"model": model, "priority": rows.PRIORITY_NUMBERS[priority]}
    missing = (connection.scalar(_COUNT, which) or 0) - in_queue
    lost = set(connection.scalars(_LOST, which | {"before": surely_before, "row_limit": limit}))
    if missing > len(lost):
        lost.update(connection.scalars(_LOST, which | {"before": dispatched_before, "row_limit": min(missing, limit)}))
    if lost:
        connection.execute(_UNDISPATCH, {"ids": list(lost)})
    return len(lost)


def queued_for_others(connection: Connection, models: Collection[str]) -> Mapping[str, int]:
    """See `ports.ledger.Dispatch.queued_for_others`."""
    counts: Counter[str] = Counter()
    for is_so in _WAITING_OR_DISPATCHED:
        queued = (rows.state_is(QUEUED), is_so)
        # Hops from model to model through the index, so that only what is counted is read.
        next_model = select(func.min(requests.c.model)).where(*queued, requests.c.model > bindparam("after"))
        count = select(func.count()).select_from(requests).where(*queued, requests.c.model == bindparam("model"))
        after = ""
        while (model := connection.scalar(next_model, {"after": after})) is not None:
            if model not in models:
                counts[model] += connection.scalar(count, {"model": model}) or 0
            after = model
    return counts


def reap(
    connection: Connection, max_deaths: int, too_many_deaths: Problem, expired: Problem, now: datetime, limit: int
) -> Reaped:
    """See `ports.ledger.Dispatch.reap`."""
    which = {"now": now, "row_limit": limit}
    late = connection.execute(_PAST_DEADLINE, which).all()
    finished = [_finished(row, RequestState.EXPIRED, expired, now) for row in late]
    ended = {row.id for row in late}
    abandoned = [row for row in connection.execute(_PAST_CLAIM, which) if row.id not in ended]
    deadly = [row for row in abandoned if row.deaths + 1 >= max_deaths]
    finished += [_finished(row, RequestState.FAILED, too_many_deaths, now) for row in deadly]
    requeued = [row.id for row in abandoned if row.deaths + 1 < max_deaths]
    claims.end(connection, finished, now)
    letters = [claims.dead_letter(row, too_many_deaths.detail or too_many_deaths.title, now) for row in deadly]
    letters += [claims.dead_letter(row, _UNREADABLE, now) for row in late if rows.readable(row.envelope) is None]
    if letters:
        connection.execute(insert(dead_letters), letters)
    if requeued:
        connection.execute(_REQUEUE, {"ids": requeued, "now": now})
    return Reaped(requeued=requeued, finished=finished)


def _finished(row: Any, state: RequestState, problem: Problem, now: datetime) -> Finished:
    request = rows.readable(row.envelope)
    response = Response(
        request_id=row.id,
        status=state,
        model=row.model,
        attempts=row.attempt,
        accepted_at=row.accepted_at,
        completed_at=now,
        error=problem,
        file_name=row.file_name,
        traceparent="" if request is None else request.traceparent,
    )
    return Finished(
        request_id=row.id,
        device_id=row.device_id,
        channel=Channel(row.channel),
        state=state,
        file_name=row.file_name,
        body=rows.encode_response(response),
    )
