"""The processor: per shard, records requests and results, dispatches, reaps, files folder answers.

Leaves words of HTTP to the doors and the models to workers.
"""

import asyncio

from fieldpost.clock import Clock
from fieldpost.observability import Metrics
from fieldpost.policy.settling import answer_name
from fieldpost.ports.backends import Backends
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.filing import Filing
from fieldpost.services.leases import HeldLease
from fieldpost.services.reaping import Reaper
from fieldpost.services.recording import Recording
from fieldpost.services.results import Announcing, Results
from fieldpost.settings import Settings


class Processor:
    """All shards' processing in one instance."""

    name = "processor"

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, metrics: Metrics, instance: str
    ) -> None:
        self._shards = [
            _Shard(settings=settings, backends=backends, clock=clock, metrics=metrics, instance=instance, shard=shard)
            for shard in backends.shards.shards
        ]

    async def run(self) -> None:
        """Processes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for shard in self._shards:
                tasks.create_task(shard.run())

    async def drain(self) -> None:
        """Nothing to finish: what is not acknowledged is delivered again."""


class _Shard:
    """One shard's loops, which fail and restart together."""

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, metrics: Metrics, instance: str, shard: str
    ) -> None:
        lease = HeldLease(
            leases=backends.shared.leases,
            clock=clock,
            name=f"dispatcher.{shard}",
            holder=instance,
            ttl_seconds=settings.dispatch.lease_seconds,
        )
        dispatcher = Dispatcher(settings=settings, backends=backends, clock=clock, shard=shard, lease=lease)
        filing = Filing(backends=backends, clock=clock, shard=shard, answer_name=answer_name)
        announcing = Announcing(settings=settings, backends=backends, filing=filing, metrics=metrics)
        recording = Recording(settings=settings, backends=backends, clock=clock, shard=shard, dispatcher=dispatcher)
        results = Results(
            settings=settings,
            backends=backends,
            clock=clock,
            shard=shard,
            dispatcher=dispatcher,
            announcing=announcing,
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
        self._loops = (recording.run, results.run, dispatcher.run, reaper.run, filing.run)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for loop in self._loops:
                tasks.create_task(loop())
