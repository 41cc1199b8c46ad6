"""What a lane has in hand: attempts that lost their claim, jobs that cannot be read, drains at an awkward moment."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from fieldpost.backends.sqlite.broker import SqliteBroker
from fieldpost.messages.requests import Priority, Request, RequestState
from fieldpost.messages.responses import AttemptResult, Job, Output
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.ports.broker import Delivery
from fieldpost.ports.ledger_values import Claim
from fieldpost.ports.models import Emit, Question
from fieldpost.services.endings import EXPIRED, too_many_deaths
from fieldpost.services.queues import results_queue, work_queue
from fieldpost.services.working import Lane
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.messages import a_request
from tests.support.waiting import eventually

QUEUE = work_queue("echo", Priority.NORMAL)


class HeldModel:
    """Answers when told to; knows what it is asked now."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.working = 0
        self.may_answer = asyncio.Event()

    async def answer(self, question: Question, emit: Emit) -> Output:
        self.asked.append(question.messages[-1].content)
        self.working += 1
        try:
            await self.may_answer.wait()
        finally:
            self.working -= 1
        return Output(text="done")


@pytest.fixture
def model() -> HeldModel:
    return HeldModel()


@pytest.fixture
async def lane(settings: Settings, backends: Backends, clock: FakeClock, model: HeldModel) -> AsyncIterator[Lane]:
    async with _lane(settings, backends, clock, model) as running:
        yield running


@asynccontextmanager
async def _lane(settings: Settings, backends: Backends, clock: FakeClock, model: HeldModel) -> AsyncIterator[Lane]:
    made = Lane(
        settings=settings,
        backends=msgspec.structs.replace(backends, models={"echo": model}),
        clock=clock,
        model="echo",
        holder="one",
        metrics=Metrics(),
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _put(backends: Backends, clock: FakeClock, *requests: Request) -> None:
    ids = [request.id for request in requests]
    await backends.ledgers["shard1"].records.record(requests, dispatched=ids, now=clock.now())
    await _send(backends, requests)


async def _send(backends: Backends, requests: Sequence[Request]) -> None:
    jobs = [Job(request_id=request.id, device_id=request.device_id) for request in requests]
    await backends.broker.publish(QUEUE, [msgspec.msgpack.encode(job) for job in jobs])


async def _state(backends: Backends, request_id: UUID) -> tuple[RequestState, int]:
    status = await backends.ledgers["shard1"].records.status(request_id, 1)
    assert status is not None
    return status.status, status.attempts


async def _results(backends: Backends, count: int) -> list[AttemptResult]:
    found: list[AttemptResult] = []
    async with asyncio.timeout(30), backends.broker.consume([results_queue("shard1")], prefetch=100) as consumer:
        while len(found) < count:
            deliveries = await consumer.receive(100)
            found += [msgspec.msgpack.decode(delivery.body, type=AttemptResult) for delivery in deliveries]
            await consumer.ack(deliveries)
    return found


async def _reap(backends: Backends, clock: FakeClock) -> None:
    await backends.ledgers["shard1"].dispatch.reap(
        max_deaths=3, too_many_deaths=too_many_deaths(3), expired=EXPIRED, now=clock.now(), limit=10
    )


def _claimed_until(directory: Path, request_id: UUID) -> int:
    """Shape: microseconds."""
    with contextlib.closing(sqlite3.connect(directory / "fieldpost.db")) as ledger:
        query = "SELECT claimed_until FROM requests WHERE id = ?"
        (found,) = ledger.execute(query, [request_id.bytes]).fetchone()
    return int(found)


async def test_when_the_next_attempt_meets_the_old_one_here_the_old_one_stops_and_the_new_one_is_renewed(
    backends: Backends, clock: FakeClock, lane: Lane, model: HeldModel, settings: Settings, tmp_path: Path
) -> None:
    request = a_request(model="echo", accepted_at=clock.now())
    await _put(backends, clock, request)
    await eventually(lambda: model.working == 1)
    # The clock jumps past the claim before anybody could renew it, and the next attempt comes to the same worker.
    clock._now += timedelta(seconds=settings.worker.claim_seconds + 1)
    await _reap(backends, clock)
    dispatch = backends.ledgers["shard1"].dispatch
    assert await dispatch.take("echo", Priority.NORMAL, after_device=0, limit=10, now=clock.now())
    await _send(backends, [request])
    await eventually(lambda: len(model.asked) == 2 and model.working == 1)

    def is_renewed(before: int) -> bool:
        return _claimed_until(tmp_path, request.id) > before

    # Longer than a claim, in steps that each wait until it is renewed: it stays claimed.
    for _ in range(10):
        before = _claimed_until(tmp_path, request.id)
        clock.advance(settings.worker.claim_seconds / 3)
        await eventually(partial(is_renewed, before))
        await _reap(backends, clock)
    assert 1 == model.working
    assert (RequestState.PROCESSING, 2) == await _state(backends, request.id)

    model.may_answer.set()
    (result,) = await _results(backends, 1)
    await eventually(lambda: not lane._in_hand)
    assert (2, "done") == (result.attempt, result.output.text if result.output else None)


async def test_a_request_goes_to_its_own_model_whatever_queue_its_job_is_in(
    settings: Settings, backends: Backends, clock: FakeClock, model: HeldModel
) -> None:
    other = HeldModel()
    both = msgspec.structs.replace(backends, models={"echo": model, "other": other}, model_names=("echo", "other"))
    made = Lane(settings=settings, backends=both, clock=clock, model="echo", holder="one", metrics=Metrics())
    running = asyncio.create_task(made.run())
    await _put(backends, clock, a_request(model="other", prompt="for the other", accepted_at=clock.now()))

    await eventually(lambda: other.asked == ["for the other"])
    assert [] == model.asked
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_job_or_a_request_that_cannot_be_read_stops_nobody_elses(
    backends: Backends, clock: FakeClock, lane: Lane, model: HeldModel
) -> None:
    assert isinstance(backends.broker, SqliteBroker)
    broken, good = (a_request(model="echo", prompt=prompt, accepted_at=clock.now()) for prompt in ("broken", "good"))
    ids = [broken.id, good.id]
    await backends.ledgers["shard1"].records.record([broken, good], dispatched=ids, now=clock.now())
    await backends.broker._database.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE requests SET envelope = x'c1' WHERE id = ?", (broken.id.bytes,)
        )
    )

    await backends.broker.publish(QUEUE, [b"\xc1 no job"])
    await _send(backends, [broken, good])

    await eventually(lambda: model.asked == ["good"])
    model.may_answer.set()
    (result,) = await _results(backends, 1)
    assert good.id == result.request_id


async def test_a_drain_that_comes_during_a_claim_waits_for_what_is_claimed(
    backends: Backends, clock: FakeClock, lane: Lane, model: HeldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    claiming, may_claim = asyncio.Event(), asyncio.Event()
    claim = lane._claim

    async def slowly(deliveries: Sequence[Delivery]) -> tuple[list[Claim], list[Delivery]]:
        claiming.set()
        await may_claim.wait()
        return await claim(deliveries)

    monkeypatch.setattr(lane, "_claim", slowly)
    request = a_request(model="echo", accepted_at=clock.now())
    await _put(backends, clock, request)
    await asyncio.wait_for(claiming.wait(), 30)
    draining = asyncio.create_task(lane.drain())
    await asyncio.sleep(0)
    assert not draining.done()

    may_claim.set()
    model.may_answer.set()
    await asyncio.wait_for(draining, 30)

    (result,) = await _results(backends, 1)
    assert request.id == result.request_id
