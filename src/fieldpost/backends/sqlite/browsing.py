"""Looking through a durable queue without taking from it, a page at a time."""

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import Connection

from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.queue import Item

#: A page ends at either, but holds one message at least.
PAGE = 1_000
PAGE_BYTES = 4 * 2**20

_LAST_ID = 2**63 - 1
_BEFORE = "SELECT id, body FROM messages WHERE queue = ? AND id < ? ORDER BY id DESC LIMIT ?"


async def pages(database: Database, queue: str) -> AsyncIterator[Sequence[bytes]]:
    """The bodies of a queue's messages, latest first."""
    before_id = _LAST_ID
    while items := await database.read(_Page(queue, before_id)):
        before_id = items[-1][0]
        yield [body for _, body in items]


class _Page:
    """Reads the messages before one."""

    def __init__(self, queue: str, before_id: int) -> None:
        self._arguments = (queue, before_id, PAGE)

    def __call__(self, connection: Connection) -> list[Item]:
        items: list[Item] = []
        size_bytes = 0
        for row in connection.exec_driver_sql(_BEFORE, self._arguments):
            items.append((row[0], row[1]))
            size_bytes += len(row[1])
            if size_bytes >= PAGE_BYTES:
                break
        return items
