"""One SQLite database: one writer thread that commits many callers' work at once, and a few readers.

A write is a function of a connection. The writer takes everything that waits, runs it in one transaction, and commits
with one fsync (WAL, `synchronous=FULL`) before any caller hears of it. When one function of a batch fails, the batch is
rolled back and each runs again in a transaction of its own, so a function may run twice and must touch nothing but the
connection.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event

from fieldpost.backends.sqlite.translating import translated
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError, FieldpostError, OverloadedError
from fieldpost.observability import get_logger

T = TypeVar("T")

#: Writes that may wait for the writer; each may be a batch of its own.
MAX_WAITING = 50_000
#: Writes in one transaction.
MAX_GROUP = 2_000
READERS = 3
#: Reads that may wait for a reader or be under way.
MAX_READS = 1_000
#: A call that the disk leaves waiting for longer ends with an unknown outcome.
PATIENCE_SECONDS = 30.0
#: A write-ahead log that has become this long, because some reader was always in the way, is brought to its end by force.
MAX_LOG_BYTES = 64 * 2**20
#: How often the writer looks at that: every so many commits.
_GROUPS_BETWEEN_LOOKS = 32
#: How long the writer waits then for readers of the old log to end.
_READERS_END_SECONDS = 1.0
_BUSY_SECONDS = 10.0

log = get_logger()


class _Write(Generic[T]):
    """One caller's function and where its outcome goes."""

    __slots__ = ("error", "function", "future", "loop", "result")

    def __init__(
        self,
        function: Callable[[Connection], T],
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[T]",
    ) -> None:
        self.function = function
        self.loop = loop
        self.future = future
        self.result: Any = None
        self.error: FieldpostError | None = None


class Database:
    """The writer and the readers; `close` waits for what was handed in."""

    def __init__(self, path: Path) -> None:
        self._log_path = path.with_name(f"{path.name}-wal")
        self._max_log_bytes = MAX_LOG_BYTES
        self._groups = 0
        self._writing = _engine(path)
        self._reading = _engine(path, readers=READERS)
        self._reads = 0
        self._waiting: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._thread = threading.Thread(target=self._run, name="sqlite-write", daemon=True)
        self._is_closed = False

    def open(self) -> None:
        """Starts the writer."""
        self._thread.start()

    async def close(self) -> None:
        """Commits what waits, then closes the files."""
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._writing.dispose()
        self._reading.dispose()

    def run_now(self, function: Callable[[Connection], T]) -> T:
        """Runs a function in a transaction of its own before the writer has started: for migrations."""
        with translated(), self._writing.begin() as connection:
            return function(connection)

    async def write(self, function: Callable[[Connection], T], *, needs_replica: bool = True) -> T:  # noqa: ARG002
        """Returns the function's result once its transaction is on disk; errors as for `submit`.

        Cancel: the write still happens.

        Raises:
            BackendTimeoutError: the disk does not answer; the write may still happen.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.submit(function)
        except TimeoutError:
            raise BackendTimeoutError("the disk did not confirm in time") from None

    def submit(self, function: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Hands a write in; the future has its result once its transaction is on disk.

        Raises:
            StorageFullError: the disk is full; nothing was written.
            OverloadedError: too many writes wait already.
            BackendUnavailableError: the database cannot be written; nothing was written.
        """
        if self._is_closed:
            raise BackendUnavailableError("the database is closed")
        if self._waiting.qsize() >= MAX_WAITING:
            raise OverloadedError("too many writes wait for the disk")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Write(function, loop, future))
        return future

    async def read(self, function: Callable[[Connection], T], *, believed: Callable[[T], bool] | None = None) -> T:  # noqa: ARG002
        """Returns the function's result over the latest committed state.

        Raises:
            OverloadedError: too many reads wait already.
            BackendTimeoutError: the disk does not answer.
            BackendUnavailableError: the database cannot be read.
        """
        if self._is_closed:
            raise BackendUnavailableError("the database is closed")
        if self._reads >= MAX_READS:
            raise OverloadedError("too many reads wait for the disk")
        self._reads += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, function)
        except TimeoutError:
            raise BackendTimeoutError("the disk did not answer in time") from None
        finally:
            self._reads -= 1

    def _read(self, function: Callable[[Connection], T]) -> T:
        with translated(), self._reading.connect() as connection:
            return function(connection)

    def _run(self) -> None:
        is_open = True
        while is_open:
            group: list[_Write[Any]] = []
            item = self._waiting.get()
            while item is not None:
                group.append(item)
                if len(group) >= MAX_GROUP or self._waiting.empty():
                    break
                item = self._waiting.get()
            is_open = item is not None
            if group:
                self._commit(group)
                _tell(group)
                self._groups += 1
                if self._groups % _GROUPS_BETWEEN_LOOKS == 0:
                    self._shorten_log()

    def _commit(self, group: list[_Write[Any]]) -> None:
        try:
            self._transaction(group)
        except FieldpostError as error:
            if len(group) == 1:
                group[0].error = error
                return
            for write in group:
                self._commit([write])

    def _transaction(self, group: list[_Write[Any]]) -> None:
        with translated(), self._writing.begin() as connection:
            for write in group:
                write.result = write.function(connection)

    def _shorten_log(self) -> None:
        """SQLite starts its log anew by itself when no reader is in it, which under constant reading may never be."""
        try:
            with translated():
                size_bytes = self._log_path.stat().st_size
                if size_bytes <= self._max_log_bytes:
                    return
                with contextlib.closing(self._writing.raw_connection()) as connection:
                    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
                left_bytes = self._log_path.stat().st_size
        except FieldpostError as error:
            log.warning("log_not_shortened", error=repr(error))
            left_bytes = self._max_log_bytes
        # Where readers did not end in time, the writer has waited enough until as much has come again.
        self._max_log_bytes = left_bytes + MAX_LOG_BYTES


def _tell(group: list[_Write[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write[Any]]] = {}
    for write in group:
        by_loop.setdefault(write.loop, []).append(write)
    for loop, writes in by_loop.items():
        # A loop that has ended has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, writes)


def _settle(writes: list[_Write[Any]]) -> None:
    for write in writes:
        future = write.future
        if future.done():
            continue
        if write.error is not None:
            future.set_exception(write.error)
        else:
            future.set_result(write.result)


def _engine(path: Path, *, readers: int = 0) -> Engine:
    is_writer = not readers
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=readers or 1,
        max_overflow=0,
        connect_args={
            # The one writer waits for nobody but for readers, when it shortens the log.
            "timeout": _READERS_END_SECONDS if is_writer else _BUSY_SECONDS,
            "check_same_thread": False,
            "isolation_level": None,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA cache_size=-16000")
        connection.execute("PRAGMA journal_size_limit=67108864")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine
