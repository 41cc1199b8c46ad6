"""Durable queues in SQLite, for one process: messages are rows, who holds them is known in memory.

A publish is a row in the next group commit, an acknowledgement a deletion in it. After a restart every row is waiting
again. A confirmed message goes to its consumers from memory; when they fall behind, it is read from its row later.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from fieldpost.backends.sqlite.browsing import pages
from fieldpost.backends.sqlite.consumer import SqliteConsumer
from fieldpost.backends.sqlite.database import Database
from fieldpost.backends.sqlite.queue import Item, Queue
from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    OverloadedError,
    QueueFullError,
    UnavailableError,
)
from fieldpost.ports.broker import Consumer

T = TypeVar("T")

#: A publish that is not on disk by then has an unknown outcome.
CONFIRM_SECONDS = 10.0
#: Bytes of messages that may wait for the disk, or be on their way to it.
MAX_WAITING_BYTES = 64 * 2**20

_CREATE = (
    "CREATE TABLE IF NOT EXISTS messages "
    "(queue TEXT NOT NULL, id INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (queue, id)) WITHOUT ROWID"
)
_INSERT = "INSERT INTO messages (queue, id, body) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM messages WHERE queue = ? AND id = ?"
_COUNT = "SELECT queue, count(*), max(id) FROM messages GROUP BY queue"


def create_tables(connection: Connection) -> None:
    """Makes the table of messages if it is not there."""
    connection.exec_driver_sql(_CREATE)


class _Publish:
    """Bodies that wait for their group commit, and who waits for it."""

    __slots__ = ("confirmed", "items", "queue", "size_bytes")

    def __init__(self, queue: Queue, items: list[Item], confirmed: "asyncio.Future[None]") -> None:
        self.queue = queue
        self.items = items
        self.size_bytes = sum(len(body) for _, body in items)
        self.confirmed = confirmed


class _Flush:
    """One group of publishes and acknowledgements; collects them when the writer comes to it, once."""

    def __init__(self, broker: "SqliteBroker") -> None:
        self._broker = broker
        self.publishes: list[_Publish] | None = None
        self.acks: list[tuple[str, int]] = []

    def __call__(self, connection: Connection) -> None:
        if self.publishes is None:
            self.publishes, self.acks = self._broker.collect()
        rows = [(publish.queue.name, item[0], item[1]) for publish in self.publishes for item in publish.items]
        if rows:
            connection.exec_driver_sql(_INSERT, rows)
        if self.acks:
            connection.exec_driver_sql(_DELETE, self.acks)


class SqliteBroker:
    """See `ports.broker.Broker`; the only user of its table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: dict[str, Queue] = {}
        self._found: dict[str, tuple[int, int]] = {}
        self._last_id = 0
        self._publishes: deque[_Publish] = deque()
        self._acks: deque[tuple[str, int]] = deque()
        self._waiting_bytes = 0
        self._is_flush_coming = False
        #: Publishers that wait, and until when, oldest first.
        self._unconfirmed: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._is_expiry_coming = False

    async def open(self) -> None:
        """Counts what is there from before."""
        rows = await self._database.read(lambda connection: connection.exec_driver_sql(_COUNT).all())
        self._found = {row[0]: (row[1], row[2]) for row in rows}
        self._last_id = max((row[2] for row in rows), default=0)

    async def declare(self, queue: str, *, max_messages: int) -> None:
        """Makes the queue known, or changes its bound."""
        if queue in self._queues:
            self._queues[queue].max_messages = max_messages
        else:
            depth, last_id = self._found.pop(queue, (0, 0))
            self._queues[queue] = Queue(self._database, queue, max_messages, depth, last_id)

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Returns when the group commit that holds the bodies is on disk."""
        target = self._known(queue)
        if target.depth + len(bodies) > target.max_messages:
            raise QueueFullError(f"{queue} holds {target.depth} messages", queue=queue)
        if self._waiting_bytes >= MAX_WAITING_BYTES:
            raise OverloadedError("too many bytes wait for the disk")
        items: list[Item] = []
        for body in bodies:
            self._last_id += 1
            items.append((self._last_id, body))
        target.depth += len(items)
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hand_in(_Publish(target, items, confirmed))
        self._expire_later(confirmed)
        await confirmed

    @contextlib.asynccontextmanager
    async def consume(self, queues: Sequence[str], *, prefetch: int) -> AsyncIterator[Consumer]:
        """A consumer while the context lasts."""
        consumer = SqliteConsumer([self._known(queue) for queue in queues], prefetch=prefetch, delete=self.delete)
        try:
            yield consumer
        finally:
            consumer.close()

    async def depth(self, queue: str) -> int:
        """Messages that are not acknowledged."""
        return self._known(queue).depth

    def browse(self, queue: str) -> AsyncIterator[Sequence[bytes]]:
        """The bodies of everything in the queue, latest first, in pages; takes nothing, and misses what comes meanwhile.

        The queue need not be declared yet.
        """
        return pages(self._database, queue)

    def delete(self, queue: Queue, ids: Sequence[int]) -> None:
        """Forgets messages with the next group; when the database takes none now, with a later one."""
        queue.depth -= len(ids)
        self._acks.extend((queue.name, message_id) for message_id in ids)
        with contextlib.suppress(UnavailableError):
            self._flush_soon()

    def collect(self) -> tuple[list[_Publish], list[tuple[str, int]]]:
        """Everything that waits to be written; called by the writer's thread."""
        # Cleared first: whoever comes after this sees to another flush.
        self._is_flush_coming = False
        return _drain(self._publishes), _drain(self._acks)

    def _hand_in(self, publish: _Publish) -> None:
        self._publishes.append(publish)
        self._waiting_bytes += publish.size_bytes
        try:
            self._flush_soon()
        except UnavailableError:
            try:
                self._publishes.remove(publish)
            except ValueError:
                # The writer was just collecting and has it: it will be confirmed.
                return
            publish.queue.depth -= len(publish.items)
            self._waiting_bytes -= publish.size_bytes
            raise

    def _flush_soon(self) -> None:
        if self._is_flush_coming:
            return
        self._is_flush_coming = True
        flush = _Flush(self)
        try:
            written = self._database.submit(flush)
        except BaseException:
            self._is_flush_coming = False
            raise
        written.add_done_callback(lambda future: self._settle(flush, future))

    def _settle(self, flush: _Flush, written: "asyncio.Future[None]") -> None:
        error = None if written.cancelled() else written.exception()
        if flush.publishes is None:
            # Its transaction did not even begin: whoever waits hears of it, and the next publish has a flush of its own.
            flush.publishes, flush.acks = self.collect()
        if error is not None and flush.acks:
            # They stay acknowledged in memory; their rows go with a later group.
            self._acks.extend(flush.acks)
        for publish in flush.publishes:
            self._waiting_bytes -= publish.size_bytes
            if error is None:
                publish.queue.confirm(publish.items)
            else:
                publish.queue.depth -= len(publish.items)
            while self._unconfirmed and self._unconfirmed[0][1].done():
                self._unconfirmed.popleft()
            if publish.confirmed.done():
                continue
            if error is None:
                publish.confirmed.set_result(None)
            else:
                publish.confirmed.set_exception(error)

    def _expire_later(self, confirmed: "asyncio.Future[None]") -> None:
        """Ends the wait of a publisher whom the disk leaves waiting; one timer for all of them."""
        loop = asyncio.get_running_loop()
        self._unconfirmed.append((loop.time() + CONFIRM_SECONDS, confirmed))
        if not self._is_expiry_coming:
            self._is_expiry_coming = True
            loop.call_later(CONFIRM_SECONDS, self._expire)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unconfirmed and self._unconfirmed[0][0] <= loop.time():
            confirmed = self._unconfirmed.popleft()[1]
            if not confirmed.done():
                confirmed.set_exception(BackendTimeoutError("the disk did not confirm in time"))
        self._is_expiry_coming = bool(self._unconfirmed)
        if self._is_expiry_coming:
            loop.call_at(self._unconfirmed[0][0], self._expire)

    def _known(self, queue: str) -> Queue:
        if queue not in self._queues:
            raise BackendUnavailableError(f"queue {queue!r} is not declared")
        return self._queues[queue]


def _drain(waiting: deque[T]) -> list[T]:
    drained: list[T] = []
    while True:
        try:
            drained.append(waiting.popleft())
        except IndexError:
            return drained
