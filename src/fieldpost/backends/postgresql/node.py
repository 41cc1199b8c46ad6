"""One server's transactions: each ends within its time, and says whether it was committed, was not, or may have been."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from fieldpost.backends.postgresql.connecting import Session, make_engine, place
from fieldpost.backends.postgresql.translating import is_repeatable, sqlstate, translate
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError, OverloadedError
from fieldpost.observability import get_logger

T = TypeVar("T")

#: Calls that may wait for a connection or have one.
MAX_CALLS = 2_000
#: Deadlocks, and connections that died in the pool, are tried again so often.
_ATTEMPTS = 4

log = get_logger()


class Node:
    """A server, or the PgBouncer in front of it."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self._engine = make_engine(url, pool_size=pool_size)
        #: What a log calls it.
        self.place = place(url)
        # Whoever waits longest is next: at the pool itself, whoever has just given a connection back takes it again.
        self._turns = asyncio.Semaphore(pool_size)
        self._calls = 0

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def run(self, function: Callable[[Connection], T], *, seconds: float, is_write: bool) -> T:
        """The function's result, for a write once it is committed. The function may run more than once.

        Raises:
            BackendUnavailableError: nothing was written.
            BackendTimeoutError: the commit was sent and not confirmed, by the server or by its replicas.
            StorageFullError: the disk is full; nothing was written.
            OverloadedError: too many wait for a connection; nothing was written.
        """
        if self._calls >= MAX_CALLS:
            raise OverloadedError("too many calls wait for the database")
        self._calls += 1
        try:
            return await self._run(function, seconds=seconds, is_write=is_write)
        finally:
            self._calls -= 1

    async def _run(self, function: Callable[[Connection], T], *, seconds: float, is_write: bool) -> T:
        deadline = asyncio.get_running_loop().time() + seconds
        for attempt in range(1, _ATTEMPTS + 1):
            transaction = _Transaction(deadline)
            try:
                async with self._turn(deadline):
                    return await transaction.run(self._engine.connect(), function, is_write=is_write)
            except Exception as error:
                if attempt < _ATTEMPTS and is_repeatable(error) and not transaction.is_over:
                    log.info("transaction_repeated", attempt=attempt, code=sqlstate(error))
                    continue
                explained = transaction.explain(error)
                if explained is error:
                    raise
                raise explained from error
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise BackendUnavailableError("no connection to the database was free in time") from None
        try:
            yield
        finally:
            self._turns.release()


class _Transaction:
    """One attempt. At its deadline the connection is cut: no answer is waited for, and none is asked to be cancelled."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._is_late = False
        self._is_committing = False

    @property
    def is_over(self) -> bool:
        """Whether it must not be tried again: there is no time, or it may have been committed."""
        return self._is_late or self._is_committing

    def explain(self, error: Exception) -> Exception:
        """The error to raise."""
        if self._is_late and not self._is_committing:
            return BackendUnavailableError("the database did not answer in time")
        return translate(error, is_committing=self._is_committing)

    async def run(self, connecting: AsyncConnection, function: Callable[[Connection], T], *, is_write: bool) -> T:
        """The function's result, once it is committed."""
        try:
            async with asyncio.timeout_at(self._deadline):
                connection = await connecting.start()
        except TimeoutError:
            raise BackendUnavailableError("the database took no connection in time") from None
        session = await _session(connection)
        watch = asyncio.get_running_loop().call_at(self._deadline, self._cut, session)
        try:
            # Within the watch: the connection's way back to the pool is waited for too.
            async with aclosing(connection):
                result = await connection.run_sync(function)
                if is_write:
                    self._is_committing = True
                    await self._commit(connection, session)
                return result
        finally:
            watch.cancel()

    def _cut(self, session: Session) -> None:
        self._is_late = True
        session.terminate()

    async def _commit(self, connection: AsyncConnection, session: Session) -> None:
        session.has_warned = False
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_outcome(connection))
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                # Before asyncpg hears of it and asks the server to cancel the wait for a replica.
                session.terminate()
                raise
        error = task.result()
        if error is not None:
            raise error
        if session.has_warned:
            raise BackendTimeoutError("the commit is on this server alone: it gave up waiting for a replica")


async def _outcome(connection: AsyncConnection) -> Exception | None:
    try:
        await connection.commit()
    except Exception as error:  # noqa: BLE001
        return error
    return None


async def _session(connection: AsyncConnection) -> Session:
    raw = await connection.get_raw_connection()
    session = raw.driver_connection
    assert isinstance(session, Session)
    return session
