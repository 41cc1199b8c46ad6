"""One trace from the door to the answer, over the embedded engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from fieldpost.messages.requests import Channel, Input, Request, RequestBody
from fieldpost.messages.responses import Output, Response
from fieldpost.observability import Metrics
from fieldpost.ports.backends import Backends
from fieldpost.ports.models import Emit, Question
from fieldpost.roles.processor import Processor
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.remembering import Remembered
from fieldpost.services.working import Lane
from fieldpost.settings import Settings
from fieldpost.tracing import read
from tests.support.clock import FakeClock
from tests.support.waiting import eventually
from tests.unit.services.conftest import DEVICE

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = RequestBody(input=Input(prompt="well?"))


class _Model:
    """Fails once, then answers; notes under which trace it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, question: Question, emit: Emit) -> Output:
        self.asked.append(question.traceparent)
        if len(self.asked) == 1:
            raise ZeroDivisionError
        return Output(text="well.")


@asynccontextmanager
async def _running(settings: Settings, backends: Backends, clock: FakeClock) -> AsyncIterator[None]:
    processor = Processor(settings=settings, backends=backends, clock=clock, metrics=Metrics(), instance="one")
    lane = Lane(settings=settings, backends=backends, clock=clock, model="echo", holder="one", metrics=Metrics())
    tasks = [asyncio.create_task(processor.run()), asyncio.create_task(lane.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _final(answers: Answers, accepted_id: object, clock: FakeClock, *, step: float = 0.5) -> Response:
    bodies: list[bytes] = []

    async def is_there() -> bool:
        clock.advance(step)
        status = await answers.status(1, accepted_id)  # type: ignore[arg-type]
        if status.response is not None:
            bodies.append(bytes(msgspec.Raw(status.response)))
        return status.status.is_final

    await eventually(is_there)
    return msgspec.json.decode(bodies[-1], type=Response)


async def test_queue_ledger_every_attempt_and_the_answer_know_the_trace(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    model = _Model()

    async with _running(settings, msgspec.structs.replace(backends, models={"echo": model}), clock):
        accepted = await intake.accept(DEVICE, BODY, channel=Channel.HTTP, traceparent=SENT)
        response = await _final(answers, accepted.request_id, clock)

    assert SENT == accepted.traceparent == response.traceparent
    assert [SENT, SENT] == model.asked


async def test_a_request_that_comes_without_a_valid_trace_begins_one(intake: Intake) -> None:
    without = await intake.accept(DEVICE, BODY, channel=Channel.HTTP)
    broken = await intake.accept(DEVICE, BODY, channel=Channel.HTTP, traceparent="00-nothing")

    assert without.traceparent == read(without.traceparent) != ""
    assert broken.traceparent == read(broken.traceparent) != ""
    assert without.traceparent != broken.traceparent


async def test_a_request_that_is_posted_again_goes_on_under_its_first_trace(intake: Intake) -> None:
    body = msgspec.structs.replace(BODY, idempotency_key="once")

    first = await intake.accept(DEVICE, body, channel=Channel.HTTP, traceparent=SENT)
    again = await intake.accept(DEVICE, body, channel=Channel.HTTP, traceparent=SENT.replace("4bf9", "ffff"))

    assert again.duplicate
    assert SENT == first.traceparent == again.traceparent


async def test_a_request_that_expires_names_its_trace(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    accepted = await intake.accept(
        DEVICE, msgspec.structs.replace(BODY, deadline_seconds=1), channel=Channel.HTTP, traceparent=SENT
    )
    clock.advance(2)

    async with _running(settings, backends, clock):
        response = await _final(answers, accepted.request_id, clock)

    assert (SENT, "expired") == (response.traceparent, response.status.value)


async def test_a_request_that_is_cancelled_before_it_is_recorded_names_its_trace(
    settings: Settings, backends: Backends, clock: FakeClock, intake: Intake, answers: Answers
) -> None:
    accepted = await intake.accept(DEVICE, BODY, channel=Channel.HTTP, traceparent=SENT)
    await answers.cancel(1, accepted.request_id)

    async with _running(settings, backends, clock):
        response = await _final(answers, accepted.request_id, clock)

    assert (SENT, "cancelled") == (response.traceparent, response.status.value)


def test_what_was_written_before_there_were_traces_can_still_be_read(clock: FakeClock) -> None:
    """Queues, ledgers and shared state outlive an upgrade."""
    remembered = msgspec.msgpack.encode([1, "library", clock.now(), b"hash"])
    members = {
        "id": "019b2f4e-0000-7000-8000-000000000001",
        "device_id": 1,
        "channel": "http",
        "model": "library",
        "priority": "normal",
        "input": {"prompt": "well?"},
        "accepted_at": clock.now(),
        "body_hash": b"",
    }

    assert msgspec.msgpack.decode(remembered, type=Remembered).traceparent == ""
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(members), type=Request).traceparent == ""
