"""One SQLite database: one writer thread that commits many callers' work at once, and a few readers.

A write is a function of a connection. The writer takes everything that waits, runs it in one transaction, and commits
with one fsync (WAL, `synchronous=FULL`) before any caller hears of it. When one function of a batch fails, the batch is
rolled back and each runs again in a transaction of its own, so a function may run twice and must touch nothing but the
connection.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError

from fieldpost.errors import (
    BackendUnavailableError,
    CorruptDataError,
    FieldpostError,
    OverloadedError,
    StorageFullError,
)

T = TypeVar("T")

#: Writes that may wait for the writer; each may be a batch of its own.
MAX_WAITING = 50_000
#: Writes in one transaction.
MAX_GROUP = 2_000
READERS = 3
_BUSY_SECONDS = 10.0


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
        self._writing = _engine(path, pool_size=1)
        self._reading = _engine(path, pool_size=READERS)
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
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()

    def run_now(self, function: Callable[[Connection], T]) -> T:
        """Runs a function in a transaction of its own before the writer has started: for migrations."""
        with _translated(), self._writing.begin() as connection:
            return function(connection)

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Returns the function's result once its transaction is on disk; errors as for `submit`.

        Cancel: the write still happens.
        """
        return await self.submit(function)

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

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Returns the function's result over the latest committed state."""
        if self._is_closed:
            raise BackendUnavailableError("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, function)

    def _read(self, function: Callable[[Connection], T]) -> T:
        with _translated(), self._reading.connect() as connection:
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
        with _translated(), self._writing.begin() as connection:
            for write in group:
                write.result = write.function(connection)


class _translated:  # noqa: N801
    """Lets no vendor exception out."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, FieldpostError) or not isinstance(error, Exception):
            return
        raise _translate(error) from error


def _translate(error: Exception) -> FieldpostError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = str(cause)
    if isinstance(cause, OSError) and cause.errno == 28:
        return StorageFullError(text)
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", "")
        # SQLite says FULL for a failed write, and an I/O error when growing the shared-memory file or a sync failed.
        if name == "SQLITE_FULL" or name in {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_FSYNC"}:
            return StorageFullError(text)
        if name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"}:
            return CorruptDataError(text)
    if isinstance(error, DatabaseError | sqlite3.Error | OSError):
        return BackendUnavailableError(text)
    return CorruptDataError(f"{type(error).__name__}: {text}")


def _tell(group: list[_Write[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write[Any]]] = {}
    for write in group:
        by_loop.setdefault(write.loop, []).append(write)
    for loop, writes in by_loop.items():
        if not loop.is_closed():
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


def _engine(path: Path, *, pool_size: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
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
        connection.exec_driver_sql("BEGIN IMMEDIATE" if pool_size == 1 else "BEGIN")

    return engine
