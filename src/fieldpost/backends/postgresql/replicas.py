"""Replicas that are close enough behind the primary to be read.

Lag is measured by positions in the log, never by the time of the last replayed transaction, which stands still when
nothing is written: what the primary had written is to be replayed `lag_seconds` later.
"""

import asyncio
import itertools
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, text

from fieldpost.backends.postgresql.node import Node
from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError
from fieldpost.observability import get_logger

#: A replica that does not answer in this time is not read.
READ_SECONDS = 2.0

_WRITTEN = text("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
_REPLAYED = text("SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::bigint END")

log = get_logger()


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a replica stands."""

    place: str
    is_read: bool
    #: For how long it has been behind, at least; None when it could not be asked.
    lag_seconds: float | None


class Replica:
    """One of them."""

    def __init__(self, node: Node) -> None:
        self.node = node
        #: Until it has been seen to keep up.
        self.is_close = False
        self.lag_seconds: float | None = None
        self._close_at = 0.0

    def close_at(self, now_seconds: float) -> None:
        """It had then what the primary had."""
        self._close_at, self.lag_seconds = now_seconds, 0.0

    def behind_at(self, now_seconds: float) -> None:
        """It had not."""
        self.lag_seconds = now_seconds - self._close_at if self._close_at else None


class Replicas:
    """Those of one shard, in turn."""

    def __init__(self, nodes: Sequence[Node], *, shard: str, lag_seconds: float, clock: Clock) -> None:
        self._replicas = [Replica(node) for node in nodes]
        self._turns = itertools.count()
        self._shard = shard
        self._lag_seconds = lag_seconds
        self._clock = clock

    def choose(self) -> Replica | None:
        """The next one that may be read, or None."""
        close = [replica for replica in self._replicas if replica.is_close]
        return close[next(self._turns) % len(close)] if close else None

    def status(self) -> Sequence[ReplicaStatus]:
        """How each stands."""
        return [
            ReplicaStatus(place=replica.node.place, is_read=replica.is_close, lag_seconds=replica.lag_seconds)
            for replica in self._replicas
        ]

    async def measure(self, written: int) -> None:
        """Looks who has replayed, within the lag that is allowed, what the primary has `written` by now."""
        asked_at = self._clock.monotonic()
        await self._clock.sleep(self._lag_seconds)
        await asyncio.gather(*(self._measure(replica, written, asked_at) for replica in self._replicas))

    def leave_out(self, replica: Replica, reason: str) -> None:
        """It is not read until it has been measured again."""
        if replica.is_close:
            log.warning("replica_out", shard=self._shard, replica=replica.node.place, reason=reason)
        replica.is_close = False

    async def _measure(self, replica: Replica, written: int, asked_at: float) -> None:
        try:
            replayed = await replica.node.run(_replayed, seconds=READ_SECONDS / 2, is_write=False)
        except FieldpostError as error:
            replica.lag_seconds = None
            self.leave_out(replica, repr(error))
            return
        if replayed is None:
            self.leave_out(replica, "it is a primary")
        elif replayed < written:
            replica.behind_at(self._clock.monotonic())
            self.leave_out(replica, "it is behind")
        else:
            replica.close_at(asked_at)
            if not replica.is_close:
                log.info("replica_in", shard=self._shard, replica=replica.node.place)
            replica.is_close = True


def written(connection: Connection) -> int:
    """The primary's position in its log."""
    position: int = connection.execute(_WRITTEN).scalar_one()
    return position


def _replayed(connection: Connection) -> int | None:
    position: int | None = connection.execute(_REPLAYED).scalar_one()
    return position
