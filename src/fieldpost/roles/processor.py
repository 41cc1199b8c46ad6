"""The processor: per shard, records requests and results, dispatches, reaps, files folder answers.

Leaves words of HTTP to the doors and the models to workers.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.observability import Metrics, get_logger
from fieldpost.policy.settling import answer_name
from fieldpost.ports.backends import Backends
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.filing import Filing
from fieldpost.services.leases import HeldLease
from fieldpost.services.missing import MissingModels
from fieldpost.services.reaping import Reaper
from fieldpost.services.recording import Recording
from fieldpost.services.results import Announcing, Results
from fieldpost.services.retaining import Retaining
from fieldpost.services.troubles import Troubles
from fieldpost.services.waiting import keep_going, within
from fieldpost.settings import Settings

#: Giving up the lease takes no longer; it runs out by itself.
_RELEASE_SECONDS = 1.0

log = get_logger()


class Processor:
    """All shards' processing in one instance."""

    name = "processor"

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        metrics: Metrics,
        instance: str,
        troubles: Troubles | None = None,
    ) -> None:
        self._shards = [
            _Shard(
                settings=settings,
                backends=backends,
                clock=clock,
                metrics=metrics,
                instance=instance,
                shard=shard,
                troubles=troubles or Troubles(clock),
            )
            for shard in backends.shards.shards
        ]

    def degraded(self) -> Sequence[str]:
        """What waits, and will not be done as things are."""
        waiting: Counter[str] = Counter()
        for shard in self._shards:
            waiting.update(shard.missing.waiting)
        return [f"model {model} is not in the settings, requests wait for it: {n}" for model, n in waiting.items()]

    async def run(self) -> None:
        """Processes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for shard in self._shards:
                tasks.create_task(shard.run())


class _Shard:
    """One shard's loops: one whose engine is away pauses alone, while the others, and all other shards, go on.

    What is not acknowledged when they end is delivered again.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        backends: Backends,
        clock: Clock,
        metrics: Metrics,
        instance: str,
        shard: str,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._clock = clock
        self._shard = shard
        self._lease = lease = HeldLease(
            leases=backends.shared.leases,
            clock=clock,
            name=f"dispatcher.{shard}",
            holder=instance,
            ttl_seconds=settings.dispatch.lease_seconds,
        )
        dispatcher = Dispatcher(settings=settings, backends=backends, clock=clock, shard=shard, lease=lease)
        filing = Filing(backends=backends, clock=clock, shard=shard, answer_name=answer_name)
        announcing = Announcing(settings=settings, backends=backends, filing=filing, metrics=metrics)
        recording = Recording(
            settings=settings,
            backends=backends,
            clock=clock,
            shard=shard,
            dispatcher=dispatcher,
            troubles=troubles,
        )
        results = Results(
            settings=settings,
            backends=backends,
            clock=clock,
            shard=shard,
            dispatcher=dispatcher,
            announcing=announcing,
            troubles=troubles,
        )
        reaper = Reaper(
            settings=settings,
            backends=backends,
            clock=clock,
            shard=shard,
            lease=lease,
            dispatcher=dispatcher,
            announcing=announcing,
        )
        self.missing = MissingModels(
            dispatch=backends.ledgers[shard].dispatch, clock=clock, shard=shard, models=dispatcher.models
        )
        retaining = Retaining(settings=settings, backends=backends, clock=clock, shard=shard, lease=lease)
        self._loops = {
            "recording": recording.run,
            "results": results.run,
            "dispatching": dispatcher.run,
            "reaping": reaper.run,
            "filing": filing.run,
            "retaining": retaining.run,
            "missing": self.missing.run,
        }

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, loop in self._loops.items():
                    tasks.create_task(
                        keep_going(loop, clock=self._clock, loop=f"{name}.{self._shard}", troubles=self._troubles)
                    )
        finally:
            await self._release()

    async def _release(self) -> None:
        try:
            await within(self._lease.release(), _RELEASE_SECONDS)
        except UnavailableError as error:
            log.warning("lease_not_released", shard=self._shard, error=repr(error))
