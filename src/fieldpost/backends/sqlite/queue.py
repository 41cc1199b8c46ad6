"""What one process knows in memory of one durable queue: how deep it is, and the next messages, bounded in bytes."""

import asyncio
from collections import deque
from collections.abc import Sequence

from sqlalchemy import Connection

from fieldpost.backends.sqlite.database import Database

#: Message id and body.
Item = tuple[int, bytes]

#: Bytes of one queue's messages held in memory between disk and consumers.
MAX_READY_BYTES = 16 * 2**20
#: Messages read from disk at once.
MAX_LOAD = 1_000

_NEXT = "SELECT id, body FROM messages WHERE queue = ? AND id > ? ORDER BY id LIMIT ?"


class Queue:
    """Invariant: rows up to `last_read_id` have been in memory, and while later ones are committed, none is fed past them.

    Rows of one queue are committed and confirmed in order of id. `load` may see a row before its confirmation.
    """

    def __init__(self, database: Database, name: str, max_messages: int, depth: int, last_id: int = 0) -> None:
        self._database = database
        self.name = name
        self.max_messages = max_messages
        #: Messages that are not acknowledged, wherever they are; also those whose commit is under way.
        self.depth = depth
        self.ready: deque[Item] = deque()
        #: Set when there may be something to take.
        self.wakes: set[asyncio.Event] = set()
        self._ready_bytes = 0
        self._last_read_id = 0
        self._last_committed_id = last_id
        self._loading = asyncio.Lock()

    @property
    def has_unread(self) -> bool:
        """Whether there are committed rows that have not been in memory."""
        return self._last_committed_id > self._last_read_id

    def confirm(self, items: Sequence[Item]) -> None:
        """Takes in messages that have just been committed, in order of id."""
        for message_id, body in items:
            if message_id > self._last_read_id and not self.has_unread and self._ready_bytes < MAX_READY_BYTES:
                self._last_read_id = message_id
                self.ready.append((message_id, body))
                self._ready_bytes += len(body)
            self._last_committed_id = message_id
        self._wake()

    def take(self) -> Item:
        """The next message in memory."""
        item = self.ready.popleft()
        self._ready_bytes -= len(item[1])
        return item

    def put_back(self, item: Item) -> None:
        """Makes a message the next one again."""
        self.ready.appendleft(item)
        self._ready_bytes += len(item[1])
        self._wake()

    async def load(self) -> bool:
        """Reads the next rows into memory; False when there were none.

        Cancel: safe, nothing is taken before the rows are here.
        """
        async with self._loading:
            if self.ready or not self.has_unread:
                return bool(self.ready)
            # While something is unread, `confirm` feeds nothing, so what was read last stays the same until here again.
            items = await self._database.read(self._read)
            if not items:
                return False
            self._last_read_id = items[-1][0]
            self.ready.extend(items)
            self._ready_bytes += sum(len(body) for _, body in items)
            self._wake()
            return True

    def _read(self, connection: Connection) -> list[Item]:
        items: list[Item] = []
        size_bytes = 0
        for row in connection.exec_driver_sql(_NEXT, (self.name, self._last_read_id, MAX_LOAD)):
            items.append((row[0], row[1]))
            size_bytes += len(row[1])
            if size_bytes >= MAX_READY_BYTES:
                break
        return items

    def _wake(self) -> None:
        for wake in self.wakes:
            wake.set()
