"""Sweeping the ledger: deadlines that passed, claims that ran out, dispatches that were lost."""

from fieldpost.clock import Clock
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.endings import EXPIRED, too_many_deaths
from fieldpost.services.leases import HeldLease
from fieldpost.services.results import Announcing
from fieldpost.settings import Settings

#: Requests one sweep changes at most, of each sort.
_LIMIT = 500

log = get_logger()


class Reaper:
    """One shard's reaper; works while it holds the dispatcher's lease."""

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        shard: str,
        lease: HeldLease,
        dispatcher: Dispatcher,
        announcing: Announcing,
    ) -> None:
        self._settings = settings
        self._dispatch = backends.ledgers[shard].dispatch
        self._clock = clock
        self._lease = lease
        self._dispatcher = dispatcher
        self._announcing = announcing

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            is_more = False
            if await self._lease.is_held():
                is_more = await self.sweep()
                await self._dispatcher.find_lost()
            if not is_more:
                await self._clock.sleep(self._settings.dispatch.reap_interval_seconds)

    async def sweep(self) -> bool:
        """One sweep; True when there may be more to do at once."""
        max_deaths = self._settings.worker.max_deaths
        reaped = await self._dispatch.reap(
            max_deaths=max_deaths,
            too_many_deaths=too_many_deaths(max_deaths),
            expired=EXPIRED,
            now=self._clock.now(),
            limit=_LIMIT,
        )
        if reaped.requeued:
            log.warning("claims_ran_out", requests=len(reaped.requeued))
            self._dispatcher.wake()
        await self._announcing.announce(reaped.finished)
        return max(len(reaped.requeued), len(reaped.finished)) >= _LIMIT
