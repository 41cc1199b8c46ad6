"""How files that were taken leave `Requests/`: when the ledger has their request, and knows of the answer they want."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from fieldpost.errors import FieldpostError, IdempotencyConflictError, UnavailableError
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.folders import Drop
from fieldpost.ports.ledger_values import Standing
from fieldpost.roles.watcher.lanes import in_lanes
from fieldpost.roles.watcher.retries import Retries

log = get_logger()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What the intake made of a file."""

    request_id: UUID
    #: None when the door knew the request already.
    accepted_at: datetime | None
    #: None when no other request can have this id.
    body_hash: bytes | None

    def is_told_by(self, standing: Standing, name: str) -> bool:
        """Whether the ledger's own request brings its answer to a file of this name."""
        is_coming = not standing.is_acknowledged or standing.accepted_at == self.accepted_at
        return standing.file_name == name and is_coming

    def contradicts(self, standing: Standing) -> bool:
        """Whether the ledger has another request under this id."""
        return self.body_hash is not None and self.body_hash != standing.body_hash


class Leaving:
    """Files in hand: taken, and not yet seen in the ledger."""

    def __init__(
        self, *, backends: Backends, retries: Retries, reject: Callable[[Drop, FieldpostError], Awaitable[None]]
    ) -> None:
        self._backends = backends
        self._folders = backends.folders
        self._retries = retries
        self._reject = reject
        self._in_hand: dict[Drop, Taken] = {}
        #: Ledgers that are away, so that it is told once.
        self._away: set[str] = set()

    def __len__(self) -> int:
        return len(self._in_hand)

    def __contains__(self, drop: Drop) -> bool:
        return drop in self._in_hand

    def add(self, drop: Drop, taken: Taken) -> None:
        """Takes a file in hand."""
        self._in_hand[drop] = taken

    async def move_recorded(self) -> int:
        """Moves the files whose requests the ledger has; returns how many."""
        by_shard: defaultdict[str, list[Drop]] = defaultdict(list)
        for drop in self._in_hand:
            by_shard[self._backends.shards.shard_of(drop.device_id)].append(drop)
        moved = 0
        for shard, drops in by_shard.items():
            try:
                moved += await self._move_recorded_of(shard, drops)
            except UnavailableError as error:
                if shard not in self._away:
                    log.warning("watcher_waits", backend=f"ledger.{shard}", error=repr(error))
                self._away.add(shard)
            else:
                self._away.discard(shard)
        return moved

    async def _move_recorded_of(self, shard: str, drops: Sequence[Drop]) -> int:
        records = self._backends.ledgers[shard].records
        standings = await records.standings([self._in_hand[drop].request_id for drop in drops])
        moving = [drop for drop in drops if self._in_hand[drop].request_id in standings]
        await in_lanes(moving, lambda drop: self._move(drop, standings[self._in_hand[drop].request_id]))
        return len(moving)

    async def _move(self, drop: Drop, standing: Standing) -> None:
        # One that changed in between stays, and is taken as a new one; one that cannot be moved does not stop the others.
        taken = self._in_hand.pop(drop)
        try:
            if taken.contradicts(standing):
                reason = "the first request under this key stands"
                await self._reject(drop, IdempotencyConflictError(reason, request_id=str(taken.request_id)))
            else:
                if not taken.is_told_by(standing, drop.name):
                    waiting_files = self._backends.ledger_of(drop.device_id).waiting_files
                    await waiting_files.add(taken.request_id, drop.device_id, drop.name)
                await self._folders.done(drop)
        except UnavailableError as error:
            self._retries.later(drop, error)
        else:
            self._retries.forget(drop)
