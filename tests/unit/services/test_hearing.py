"""Events and the questions to the ledger between them."""

import asyncio
from uuid import uuid4

from fieldpost.messages.events import Acknowledged, Event, ResponseChunk, ResponseReady, StateChanged
from fieldpost.messages.requests import RequestState
from fieldpost.services.hearing import RECHECK_SECONDS, Hearing, may_end
from fieldpost.services.mailbox import Listener
from tests.support.clock import FakeClock


def _chunk() -> Event:
    return ResponseChunk(request_id=uuid4(), device_id=1, attempt=1, index=0, offset=0, text="Nine")


async def test_what_is_heard_does_not_put_the_question_off(clock: FakeClock) -> None:
    listener = Listener(1, None)
    hearing = Hearing(listener, clock)
    due: list[bool] = []
    for _ in range(9):
        clock.advance(RECHECK_SECONDS / 4)
        listener.put(_chunk())
        heard = await hearing.hear()
        assert 1 == len(heard.events)
        due.append(heard.is_due)

    assert [False, False, False, True, False, False, False, True, False] == due


async def test_a_silence_ends_with_a_question(clock: FakeClock) -> None:
    heard = await Hearing(Listener(1, None), clock).hear(every_seconds=0.01)

    assert ((), False, True) == (heard.events, heard.is_loss, heard.is_due)


async def test_a_shorter_wait_ends_without_one(clock: FakeClock) -> None:
    heard = await Hearing(Listener(1, None), clock).hear(every_seconds=60, at_most_seconds=0.01)

    assert ((), False, False) == (heard.events, heard.is_loss, heard.is_due)


async def test_after_a_loss_it_is_time(clock: FakeClock) -> None:
    listener = Listener(1, None)
    listener.lose()
    async with asyncio.timeout(30):
        heard = await Hearing(listener, clock).hear()

    assert ((), True, True) == (heard.events, heard.is_loss, heard.is_due)


def test_only_some_events_may_mean_an_answer() -> None:
    def changed(status: RequestState) -> Event:
        return StateChanged(request_id=uuid4(), device_id=1, status=status)

    assert may_end(ResponseReady(request_id=uuid4(), device_id=1))
    assert may_end(changed(RequestState.CANCELLED))
    assert not may_end(changed(RequestState.PROCESSING))
    assert not may_end(_chunk())
    assert not may_end(Acknowledged(device_id=1, request_ids=()))
