"""Recording, dispatch, work, results and reaping together, over the embedded engines and a clock turned by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from fieldpost.errors import IdempotencyConflictError, ModelRefusedError, ModelUnavailableError
from fieldpost.messages.events import ResponseChunk, ResponseReady, device_channel
from fieldpost.messages.requests import Channel, Input, RequestBody, RequestState
from fieldpost.messages.responses import Output, Response
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.ports.models import Emit, Question
from fieldpost.roles.processor import Processor
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.queues import declare_queues
from fieldpost.services.remembering import REMEMBER_SECONDS
from fieldpost.services.working import Lane
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.waiting import eventually
from tests.unit.services.conftest import DEVICE

Answer = Callable[[Question, Emit], Coroutine[Any, Any, Output]]


class ScriptedModel:
    """Answers as the test says, call by call; the last line is repeated."""

    def __init__(self, *script: Answer) -> None:
        self.calls = 0
        self._script = script

    async def answer(self, question: Question, emit: Emit) -> Output:
        line = self._script[min(self.calls, len(self._script) - 1)]
        self.calls += 1
        return await line(question, emit)


async def _says_so(question: Question, emit: Emit) -> Output:
    await emit("so ")
    await emit("be it")
    return Output(text="so be it")


async def _is_away(question: Question, emit: Emit) -> Output:
    raise ModelUnavailableError("away")


async def _refuses(question: Question, emit: Emit) -> Output:
    raise ModelRefusedError("no")


async def _breaks(question: Question, emit: Emit) -> Output:
    raise ZeroDivisionError


async def _never_answers(question: Question, emit: Emit) -> Output:
    await asyncio.Event().wait()
    raise AssertionError


class House:
    """A processor and a worker's lane over the same backends."""

    def __init__(self, settings: Settings, backends: Backends, clock: FakeClock) -> None:
        self.processor = Processor(settings=settings, backends=backends, clock=clock, metrics=Metrics(), instance="one")
        self.lane = Lane(
            settings=settings, backends=backends, clock=clock, model="echo", holder="one", metrics=Metrics()
        )


@asynccontextmanager
async def _running(
    settings: Settings, backends: Backends, clock: FakeClock, model: ScriptedModel
) -> AsyncIterator[House]:
    scripted = msgspec.structs.replace(backends, models={"echo": model})
    house = House(settings, scripted, clock)
    tasks = [asyncio.create_task(house.processor.run()), asyncio.create_task(house.lane.run())]
    try:
        yield house
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(intake: Intake, **members: Any) -> UUID:
    body = RequestBody(input=Input(prompt="well?"), **members)
    return (await intake.accept(DEVICE, body, channel=Channel.HTTP)).request_id


async def _response(answers: Answers, request_id: UUID, *, clock: FakeClock, step: float = 0.5) -> Response:
    """The final response; turns the clock until it is there."""

    async def is_final() -> bool:
        clock.advance(step)
        return (await answers.status(1, request_id)).status.is_final

    await eventually(is_final)
    status = await answers.status(1, request_id)
    assert status.response is not None
    return msgspec.json.decode(bytes(msgspec.Raw(status.response)), type=Response)


async def _worked_on(answers: Answers, request_id: UUID, *, clock: FakeClock) -> None:
    """Returns when a worker has claimed the request; turns the clock until then."""

    async def is_claimed() -> bool:
        clock.advance(0.1)
        return (await answers.status(1, request_id)).status is RequestState.PROCESSING

    await eventually(is_claimed)


async def test_a_request_is_answered_and_announced(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    async with (
        backends.shared.bus.subscribe([device_channel(1)]) as subscription,
        _running(settings, backends, clock, ScriptedModel(_says_so)),
    ):
        request_id = await _ask(intake)
        response = await _response(answers, request_id, clock=clock)
        events = await subscription.receive()

    assert (RequestState.SUCCEEDED, 1) == (response.status, response.attempts)
    assert response.output is not None
    assert "so be it" == response.output.text
    chunks = [event for event in events if isinstance(event, ResponseChunk)]
    assert [(0, 0, "so "), (1, 3, "be it")] == [(chunk.index, chunk.offset, chunk.text) for chunk in chunks]
    assert [request_id] == [event.request_id for event in events if isinstance(event, ResponseReady)]


async def test_what_may_pass_is_tried_again_and_what_does_not_ends_with_its_reason(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    model = ScriptedModel(_is_away, _breaks, _says_so)
    async with _running(settings, backends, clock, model):
        answered = await _response(answers, await _ask(intake), clock=clock)
    assert (RequestState.SUCCEEDED, 3, 3) == (answered.status, answered.attempts, model.calls)

    model = ScriptedModel(_is_away)
    async with _running(settings, backends, clock, model):
        failed = await _response(answers, await _ask(intake), clock=clock, step=5)
    letters = await backends.ledgers["shard1"].records.dead_letters(before=None, limit=10)
    assert (RequestState.FAILED, settings.worker.max_attempts) == (failed.status, failed.attempts)
    assert failed.error is not None
    assert "away" == failed.error.detail
    assert [failed.request_id] == [letter.request_id for letter in letters]


async def test_a_refusal_is_not_tried_again(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    async with _running(settings, backends, clock, ScriptedModel(_refuses)):
        response = await _response(answers, await _ask(intake), clock=clock)

    assert (RequestState.FAILED, 1) == (response.status, response.attempts)


async def test_one_stalled_answer_does_not_stop_the_others(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    async with _running(settings, backends, clock, ScriptedModel(_never_answers, _says_so)):
        stalled = await _ask(intake)
        await _worked_on(answers, stalled, clock=clock)
        response = await _response(answers, await _ask(intake), clock=clock, step=0.01)

        assert RequestState.SUCCEEDED is response.status
        assert RequestState.PROCESSING is (await answers.status(1, stalled)).status


async def test_a_deadline_fires_while_the_model_stalls_and_with_no_worker_at_all(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    async with _running(settings, backends, clock, ScriptedModel(_never_answers)) as house:
        stalled = await _response(answers, await _ask(intake, deadline_seconds=5), clock=clock)
        await house.lane.drain()
        unworked = await _response(answers, await _ask(intake, deadline_seconds=5), clock=clock)

    assert [RequestState.EXPIRED] * 2 == [stalled.status, unworked.status]


async def test_a_cancelled_request_stops_its_attempt(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    stopped = asyncio.Event()

    async def notices(question: Question, emit: Emit) -> Output:
        try:
            return await _never_answers(question, emit)
        finally:
            stopped.set()

    async with _running(settings, backends, clock, ScriptedModel(notices)) as house:
        request_id = await _ask(intake)

        await _worked_on(answers, request_id, clock=clock)
        await answers.cancel(1, request_id)
        house.lane.stop(request_id)
        async with asyncio.timeout(10):
            await stopped.wait()

    assert RequestState.CANCELLED is (await answers.status(1, request_id)).status


async def test_a_flood_beyond_the_work_queue_is_answered_too(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    small = msgspec.structs.replace(settings, queues=msgspec.structs.replace(settings.queues, max_work=5))
    async with _running(small, backends, clock, ScriptedModel(_says_so)):
        request_ids = await asyncio.gather(*(_ask(intake) for _ in range(60)))
        responses = [await _response(answers, request_id, clock=clock) for request_id in request_ids]

    assert {RequestState.SUCCEEDED} == {response.status for response in responses}


async def test_a_draining_worker_hands_back_what_it_cannot_finish(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    hasty = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, drain_seconds=0.01))
    async with _running(hasty, backends, clock, ScriptedModel(_never_answers)) as house:
        request_id = await _ask(intake)

        async def is_worked_on() -> bool:
            clock.advance(0.1)
            return (await answers.status(1, request_id)).status is RequestState.PROCESSING

        await eventually(is_worked_on)
        await house.lane.drain()

        status = await answers.status(1, request_id)
        assert RequestState.QUEUED is status.status
    async with _running(settings, backends, clock, ScriptedModel(_says_so)):
        response = await _response(answers, request_id, clock=clock)
    assert (RequestState.SUCCEEDED, 2) == (response.status, response.attempts)


@pytest.mark.parametrize("text", [b"\xc1 not a request", b""])
async def test_a_message_that_cannot_be_read_goes_to_the_dead_letters(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers, text: bytes
) -> None:
    await backends.broker.publish("requests.shard1", [text])
    async with _running(settings, backends, clock, ScriptedModel(_says_so)):
        response = await _response(answers, await _ask(intake), clock=clock)

        async def is_gone() -> bool:
            return await backends.broker.depth("requests.shard1") == 0

        await eventually(is_gone)
    (letter,) = await backends.ledgers["shard1"].records.dead_letters(before=None, limit=10)
    assert RequestState.SUCCEEDED is response.status
    assert letter.reason.startswith("requests.shard1")


async def test_what_waits_for_a_model_that_is_gone_is_told_once_and_answered_when_it_is_back(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    without = msgspec.structs.replace(backends, model_names=("other",), models={"other": ScriptedModel(_says_so)})
    await declare_queues(backends.broker, shards=(), models=without.models, settings=settings.queues)
    request_ids = [await _ask(intake) for _ in range(3)]
    hasty = await _ask(intake, deadline_seconds=20)
    processor = Processor(settings=settings, backends=without, clock=clock, metrics=Metrics(), instance="two")

    with capture_logs() as lines:
        running = asyncio.create_task(processor.run())

        def is_known(requests: int) -> bool:
            clock.advance(0.5)
            return processor.degraded() == [f"model echo is not in the settings, requests wait for it: {requests}"]

        await eventually(lambda: is_known(4))
        # Its deadline ends it, like any other.
        expired = await _response(answers, hasty, clock=clock)
        await eventually(lambda: is_known(3))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert RequestState.EXPIRED is expired.status
    (told,) = [line for line in lines if line["event"] == "model_missing"]
    assert ("warning", "echo", 4) == (told["log_level"], told["model"], told["requests"])
    async with _running(settings, backends, clock, ScriptedModel(_says_so)) as house:
        answered = [await _response(answers, request_id, clock=clock) for request_id in request_ids]
        await eventually(lambda: house.processor.degraded() == [])
    assert {RequestState.SUCCEEDED} == {response.status for response in answered}


async def test_a_door_that_took_another_request_for_the_first_is_put_right_by_the_ledger(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    async with _running(settings, backends, clock, ScriptedModel(_says_so)):
        await _response(answers, await _ask(intake, idempotency_key="k"), clock=clock)
        clock.advance(REMEMBER_SECONDS + 1)
        another = RequestBody(input=Input(prompt="something else?"), idempotency_key="k")
        await intake.accept(DEVICE, another, channel=Channel.HTTP)

        async def is_put_right() -> bool:
            clock.advance(0.1)
            try:
                await _ask(intake, idempotency_key="k")
            except IdempotencyConflictError:
                return False
            return True

        await eventually(is_put_right)
        with pytest.raises(IdempotencyConflictError):
            await intake.accept(DEVICE, another, channel=Channel.HTTP)
