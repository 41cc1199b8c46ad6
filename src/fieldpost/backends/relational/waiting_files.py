"""Statements for further files that want a request's answer."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, func, select, tuple_

from fieldpost.backends.relational import rows
from fieldpost.backends.relational.schema import FIRST_FINAL, requests, waiting_files
from fieldpost.ports.ledger_values import WaitingFile

_PLACE = (waiting_files.c.request_id, waiting_files.c.file_name)
_AFTER = (
    bindparam("after_id", type_=waiting_files.c.request_id.type),
    bindparam("after_name", type_=waiting_files.c.file_name.type),
)
#: First the rows, then their states: however many wait, one look costs no more than `row_limit`.
_ROWS = (
    select(waiting_files)
    .where(tuple_(*_PLACE) > tuple_(*_AFTER))
    .order_by(*_PLACE)
    .limit(bindparam("row_limit"))
    .subquery()
)
_PAGE = (
    select(_ROWS, (func.coalesce(requests.c.state, FIRST_FINAL) >= FIRST_FINAL).label("is_ended"))
    .join_from(_ROWS, requests, requests.c.id == _ROWS.c.request_id, isouter=True)
    .order_by(_ROWS.c.request_id, _ROWS.c.file_name)
)
_REMOVE = delete(waiting_files).where(
    waiting_files.c.request_id == bindparam("id"), waiting_files.c.file_name == bindparam("name")
)
#: Before all others.
_START = (UUID(int=0), "")


def add(connection: Connection, request_id: UUID, device_id: int, file_name: str) -> None:
    """See `ports.ledger.WaitingFiles.add`."""
    row = {"request_id": request_id, "file_name": file_name, "device_id": device_id}
    connection.execute(rows.insert_or_ignore(connection, waiting_files), [row])


def page(connection: Connection, after: tuple[UUID, str] | None, limit: int) -> Sequence[WaitingFile]:
    """See `ports.ledger.WaitingFiles.page`."""
    after_id, after_name = after or _START
    found = connection.execute(_PAGE, {"after_id": after_id, "after_name": after_name, "row_limit": limit})
    return [
        WaitingFile(
            request_id=row.request_id,
            device_id=row.device_id,
            file_name=row.file_name,
            is_ended=bool(row.is_ended),
        )
        for row in found
    ]


def remove(connection: Connection, request_id: UUID, file_name: str) -> None:
    """See `ports.ledger.WaitingFiles.remove`."""
    connection.execute(_REMOVE, {"id": request_id, "name": file_name})
