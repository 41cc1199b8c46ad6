"""A worker's lane: takes a model's jobs, claims them in the ledger, attempts them, publishes what came of it.

No claim, no start. A job is acknowledged after its claim, so an attempt may take any time; the claim is renewed while it
does, and an attempt whose claim is gone stops. One stalled attempt takes one place of `worker.concurrency`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import CorruptDataError, FieldpostError, UnavailableError
from fieldpost.messages.responses import AttemptResult, Job
from fieldpost.observability import Metrics, get_logger, handling
from fieldpost.ports.backends import Backends
from fieldpost.ports.broker import Consumer, Delivery
from fieldpost.ports.ledger_values import Claim
from fieldpost.services.attempting import Attempting
from fieldpost.services.failures import Failures
from fieldpost.services.queues import PRIORITIES, results_queue, work_queue
from fieldpost.settings import Settings

#: A claim is renewed this many times before it would run out.
_RENEWALS = 3
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 5.0

log = get_logger()

#: A request and the number of its attempt: two attempts of one request may meet here when a claim ran out.
Attempt = tuple[UUID, int]

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
        self._failures = Failures(clock=clock, model=model)
        self._attempting = Attempting(
            bus=backends.shared.bus,
            clock=clock,
            failures=self._failures,
            timeout_seconds=settings.worker.timeout_seconds,
        )
        self._in_hand: dict[Attempt, tuple[Claim, asyncio.Task[None]]] = {}
        self._free = asyncio.Semaphore(settings.worker.concurrency)
        self._draining = asyncio.Event()
        #: Whether a drain still waits for attempts to finish.
        self._is_waited_for = False
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
            tasks.create_task(self._failures.run())
            while True:
                await self._free.acquire()
                self._free.release()
                await self._take(consumer, tasks)

    async def drain(self) -> None:
        """Takes nothing more; what is in hand is finished, or handed back when that takes too long."""
        self._draining.set()
        self._is_waited_for = True
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._is_idle.wait()
        except TimeoutError:
            self._is_waited_for = False
            await self._hand_back()

    async def _take(self, consumer: Consumer, tasks: asyncio.TaskGroup) -> None:
        if self._draining.is_set():
            await asyncio.Event().wait()
        places = self._settings.concurrency - len(self._in_hand)
        try:
            deliveries = await consumer.receive(places)
        except UnavailableError as error:
            log.warning("receive_failed", model=self._model, error=repr(error))
            await self._clock.sleep(_PAUSE_SECONDS)
            return
        if self._draining.is_set():
            await consumer.requeue(deliveries)
            return
        # From here on until the claims are in hand or given up, there is something to wait for.
        self._is_idle.clear()
        claims, left = await self._claim(deliveries)
        await consumer.ack([delivery for delivery in deliveries if delivery not in left])
        await consumer.requeue(left)
        for claim in claims:
            await self._begin(claim, tasks)
        if self._draining.is_set() and not self._is_waited_for:
            await self._hand_back()
        self._note_idle()
        if left:
            await self._clock.sleep(_PAUSE_SECONDS)

    async def _begin(self, claim: Claim, tasks: asyncio.TaskGroup) -> None:
        """Starts an attempt; an older one of the same request lost its claim and stops."""
        request_id = claim.request.id
        self._stop({attempt for attempt in self._in_hand if attempt[0] == request_id})
        await self._free.acquire()
        task = tasks.create_task(self._work(claim))
        self._in_hand[request_id, claim.attempt] = (claim, task)
        task.add_done_callback(partial(self._put_down, (request_id, claim.attempt)))

    async def _claim(self, deliveries: Sequence[Delivery]) -> tuple[list[Claim], list[Delivery]]:
        """Claims for the jobs, and the jobs of shards that are away."""
        claims: list[Claim] = []
        left: list[Delivery] = []
        for shard, jobs in (await self._jobs(deliveries)).items():
            try:
                claims += await self._claim_of_shard(shard, jobs)
            except UnavailableError as error:
                log.warning("claim_failed", model=self._model, shard=shard, error=repr(error))
                left += jobs.values()
        return claims, left

    async def _jobs(self, deliveries: Sequence[Delivery]) -> Mapping[str, Mapping[UUID, Delivery]]:
        by_shard: defaultdict[str, dict[UUID, Delivery]] = defaultdict(dict)
        for delivery in deliveries:
            try:
                job = _decode(delivery.body)
            except msgspec.MsgspecError as error:
                # Nobody can tell whose it is; the request itself is in its ledger, and is dispatched again from there.
                log.error("job_unreadable", queue=delivery.queue, error=repr(error))
                continue
            by_shard[self._backends.shards.shard_of(job.device_id)][job.request_id] = delivery
        return by_shard

    async def _claim_of_shard(self, shard: str, jobs: Mapping[UUID, Delivery]) -> Sequence[Claim]:
        try:
            return await self._claim_some(shard, list(jobs))
        except CorruptDataError:
            return await self._claim_one_by_one(shard, jobs)

    async def _claim_some(self, shard: str, request_ids: Sequence[UUID]) -> Sequence[Claim]:
        now = self._clock.now()
        until = now + timedelta(seconds=self._settings.claim_seconds)
        return await self._backends.ledgers[shard].claims.claim(request_ids, holder=self._holder, now=now, until=until)

    async def _claim_one_by_one(self, shard: str, jobs: Mapping[UUID, Delivery]) -> Sequence[Claim]:
        """So that only the request that cannot be read goes unanswered: a person has to look, and the log says so again."""
        claims: list[Claim] = []
        for request_id in jobs:
            try:
                claims += await self._claim_some(shard, [request_id])
            except CorruptDataError as error:
                log.error("request_unreadable", request_id=str(request_id), error=repr(error))
        return claims

    async def _work(self, claim: Claim) -> None:
        request = claim.request
        with handling(request.id, request.traceparent, claim.attempt):
            log.debug("attempt_claimed", model=self._model)
            result = await self._attempt(claim)
            log.debug("attempt_ended", model=self._model, is_answered=result.error is None)
            self._metrics.attempts.labels(self._model, "answered" if result.error is None else "failed").inc()
            await self._report(result)

    async def _attempt(self, claim: Claim) -> AttemptResult:
        request, tracer = claim.request, self._backends.tracer
        if claim.attempt == 1:
            with tracer.span("dispatch-wait", request.traceparent, started_at=request.accepted_at, model=self._model):
                pass
        with tracer.span("attempt", request.traceparent, model=self._model, attempt=claim.attempt) as traceparent:
            model = self._backends.models[request.model]
            return await self._attempting.attempt(claim, model, traceparent=traceparent)

    async def _report(self, result: AttemptResult) -> None:
        """Tries until the broker has it; if the claim is lost meanwhile, this is cancelled like the attempt."""
        queue = results_queue(self._backends.shards.shard_of(result.device_id))
        pause_seconds = _PAUSE_SECONDS
        while True:
            try:
                await self._backends.broker.publish(queue, [_encode(result)])
            except UnavailableError as error:
                log.warning("report_failed", error=repr(error))
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
                self._stop({attempt for attempt in attempts.items() if attempt[0] not in held})

    def stop(self, request_id: UUID) -> None:
        """Stops what is done for a request that nobody waits for any more: it was cancelled."""
        self._stop({attempt for attempt in self._in_hand if attempt[0] == request_id})

    async def _hand_back(self) -> None:
        for shard, attempts in self._by_shard().items():
            self._stop(set(attempts.items()))
            try:
                await self._backends.ledgers[shard].claims.release(attempts, now=self._clock.now())
            except FieldpostError as error:
                log.warning("release_failed", model=self._model, error=repr(error))

    def _by_shard(self) -> dict[str, dict[UUID, int]]:
        """The latest attempt of each request in hand."""
        attempts: defaultdict[str, dict[UUID, int]] = defaultdict(dict)
        for (request_id, number), (claim, _) in self._in_hand.items():
            of_shard = attempts[self._backends.shards.shard_of(claim.request.device_id)]
            of_shard[request_id] = max(number, of_shard.get(request_id, 0))
        return attempts

    def _stop(self, attempts: Collection[Attempt]) -> None:
        for attempt in attempts:
            held = self._in_hand.get(attempt)
            if held is not None:
                log.info("attempt_stopped", request_id=str(attempt[0]), attempt=attempt[1])
                held[1].cancel()

    def _put_down(self, attempt: Attempt, _task: asyncio.Task[None]) -> None:
        self._in_hand.pop(attempt, None)
        self._free.release()
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._in_hand:
            self._is_idle.set()
