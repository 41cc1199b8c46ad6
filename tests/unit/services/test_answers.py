"""Waiting for answers while a busy device is heard of for other reasons."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from fieldpost.messages.events import DeviceEvent, ResponseChunk, ResponseReady, device_channel
from fieldpost.messages.requests import Request
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger_values import Finish
from fieldpost.services.answers import Answers
from fieldpost.services.hearing import RECHECK_SECONDS
from fieldpost.services.mailbox import Mailbox
from tests.support.clock import FakeClock
from tests.support.messages import a_request, a_response
from tests.support.waiting import eventually

LONG = 10 * RECHECK_SECONDS


@asynccontextmanager
async def _running(mailbox: Mailbox) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(mailbox.run())
        yield
        running.cancel()


async def _finish(backends: Backends, request: Request, clock: FakeClock) -> None:
    ledger, now = backends.ledger_of(request.device_id), clock.now()
    await ledger.records.record([request], dispatched=[request.id], now=now)
    await ledger.claims.claim([request.id], holder="w", now=now, until=now + timedelta(minutes=1))
    await ledger.claims.finish([Finish(request_id=request.id, attempt=1, response=a_response(request))], [], now=now)


async def _publish(backends: Backends, event: DeviceEvent) -> None:
    await backends.shared.bus.publish(device_channel(event.device_id), [event])


def _chunk(request_id: UUID | None = None) -> DeviceEvent:
    return ResponseChunk(request_id=request_id or uuid4(), device_id=1, attempt=1, index=0, offset=0, text="Nine")


async def test_an_answer_that_was_not_told_of_is_found_although_its_request_is_heard_of_all_the_time(
    backends: Backends, answers: Answers, mailbox: Mailbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = a_request()
    looks = _counted(monkeypatch, "_final")
    async with _running(mailbox):
        waiting = asyncio.create_task(answers.wait(1, request.id, timeout_seconds=30))
        await eventually(lambda: 1 == len(looks))
        await _finish(backends, request, clock)

        async def go_on() -> bool:
            # There is never a silence.
            clock.advance(RECHECK_SECONDS / 100)
            await _publish(backends, _chunk(request.id))
            return waiting.done()

        await eventually(go_on)

    assert await waiting is not None


async def test_pieces_of_answers_are_no_reason_to_ask_for_answers(
    backends: Backends, answers: Answers, mailbox: Mailbox, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = a_request()
    looks = _counted(monkeypatch, "undelivered")
    async with _running(mailbox):
        waiting = asyncio.create_task(answers.wait_undelivered(1, timeout_seconds=LONG, limit=10))
        await eventually(lambda: 1 == len(looks))
        ((listener,),) = mailbox._listeners.values()
        for _ in range(50):
            await _publish(backends, _chunk())
            await eventually(lambda: not listener._events)
        asked = len(looks)
        await _finish(backends, request, clock)
        await _publish(backends, ResponseReady(request_id=request.id, device_id=1))
        found = await waiting

    # Now and then it is asked on a busy machine, where that takes longer than a recheck; never for every piece.
    assert asked < 25
    assert [request.id] == [answer.request_id for answer in found]


def _counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Every call of a method of Answers from now on."""
    calls: list[object] = []
    method = getattr(Answers, name)

    async def counted(self: Answers, *args: Any, **kwargs: Any) -> Any:
        found = await method(self, *args, **kwargs)
        calls.append(found)
        return found

    monkeypatch.setattr(Answers, name, counted)
    return calls
