"""Where each call of a shard's ledger runs: writes on the primary, reads on replicas where their results are believed."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from fieldpost.backends.postgresql.agents import Judge
from fieldpost.backends.postgresql.confirming import Confirming
from fieldpost.backends.postgresql.guard import guarded_read, guarded_write
from fieldpost.backends.postgresql.node import Node
from fieldpost.backends.postgresql.replicas import READ_SECONDS, Replicas
from fieldpost.errors import UnavailableError
from fieldpost.ports.ledger_values import Reads

T = TypeVar("T")

#: A call that takes longer ends: a read without, a write perhaps without effect.
PATIENCE_SECONDS = 10.0


class PostgresExecutor:
    """See `relational.rows.Executor`."""

    def __init__(
        self,
        primary: Node,
        *,
        replicas: Replicas,
        judge: Judge,
        confirming: Confirming,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._primary = primary
        self._patience_seconds = patience_seconds
        self._replicas = replicas
        self._judge = judge
        self._confirming = confirming
        self.reads = Reads()

    async def write(self, function: Callable[[Connection], T], *, needs_replica: bool = True) -> T:
        """See the protocol; errors as for `Node.run`."""
        guarded = guarded_write(
            function,
            timeline=self._judge.timeline(),
            is_confirmed=needs_replica and self._confirming.is_asked,
            must_have_replica=needs_replica and self._confirming.must_have_replica,
        )
        return await self._primary.run(guarded, seconds=self._patience_seconds, is_write=True)

    async def read(self, function: Callable[[Connection], T], *, believed: Callable[[T], bool] | None = None) -> T:
        """See the protocol; errors as for `Node.run`."""
        replica = None if believed is None else self._replicas.choose()
        if replica is not None and believed is not None:
            try:
                result = await replica.node.run(function, seconds=READ_SECONDS, is_write=False)
            except UnavailableError as error:
                self._replicas.leave_out(replica, repr(error))
            else:
                if believed(result):
                    self.reads.replica += 1
                    return result
        self.reads.primary += 1
        return await self.ask_primary(function)

    async def ask_primary(self, function: Callable[[Connection], T]) -> T:
        """A read that is not counted."""
        guarded = guarded_read(function, timeline=self._judge.timeline())
        return await self._primary.run(guarded, seconds=self._patience_seconds, is_write=False)
