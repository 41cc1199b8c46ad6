"""Looking through the ledger's newest requests, a page at a time, for what doors remember of them."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from fieldpost.backends.relational.schema import requests
from fieldpost.backends.sqlite.database import Database

_PAGE = 5_000
_COLUMNS = (requests.c.id, requests.c.device_id, requests.c.model, requests.c.accepted_at, requests.c.body_hash)
_BEFORE = (
    select(*_COLUMNS)
    .where(
        requests.c.accepted_at > bindparam("since"),
        requests.c.accepted_at < bindparam("before"),
        # Without a key no other request can have this id.
        requests.c.body_hash != b"",
    )
    .order_by(requests.c.accepted_at.desc(), requests.c.id.desc())
    .limit(_PAGE)
)

#: Id, device, model, when it was accepted, and the hash of what it asks.
Recorded = tuple[UUID, int, str, datetime, bytes]


class Newest:
    """The ledger's newest requests with a key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pages(self, *, since: datetime, until: datetime, limit: int) -> AsyncIterator[Sequence[Recorded]]:
        """Those accepted between these times, latest first; a few more than `limit` at most."""
        count, before = 0, until
        while count < limit and (rows := await self._database.read(_Page({"since": since, "before": before}))):
            yield rows
            count += len(rows)
            # Those of the page's last microsecond that did not fit are left out.
            before = rows[-1][3]


class _Page:
    """Reads the requests before one."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters

    def __call__(self, connection: Connection) -> list[Recorded]:
        return [
            (row.id, row.device_id, row.model, row.accepted_at, bytes(row.body_hash))
            for row in connection.execute(_BEFORE, self._parameters)
        ]
