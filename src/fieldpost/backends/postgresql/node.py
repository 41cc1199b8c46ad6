"""One server's transactions: each ends within its time, and says whether it was committed, was not, or may have been."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from fieldpost.backends.postgresql.connecting import Session, make_engine
from fieldpost.backends.postgresql.translating import is_repeatable, translate
from fieldpost.errors import BackendTimeoutError, BackendUnavailableError

T = TypeVar("T")

#: Deadlocks, and connections that died in the pool, are tried again so often.
_ATTEMPTS = 4


class Node:
    """A server, or the PgBouncer in front of it."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self.url = url
        self._engine = make_engine(url, pool_size=pool_size)

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def run(self, function: Callable[[Connection], T], *, seconds: float, is_write: bool) -> T:
        """The function's result, for a write once it is committed. The function may run more than once.

        Raises:
            BackendUnavailableError: nothing was written.
            BackendTimeoutError: the commit was sent and not confirmed, by the server or by its replicas.
            StorageFullError: the disk is full; nothing was written.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        for attempt in range(1, _ATTEMPTS + 1):
            transaction = _Transaction(deadline)
            try:
                return await transaction.run(self._engine.connect(), function, is_write=is_write)
            except Exception as error:
                if attempt < _ATTEMPTS and is_repeatable(error) and not transaction.is_over:
                    continue
                raise transaction.explain(error) from error
        raise AssertionError("the last attempt returns or raises")


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
        session.is_unconfirmed = False
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
        if session.is_unconfirmed:
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
