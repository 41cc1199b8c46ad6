"""From the ledger to the short work queues: at once when there is room, else topped up by priority and fair between devices.

A model without workers fills its own queue and delays nobody else.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import UnavailableError
from fieldpost.messages.requests import Priority, Request
from fieldpost.messages.responses import Job
from fieldpost.observability import get_logger
from fieldpost.ports.backends import Backends
from fieldpost.services.leases import HeldLease
from fieldpost.services.queues import PRIORITIES, work_queue
from fieldpost.services.waiting import within
from fieldpost.settings import Settings

log = get_logger()

_encode = msgspec.msgpack.Encoder().encode
#: A line is what waits for the same workers with the same urgency.
Line = tuple[str, Priority]


class Dispatcher:
    """One shard's dispatcher; the lease decides which instance tops up, every processor dispatches what it records."""

    def __init__(self, *, settings: Settings, backends: Backends, clock: Clock, shard: str, lease: HeldLease) -> None:
        self._settings = settings
        self._broker = backends.broker
        self._dispatch = backends.ledgers[shard].dispatch
        self._clock = clock
        self._lease = lease
        self._lines: Sequence[Line] = [(model, priority) for model in backends.model_names for priority in PRIORITIES]
        shards = len(backends.ledgers)
        #: Of each line what no other shard can take away; together at most half of what a queue takes past `max_work`.
        self._share = 0 if shards == 1 else max(settings.queues.max_work // (2 * shards), 1)
        #: Lines that had more waiting than there was room for.
        self._backlog: set[Line] = set(self._lines)
        self._after_device: defaultdict[Line, int] = defaultdict(int)
        self._wake = asyncio.Event()

    @property
    def models(self) -> Collection[str]:
        """Those whose requests are dispatched."""
        return {model for model, _ in self._lines}

    async def choose(self, requests: Iterable[Request]) -> set[UUID]:
        """Those of the requests, not yet recorded, that can go straight to their work queue."""
        room: dict[Line, int] = {}
        chosen: set[UUID] = set()
        for request in requests:
            line = (request.model, request.priority)
            if line in self._backlog:
                self._wake.set()
                continue
            if line not in room:
                room[line] = await self._room(line)
            if room[line] > 0:
                room[line] -= 1
                chosen.add(request.id)
            else:
                self._backlog.add(line)
        return chosen

    async def publish(self, requests: Iterable[Request]) -> None:
        """Sends recorded requests to their work queues; one that does not get there is found and sent again later."""
        jobs: defaultdict[Line, list[Job]] = defaultdict(list)
        for request in requests:
            jobs[request.model, request.priority].append(Job(request_id=request.id, device_id=request.device_id))
        for line, line_jobs in jobs.items():
            try:
                await self._send(line, line_jobs)
            except UnavailableError as error:
                log.warning("dispatch_failed", model=line[0], priority=line[1].value, error=repr(error))

    def wake(self) -> None:
        """Something may have become due, or room may have become free."""
        # Room matters to lines in which more waits than fitted. Results come often, and looking through all lines for each
        # batch of them would find nothing; what else became due is found at the next interval.
        if self._backlog:
            self._wake.set()

    async def run(self) -> None:
        """Tops up the work queues until cancelled, or looks whether whoever does so has caught up."""
        while True:
            self._wake.clear()
            if await self._lease.is_held():
                for line in self._lines:
                    await self._top_up(line)
            else:
                await self._look_for_waiting()
            await within(self._wake.wait(), self._settings.dispatch.interval_seconds)

    async def find_lost(self) -> None:
        """Marks as waiting what was dispatched and is in no queue: its process died in between.

        Other shards' jobs in the queue hide some of it; that is known by its age, which no job in the queue has unless each
        before it took `lost_after_seconds`. If it is in the queue after all, whoever takes it second gets no claim.
        """
        now = self._clock.now()
        lost_after = timedelta(seconds=self._settings.dispatch.lost_after_seconds)
        for model, priority in self._lines:
            in_queue = await self._broker.depth(work_queue(model, priority))
            lost = await self._dispatch.undispatch(
                model,
                priority,
                in_queue=in_queue,
                dispatched_before=now - lost_after,
                surely_before=now - lost_after * (1 + in_queue),
                limit=self._settings.queues.max_work,
            )
            if lost:
                log.info("lost_dispatches_found", model=model, priority=priority.value, requests=lost)
                self._wake.set()

    async def _top_up(self, line: Line) -> None:
        room = await self._room(line)
        if room <= 0:
            return
        model, priority = line
        now = self._clock.now()
        # Looking costs a primary nothing where there are replicas; where more is known to wait, it would only take time.
        if line not in self._backlog and not await self._dispatch.is_waiting(model, priority, now=now):
            return
        jobs = await self._dispatch.take(model, priority, after_device=self._after_device[line], limit=room, now=now)
        if len(jobs) < room:
            self._backlog.discard(line)
        else:
            self._backlog.add(line)
        if jobs:
            self._after_device[line] = jobs[-1].device_id
            await self._send(line, jobs)

    async def _look_for_waiting(self) -> None:
        """Forgets backlogs that the lease's holder has worked off: what is recorded here goes on without it again."""
        for model, priority in tuple(self._backlog):
            if not await self._dispatch.is_waiting(model, priority, now=self._clock.now()):
                self._backlog.discard((model, priority))

    async def _room(self, line: Line) -> int:
        depth = await self._broker.depth(work_queue(*line))
        room = self._settings.queues.max_work - depth
        if room > 0 or not self._share:
            return room
        # Other shards may keep the queue filled: a little is this one's in any case, as far as the queue takes it.
        own = await self._dispatch.dispatched(*line, limit=self._share)
        return min(self._share - own, 2 * self._settings.queues.max_work - depth)

    async def _send(self, line: Line, jobs: Sequence[Job]) -> None:
        await self._broker.publish(work_queue(*line), [_encode(job) for job in jobs])
