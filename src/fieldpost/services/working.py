"""A worker's lane: takes a model's jobs, claims them in the ledger, attempts them, publishes what came of it.

No claim, no start. A job is acknowledged after its claim, so an attempt may take any time; the claim is renewed while it
does, and an attempt whose claim is gone stops. One stalled attempt takes one place of `worker.concurrency`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import FieldpostError, UnavailableError
from fieldpost.messages.responses import AttemptResult, Job
from fieldpost.observability import Metrics, get_logger
from fieldpost.ports.backends import Backends
from fieldpost.ports.broker import Consumer, Delivery
from fieldpost.ports.ledger import Claim
from fieldpost.services.attempting import Attempting
from fieldpost.services.queues import PRIORITIES, results_queue, work_queue
from fieldpost.settings import Settings

#: A claim is renewed this many times before it would run out.
_RENEWALS = 3
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 5.0

log = get_logger()

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Job).decode


class Lane:
    """One model's jobs in one worker."""

    def __init__(
        self, *, settings: Settings, backends: Backends, clock: Clock, model: str, holder: str, metrics: Metrics
    ) -> None:
        self._settings = settings.worker
        self._drain_seconds = settings.server.drain_seconds
        self._backends = backends
        self._clock = clock
        self._model = model
        self._holder = holder
        self._metrics = metrics
        self._attempting = Attempting(
            bus=backends.shared.bus, clock=clock, timeout_seconds=settings.worker.timeout_seconds
        )
        self._in_hand: dict[UUID, tuple[Claim, asyncio.Task[None]]] = {}
        self._free = asyncio.Semaphore(settings.worker.concurrency)
        self._draining = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def run(self) -> None:
        """Works until cancelled."""
        queues = [work_queue(self._model, priority) for priority in PRIORITIES]
        async with (
            self._backends.broker.consume(queues, prefetch=self._settings.concurrency) as consumer,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._renew())
            while True:
                await self._free.acquire()
                self._free.release()
                await self._take(consumer, tasks)

    async def drain(self) -> None:
        """Takes nothing more; what is in hand is finished, or handed back when that takes too long."""
        self._draining.set()
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._is_idle.wait()
        except TimeoutError:
            await self._hand_back()

    async def _take(self, consumer: Consumer, tasks: asyncio.TaskGroup) -> None:
        if self._draining.is_set():
            await asyncio.Event().wait()
        places = self._settings.concurrency - len(self._in_hand)
        deliveries = await consumer.receive(places)
        if self._draining.is_set():
            await consumer.requeue(deliveries)
            return
        try:
            claims = await self._claim(deliveries)
        except UnavailableError as error:
            log.warning("claim_failed", model=self._model, error=repr(error))
            await consumer.requeue(deliveries)
            await self._clock.sleep(_PAUSE_SECONDS)
            return
        await consumer.ack(deliveries)
        for claim in claims:
            await self._free.acquire()
            self._is_idle.clear()
            task = tasks.create_task(self._work(claim))
            self._in_hand[claim.request.id] = (claim, task)
            task.add_done_callback(partial(self._put_down, claim.request.id))

    async def _claim(self, deliveries: Sequence[Delivery]) -> list[Claim]:
        by_shard: defaultdict[str, list[UUID]] = defaultdict(list)
        for delivery in deliveries:
            job = _decode(delivery.body)
            by_shard[self._backends.shards.shard_of(job.device_id)].append(job.request_id)
        now = self._clock.now()
        until = now + timedelta(seconds=self._settings.claim_seconds)
        claims: list[Claim] = []
        for shard, request_ids in by_shard.items():
            ledger = self._backends.ledgers[shard]
            claims += await ledger.claims.claim(request_ids, holder=self._holder, now=now, until=until)
        return claims

    async def _work(self, claim: Claim) -> None:
        result = await self._attempting.attempt(claim, self._backends.models[self._model])
        self._metrics.attempts.labels(self._model, "answered" if result.error is None else "failed").inc()
        await self._report(result)

    async def _report(self, result: AttemptResult) -> None:
        """Tries until the broker has it; if the claim is lost meanwhile, this is cancelled like the attempt."""
        queue = results_queue(self._backends.shards.shard_of(result.device_id))
        pause_seconds = _PAUSE_SECONDS
        while True:
            try:
                await self._backends.broker.publish(queue, [_encode(result)])
            except UnavailableError as error:
                log.warning("report_failed", request_id=str(result.request_id), error=repr(error))
                await self._clock.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
            else:
                return

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._settings.claim_seconds / _RENEWALS)
            for shard, attempts in self._by_shard().items():
                now = self._clock.now()
                until = now + timedelta(seconds=self._settings.claim_seconds)
                try:
                    held = await self._backends.ledgers[shard].claims.renew(attempts, now=now, until=until)
                except UnavailableError as error:
                    log.warning("renewal_failed", model=self._model, error=repr(error))
                    continue
                self._stop(set(attempts) - set(held))

    def stop(self, request_id: UUID) -> None:
        """Stops an attempt that nobody waits for any more: its request was cancelled."""
        if request_id in self._in_hand:
            self._stop({request_id})

    async def _hand_back(self) -> None:
        for shard, attempts in self._by_shard().items():
            self._stop(set(attempts))
            try:
                await self._backends.ledgers[shard].claims.release(attempts, now=self._clock.now())
            except FieldpostError as error:
                log.warning("release_failed", model=self._model, error=repr(error))

    def _by_shard(self) -> dict[str, dict[UUID, int]]:
        attempts: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
        for request_id, (claim, _) in self._in_hand.items():
            attempts[self._backends.shards.shard_of(claim.request.device_id)][request_id] = claim.attempt
        return attempts

    def _stop(self, request_ids: set[UUID]) -> None:
        for request_id in request_ids:
            held = self._in_hand.get(request_id)
            if held is not None:
                log.info("attempt_stopped", request_id=str(request_id), attempt=held[0].attempt)
                held[1].cancel()

    def _put_down(self, request_id: UUID, _task: asyncio.Task[None]) -> None:
        self._in_hand.pop(request_id, None)
        self._free.release()
        if not self._in_hand:
            self._is_idle.set()
