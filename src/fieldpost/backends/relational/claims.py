"""Statements by which workers claim attempts and their outcomes are recorded; the attempt's number is the fencing token."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from fieldpost.backends.relational import locking, rows
from fieldpost.backends.relational.schema import PROCESSING, QUEUED, dead_letters, requests
from fieldpost.messages.requests import Channel
from fieldpost.ports.ledger_values import Claim, Finish, Finished, Retry

_CLAIM = (
    update(requests)
    .where(
        requests.c.id.in_(rows.ids_parameter),
        rows.state_is(QUEUED),
        # Whoever dispatched it has judged it due: this clock may be behind.
        or_(requests.c.dispatched_at.is_not(None), requests.c.not_before <= bindparam("now")),
        or_(requests.c.deadline_at.is_(None), requests.c.deadline_at > bindparam("now")),
    )
    .values(
        state=PROCESSING,
        attempt=requests.c.attempt + 1,
        holder=bindparam("new_holder"),
        claimed_until=bindparam("until"),
    )
    .returning(requests.c.envelope, requests.c.attempt, requests.c.failures)
)
#: Rows that have not ended. One that waits in line again keeps its attempt's number until the next claim.
_OPEN = (
    select(
        requests.c.id,
        requests.c.state,
        requests.c.attempt,
        requests.c.device_id,
        requests.c.channel,
        requests.c.file_name,
        requests.c.envelope,
    )
    .where(requests.c.id.in_(rows.ids_parameter), or_(rows.state_is(PROCESSING), rows.state_is(QUEUED)))
    .order_by(requests.c.id)
    .with_for_update()
)
_RENEW = (
    update(requests)
    .where(requests.c.id.in_(rows.ids_parameter), rows.state_is(PROCESSING))
    .values(claimed_until=bindparam("until"))
)
#: What a row looks like that waits for a worker again.
BACK_IN_LINE: dict[str, Any] = {"state": QUEUED, "dispatched_at": None, "holder": None, "claimed_until": None}
_RELEASE = (
    update(requests).where(requests.c.id.in_(rows.ids_parameter)).values(**BACK_IN_LINE, not_before=bindparam("now"))
)
_RELEASE_ALL = update(requests).where(rows.state_is(PROCESSING)).values(**BACK_IN_LINE)
_RETRY = (
    update(requests)
    .where(requests.c.id == bindparam("request_id"))
    .values(**BACK_IN_LINE, not_before=bindparam("due_at"), failures=requests.c.failures + 1)
)
_FINISH = (
    update(requests)
    .where(requests.c.id == bindparam("request_id"))
    .values(
        state=bindparam("final_state"),
        completed_at=bindparam("now"),
        response=bindparam("body"),
        holder=None,
        claimed_until=None,
    )
)


def claim(
    connection: Connection, request_ids: Sequence[UUID], holder: str, now: datetime, until: datetime
) -> Sequence[Claim]:
    """See `ports.ledger.Claims.claim`."""
    parameters = {"ids": list(request_ids), "now": now, "new_holder": holder, "until": until}
    locking.rows_of(connection, request_ids)
    # All rows before the first is read: one that cannot be must not leave a statement open behind it.
    claimed = connection.execute(_CLAIM, parameters).all()
    return [
        Claim(request=rows.decode_request(row.envelope), attempt=row.attempt, failures=row.failures) for row in claimed
    ]


def renew(connection: Connection, attempts: Mapping[UUID, int], now: datetime, until: datetime) -> Collection[UUID]:  # noqa: ARG001
    """See `ports.ledger.Claims.renew`."""
    held = _held(connection, attempts)
    if held:
        connection.execute(_RENEW, {"ids": held, "until": until})
    return held


def release(connection: Connection, attempts: Mapping[UUID, int], now: datetime) -> None:
    """See `ports.ledger.Claims.release`."""
    held = _held(connection, attempts)
    if held:
        connection.execute(_RELEASE, {"ids": held, "now": now})


def release_all(connection: Connection) -> int:
    """Puts every claimed request back in line, for whoever knows that nobody can hold a claim; returns how many."""
    return connection.execute(_RELEASE_ALL).rowcount


def finish(
    connection: Connection, finishes: Sequence[Finish], retries: Sequence[Retry], now: datetime
) -> Sequence[Finished]:
    """See `ports.ledger.Claims.finish`."""
    entries: list[Finish | Retry] = [*finishes, *retries]
    found = _open(connection, [entry.request_id for entry in entries])
    # The number alone decides: an answer counts although its claim ran out, as long as nobody has claimed anew.
    current = {entry.request_id: entry for entry in finishes if _is_current(entry, found)}
    again = {
        entry.request_id: entry
        for entry in retries
        if _is_current(entry, found) and _is_claimed(found[entry.request_id]) and entry.request_id not in current
    }
    finished = [_finished(entry, found[entry.request_id]) for entry in current.values()]
    end(connection, finished, now)
    if again:
        connection.execute(
            _RETRY, [{"request_id": entry.request_id, "due_at": entry.not_before} for entry in again.values()]
        )
    letters = [
        dead_letter(found[entry.request_id], entry.dead_letter, now)
        for entry in current.values()
        if entry.dead_letter is not None
    ]
    if letters:
        connection.execute(insert(dead_letters), letters)
    return finished


def end(connection: Connection, finished: Sequence[Finished], now: datetime) -> None:
    """Writes final states; the rows are locked and not final."""
    if finished:
        connection.execute(
            _FINISH,
            [
                {
                    "request_id": entry.request_id,
                    "final_state": rows.STATE_NUMBERS[entry.state],
                    "body": entry.body,
                    "now": now,
                }
                for entry in finished
            ],
        )


def _open(connection: Connection, request_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The locked rows of those requests that have not ended."""
    if not request_ids:
        return {}
    return {row.id: row for row in connection.execute(_OPEN, {"ids": list(request_ids)})}


def _held(connection: Connection, attempts: Mapping[UUID, int]) -> list[UUID]:
    """Those of the attempts that are claimed now; their rows are locked."""
    found = _open(connection, list(attempts))
    return [row.id for row in found.values() if _is_claimed(row) and row.attempt == attempts[row.id]]


def _is_claimed(row: Any) -> bool:
    return bool(row.state == PROCESSING)


def _is_current(entry: Finish | Retry, found: Mapping[UUID, Any]) -> bool:
    return entry.request_id in found and found[entry.request_id].attempt == entry.attempt


def _finished(entry: Finish, row: Any) -> Finished:
    return Finished(
        request_id=entry.request_id,
        device_id=row.device_id,
        channel=Channel(row.channel),
        state=entry.response.status,
        file_name=row.file_name,
        body=rows.encode_response(entry.response),
    )


def dead_letter(row: Any, reason: str, now: datetime) -> dict[str, Any]:
    """The dead letter of a row whose request has come to nothing."""
    return {
        "reason": reason,
        "body": rows.dead_letter(row.envelope),
        "created_at": now,
        "request_id": row.id,
        "device_id": row.device_id,
    }
