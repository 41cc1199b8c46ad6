"""Statements for final answers that their devices do not have yet."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, select, tuple_, update

from fieldpost.backends.relational import rows
from fieldpost.backends.relational.schema import requests
from fieldpost.messages.requests import Channel
from fieldpost.messages.responses import StoredResponse
from fieldpost.ports.ledger import Finished

_UNDELIVERED = (
    select(requests.c.id, requests.c.device_id, requests.c.completed_at, requests.c.response)
    .where(
        requests.c.device_id.in_(bindparam("device_ids", expanding=True)),
        rows.is_final(),
        requests.c.acknowledged_at.is_(None),
        requests.c.file_name.is_(None),
    )
    .order_by(requests.c.completed_at, requests.c.id)
    .limit(bindparam("row_limit"))
)
_AFTER = _UNDELIVERED.where(
    tuple_(requests.c.completed_at, requests.c.id)
    > tuple_(
        bindparam("after_time", type_=requests.c.completed_at.type),
        bindparam("after_id", type_=requests.c.id.type),
    )
)
_FILES = (
    select(
        requests.c.id,
        requests.c.device_id,
        requests.c.channel,
        requests.c.state,
        requests.c.file_name,
        requests.c.response,
        requests.c.completed_at,
    )
    .where(rows.is_final(), requests.c.acknowledged_at.is_(None), requests.c.file_name.is_not(None))
    .order_by(requests.c.completed_at)
    .limit(bindparam("row_limit"))
)
_MINE = select(requests.c.id, requests.c.acknowledged_at).where(
    requests.c.id.in_(rows.ids_parameter), requests.c.device_id == bindparam("owner"), rows.is_final()
)
_ACKNOWLEDGE = (
    update(requests)
    .where(requests.c.id.in_(rows.ids_parameter), requests.c.acknowledged_at.is_(None))
    .values(acknowledged_at=bindparam("now"))
)


def undelivered(
    connection: Connection, device_ids: Sequence[int], after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[StoredResponse]:
    """See `ports.ledger.Deliveries.undelivered`."""
    parameters: dict[str, Any] = {"device_ids": list(device_ids), "row_limit": limit}
    query = _UNDELIVERED
    if after is not None:
        query = _AFTER
        parameters |= {"after_time": after[0], "after_id": after[1]}
    return [
        StoredResponse(
            request_id=row.id, device_id=row.device_id, completed_at=row.completed_at, body=bytes(row.response)
        )
        for row in connection.execute(query, parameters)
    ]


def undelivered_files(connection: Connection, limit: int) -> Sequence[tuple[Finished, datetime]]:
    """See `ports.ledger.Deliveries.undelivered_files`."""
    return [
        (
            Finished(
                request_id=row.id,
                device_id=row.device_id,
                channel=Channel(row.channel),
                state=rows.STATES[row.state],
                file_name=row.file_name,
                body=bytes(row.response),
            ),
            row.completed_at,
        )
        for row in connection.execute(_FILES, {"row_limit": limit})
    ]


def acknowledge(connection: Connection, request_ids: Sequence[UUID], device_id: int, now: datetime) -> Collection[UUID]:
    """See `ports.ledger.Deliveries.acknowledge`."""
    mine = connection.execute(_MINE, {"ids": list(request_ids), "owner": device_id}).all()
    fresh = [row.id for row in mine if row.acknowledged_at is None]
    if fresh:
        connection.execute(_ACKNOWLEDGE, {"ids": fresh, "now": now})
    return [row.id for row in mine]
