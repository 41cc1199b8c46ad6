"""Statements that remove what has been kept long enough, a small batch at a time."""

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, select

from fieldpost.backends.relational import rows
from fieldpost.backends.relational.schema import dead_letters, requests, tombstones

#: Whoever else purges meanwhile takes other rows.
_ACKNOWLEDGED = (
    select(requests.c.id)
    .where(rows.is_final(), requests.c.acknowledged_at.is_not(None), requests.c.acknowledged_at < bindparam("before"))
    .order_by(requests.c.acknowledged_at)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
#: Each has an index.
_UNDELIVERED = tuple(
    select(requests.c.id)
    .where(rows.is_final(), requests.c.acknowledged_at.is_(None), is_so, requests.c.completed_at < bindparam("before"))
    .order_by(requests.c.completed_at)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
    for is_so in (requests.c.file_name.is_(None), requests.c.file_name.is_not(None))
)
_DELETE = delete(requests).where(requests.c.id.in_(rows.ids_parameter))
_TOMBSTONES = (
    select(tombstones.c.request_id)
    .where(tombstones.c.created_at < bindparam("before"))
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
_DELETE_TOMBSTONES = delete(tombstones).where(tombstones.c.request_id.in_(rows.ids_parameter))
#: The oldest have the lowest ids.
_OLDEST_LETTERS = (
    select(dead_letters.c.id, dead_letters.c.created_at)
    .order_by(dead_letters.c.id)
    .limit(bindparam("row_limit"))
    .with_for_update(skip_locked=True)
)
_DELETE_LETTERS = delete(dead_letters).where(dead_letters.c.id.in_(bindparam("letters", expanding=True)))


def purge(connection: Connection, acknowledged_before: datetime, undelivered_before: datetime, limit: int) -> int:
    """See `ports.ledger.Records.purge`."""
    old = {"before": acknowledged_before, "row_limit": limit}
    ids = list(connection.scalars(_ACKNOWLEDGED, old))
    for undelivered in _UNDELIVERED:
        if len(ids) < limit:
            forgotten = {"before": undelivered_before, "row_limit": limit - len(ids)}
            ids += connection.scalars(undelivered, forgotten)
    if ids:
        connection.execute(_DELETE, {"ids": ids})
    early = list(connection.scalars(_TOMBSTONES, old))
    if early:
        connection.execute(_DELETE_TOMBSTONES, {"ids": early})
    letters = [row.id for row in connection.execute(_OLDEST_LETTERS, old) if row.created_at < undelivered_before]
    if letters:
        connection.execute(_DELETE_LETTERS, {"letters": letters})
    return max(len(ids), len(early), len(letters))
