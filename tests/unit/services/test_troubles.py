"""What /ready says of parts that fail and try again."""

import asyncio

from fieldpost.errors import QueueFullError, StorageFullError
from fieldpost.services.troubles import Troubles
from fieldpost.services.waiting import keep_going
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


def test_what_fails_is_named_with_its_reason_and_no_detail(clock: FakeClock) -> None:
    troubles = Troubles(clock)

    troubles.note("intake", StorageFullError("/secret/place: database or disk is full"))
    troubles.note("credentials", ValueError("the secret"))

    assert ["credentials: an internal error", "intake: The disk is full"] == troubles.current()


def test_a_part_is_named_once_with_its_last_reason(clock: FakeClock) -> None:
    troubles = Troubles(clock)

    troubles.note("intake", StorageFullError())
    troubles.note("intake", QueueFullError())

    assert ["intake: The queue is full"] == troubles.current()


def test_what_fails_now_and_then_does_not_flap(clock: FakeClock) -> None:
    troubles = Troubles(clock)

    for _ in range(5):
        troubles.note("intake", StorageFullError())
        clock.advance(10)
        assert troubles.current()

    clock.advance(10)
    assert [] == troubles.current()


async def test_a_loop_that_fails_is_named_until_it_has_gone_on_for_a_while(clock: FakeClock) -> None:
    troubles = Troubles(clock)
    starts = 0

    async def loop() -> None:
        nonlocal starts
        starts += 1
        if starts < 4:
            raise StorageFullError
        await asyncio.Event().wait()

    running = asyncio.create_task(keep_going(loop, clock=clock, loop="filing.shard1", troubles=troubles))

    def turn() -> bool:
        clock.advance(0.5)
        return starts == 4

    await eventually(turn)
    assert ["filing.shard1: The disk is full"] == troubles.current()
    clock.advance(60)
    assert [] == troubles.current()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
