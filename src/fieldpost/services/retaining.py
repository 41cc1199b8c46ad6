"""Removing what one shard's ledger has kept long enough, in small batches that hold up nobody."""

from datetime import timedelta

from fieldpost.clock import Clock
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.leases import HeldLease
from fieldpost.settings import Settings

#: Rows of one transaction, and the pause after it.
_BATCH = 500
_PAUSE_SECONDS = 0.1

log = get_logger()


class Retaining:
    """One shard's; works while it holds the dispatcher's lease."""

    def __init__(self, *, settings: Settings, backends: Backends, clock: Clock, shard: str, lease: HeldLease) -> None:
        self._settings = settings.retention
        self._records = backends.ledgers[shard].records
        self._clock = clock
        self._shard = shard
        self._lease = lease

    async def run(self) -> None:
        """Looks now and then for what is old enough, until cancelled."""
        while True:
            removed = 0
            while await self._lease.is_held():
                batch = await self.remove_some()
                removed += batch
                if batch < _BATCH:
                    break
                await self._clock.sleep(_PAUSE_SECONDS)
            if removed:
                log.info("old_requests_removed", shard=self._shard, rows=removed)
            await self._clock.sleep(self._settings.interval_seconds)

    async def remove_some(self) -> int:
        """Removes one batch; fewer than a full one means that no more is old enough."""
        now = self._clock.now()
        return await self._records.purge(
            acknowledged_before=now - timedelta(days=self._settings.delivered_days),
            undelivered_before=now - timedelta(days=self._settings.undelivered_days),
            limit=_BATCH,
        )
