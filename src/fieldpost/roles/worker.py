"""The AI worker: a lane per model, each with as many requests in hand as `worker.concurrency` allows."""

import asyncio

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.messages.events import FLEET_CHANNEL, StateChanged
from fieldpost.messages.requests import RequestState
from fieldpost.observability import Metrics, get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.models import Library
from fieldpost.services.working import Lane
from fieldpost.settings import Settings

log = get_logger()


class Worker:
    """Lanes for all models, and the documents' upkeep."""

    name = "worker"

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, metrics: Metrics, instance: str
    ) -> None:
        self._settings = settings
        self._backends = backends
        self._clock = clock
        self._lanes = [
            Lane(settings=settings, backends=backends, clock=clock, model=model, holder=instance, metrics=metrics)
            for model in backends.models
        ]

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.run())
            tasks.create_task(self._hear_cancellations())
            if self._backends.library is not None:
                tasks.create_task(self._refresh(self._backends.library))

    async def drain(self) -> None:
        """Finishes what is in hand, or hands it back."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.drain())

    async def _hear_cancellations(self) -> None:
        async with self._backends.shared.bus.subscribe([FLEET_CHANNEL]) as subscription:
            while True:
                for event in await subscription.receive():
                    if isinstance(event, StateChanged) and event.status is RequestState.CANCELLED:
                        for lane in self._lanes:
                            lane.stop(event.request_id)

    async def _refresh(self, library: Library) -> None:
        while True:
            try:
                changed = await library.refresh()
            except UnavailableError as error:
                # No reason to let go of what is in hand.
                log.warning("library_not_refreshed", error=repr(error))
            else:
                if changed:
                    log.info("library_refreshed", documents=changed)
            await self._clock.sleep(self._settings.library.scan_seconds)
