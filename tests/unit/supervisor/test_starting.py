"""A step of a start is left as soon as the process is told to stop."""

import asyncio

import pytest

from fieldpost.background import running
from fieldpost.clock import SystemClock
from fieldpost.settings import Settings
from fieldpost.supervisor.starting import Starting, StoppedError


async def _goes_on() -> None:
    await asyncio.Event().wait()


async def test_a_step_under_way_is_cancelled_and_cleans_up_in_the_task_that_began_it() -> None:
    stopping = asyncio.Event()
    tidied: list[asyncio.Task[object] | None] = []

    async def step() -> None:
        try:
            async with running(_goes_on()):
                stopping.set()
                await _goes_on()
        finally:
            tidied.append(asyncio.current_task())

    with pytest.raises(StoppedError):
        await asyncio.wait_for(Starting(Settings(), SystemClock(), stopping).unless_stopped(step), 30)

    assert 1 == len(tidied)
    current = asyncio.current_task()
    assert current is not None
    assert 0 == current.cancelling()


async def test_a_step_begins_in_the_callers_task_and_what_it_brings_is_given_back() -> None:
    async def step() -> asyncio.Task[object] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    starting = Starting(Settings(), SystemClock(), asyncio.Event())

    assert asyncio.current_task() is await starting.unless_stopped(step)


async def test_a_steps_own_error_is_no_stop() -> None:
    async def step() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await Starting(Settings(), SystemClock(), asyncio.Event()).unless_stopped(step)
