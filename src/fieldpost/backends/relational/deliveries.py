"""Statements for final answers that their devices do not have yet."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, func, select, tuple_, update

from fieldpost.backends.relational import rows
from fieldpost.backends.relational.schema import requests
from fieldpost.messages.requests import Channel
from fieldpost.messages.responses import StoredResponse
from fieldpost.ports.ledger_values import AnswerPage, Completion, FilePage, Finished


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Answers that a device says it has."""

    device_id: int
    request_ids: Sequence[UUID]
    now: datetime


_IS_WAITING = (rows.is_final(), requests.c.acknowledged_at.is_(None), requests.c.file_name.is_(None))
_IS_AFTER = tuple_(requests.c.completed_at, requests.c.id) > tuple_(
    bindparam("after_time", type_=requests.c.completed_at.type), bindparam("after_id", type_=requests.c.id.type)
)
#: Sizes first: a database need not read a large answer to know how large it is.
_SIZES = (
    select(requests.c.id, func.length(requests.c.response).label("size_bytes"))
    .where(
        requests.c.device_id == bindparam("owner"),
        *_IS_WAITING,
        requests.c.id.not_in(bindparam("left_out", expanding=True, type_=requests.c.id.type)),
    )
    .order_by(requests.c.completed_at, requests.c.id)
    .limit(bindparam("row_limit"))
)
_SIZES_AFTER = _SIZES.where(_IS_AFTER)
_BODIES = (
    select(requests.c.id, requests.c.device_id, requests.c.completed_at, requests.c.response)
    .where(requests.c.id.in_(rows.ids_parameter))
    .order_by(requests.c.completed_at, requests.c.id)
)
_COMPLETED = (
    select(requests.c.id, requests.c.device_id, requests.c.completed_at)
    .where(requests.c.device_id.in_(bindparam("device_ids", expanding=True)), *_IS_WAITING, _IS_AFTER)
    .order_by(requests.c.completed_at, requests.c.id)
    .limit(bindparam("row_limit"))
)
_UNACKNOWLEDGED = select(requests.c.id).where(
    requests.c.id.in_(rows.ids_parameter),
    requests.c.device_id == bindparam("owner"),
    rows.is_final(),
    requests.c.acknowledged_at.is_(None),
)
_FILE_SIZES = (
    select(requests.c.id, func.length(requests.c.response).label("size_bytes"))
    .where(
        rows.is_final(),
        requests.c.acknowledged_at.is_(None),
        requests.c.file_name.is_not(None),
        requests.c.device_id.not_in(bindparam("left_out", expanding=True)),
    )
    .order_by(requests.c.completed_at)
    .limit(bindparam("row_limit"))
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
    .where(requests.c.id.in_(rows.ids_parameter))
    .order_by(requests.c.completed_at)
)
_FINAL = (
    select(requests.c.id, requests.c.device_id, requests.c.acknowledged_at)
    .where(requests.c.id.in_(rows.ids_parameter), rows.is_final())
    .order_by(requests.c.id)
    .with_for_update()
)
_ACKNOWLEDGE = (
    update(requests)
    .where(requests.c.id.in_(rows.ids_parameter), requests.c.acknowledged_at.is_(None))
    .values(acknowledged_at=bindparam("now"))
)


def undelivered(
    connection: Connection,
    device_id: int,
    after: tuple[datetime, UUID] | None,
    leaving_out: Collection[UUID],
    limit: int,
    limit_bytes: int,
) -> AnswerPage:
    """See `ports.ledger.Deliveries.undelivered`."""
    parameters: dict[str, Any] = {"owner": device_id, "left_out": list(leaving_out), "row_limit": limit + 1}
    query = _SIZES
    if after is not None:
        query = _SIZES_AFTER
        parameters |= {"after_time": after[0], "after_id": after[1]}
    sizes = [(row.id, row.size_bytes) for row in connection.execute(query, parameters)]
    ids = rows.fitting(sizes[:limit], limit_bytes)
    answers = [
        StoredResponse(
            request_id=row.id, device_id=row.device_id, completed_at=row.completed_at, body=bytes(row.response)
        )
        for row in connection.execute(_BODIES, {"ids": ids})
    ]
    return AnswerPage(answers=answers, is_more=len(ids) < len(sizes))


def completed(
    connection: Connection, device_ids: Sequence[int], after: tuple[datetime, UUID], limit: int
) -> Sequence[Completion]:
    """See `ports.ledger.Deliveries.completed`."""
    parameters = {
        "device_ids": list(device_ids),
        "after_time": after[0],
        "after_id": after[1],
        "row_limit": limit,
    }
    return [
        Completion(request_id=row.id, device_id=row.device_id, completed_at=row.completed_at)
        for row in connection.execute(_COMPLETED, parameters)
    ]


def unacknowledged(connection: Connection, request_ids: Sequence[UUID], device_id: int) -> Collection[UUID]:
    """See `ports.ledger.Deliveries.unacknowledged`."""
    found = connection.execute(_UNACKNOWLEDGED, {"ids": list(request_ids), "owner": device_id})
    return {row.id for row in found}


def undelivered_files(connection: Connection, limit: int, limit_bytes: int, leaving_out: Collection[int]) -> FilePage:
    """See `ports.ledger.Deliveries.undelivered_files`."""
    found = connection.execute(_FILE_SIZES, {"row_limit": limit + 1, "left_out": list(leaving_out)})
    sizes = [(row.id, row.size_bytes) for row in found]
    ids = rows.fitting(sizes[:limit], limit_bytes)
    answers = [
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
        for row in connection.execute(_FILES, {"ids": ids})
    ]
    return FilePage(answers=answers, is_more=len(ids) < len(sizes))


def acknowledge(
    connection: Connection, acknowledgements: Sequence[Acknowledgement], now: datetime
) -> Sequence[Collection[UUID]]:
    """See `ports.ledger.Deliveries.acknowledge`; what now stands of each."""
    ids = {request_id for each in acknowledgements for request_id in each.request_ids}
    final = {row.id: row for row in connection.execute(_FINAL, {"ids": list(ids)}).all()}
    stands = [
        [
            request_id
            for request_id in dict.fromkeys(each.request_ids)
            if request_id in final and final[request_id].device_id == each.device_id
        ]
        for each in acknowledgements
    ]
    fresh = {request_id for of_one in stands for request_id in of_one if final[request_id].acknowledged_at is None}
    if fresh:
        connection.execute(_ACKNOWLEDGE, {"ids": list(fresh), "now": now})
    return stands
