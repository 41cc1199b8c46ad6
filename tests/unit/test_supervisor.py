"""Roles fail alone, and come back alone."""

import asyncio
import itertools

from fieldpost.observability import Metrics
from fieldpost.supervisor import _keep_running
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


async def test_a_role_that_fails_is_started_again_after_pauses_that_grow(clock: FakeClock) -> None:
    starts: list[float] = []
    metrics = Metrics()
    is_well = asyncio.Event()

    async def role() -> None:
        starts.append(clock.monotonic())
        if len(starts) < 4:
            raise ZeroDivisionError
        is_well.set()
        await asyncio.Event().wait()

    keeping = asyncio.create_task(_keep_running("watcher", role, clock, metrics))

    def turn() -> bool:
        clock.advance(0.1)
        return is_well.is_set()

    await eventually(turn)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(starts)]
    assert sorted(pauses) == pauses
    assert pauses[0] >= 0.2
    assert pauses[-1] >= 0.8
    restarts = metrics.registry.get_sample_value("fieldpost_role_restarts_total", {"role": "watcher"})
    assert 3 == restarts


async def test_a_role_that_fails_takes_no_other_with_it(clock: FakeClock) -> None:
    turns = 0

    async def fails() -> None:
        raise ZeroDivisionError

    async def goes_on() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_keep_running("watcher", fails, clock, Metrics())),
            tasks.create_task(_keep_running("gateway", goes_on, clock, Metrics())),
        ]
        await eventually(lambda: turns > 100)
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()
