"""Roles fail alone, and come back alone; one that hangs does not hold up a stop."""

import asyncio
import itertools
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fieldpost.observability import Metrics
from fieldpost.roles.hub.hub import Hub
from fieldpost.settings import DataSettings, ModelSettings, ServerSettings, Settings
from fieldpost.supervisor.keeping import Keeping
from fieldpost.supervisor.running import run
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

    keeping = asyncio.create_task(Keeping(clock, metrics).run("watcher", role))

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


async def test_the_pause_that_is_told_is_the_one_that_is_waited_also_after_a_healthy_run(clock: FakeClock) -> None:
    starts: list[float] = []

    async def role() -> None:
        starts.append(clock.monotonic())
        if len(starts) == 3:
            await clock.sleep(61)
        if len(starts) == 5:
            await asyncio.Event().wait()
        raise ZeroDivisionError

    with capture_logs() as lines:
        keeping = asyncio.create_task(Keeping(clock, Metrics()).run("watcher", role))

        def turn() -> bool:
            # A step that passes over no pause, and none of a healthy run's length.
            clock.advance(1.0 if len(starts) == 3 else 0.1)
            return len(starts) == 5

        await eventually(turn)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    assert [0.2, 0.4, 0.2, 0.4] == [line["restart_seconds"] for line in lines if line["event"] == "role_failed"]


async def test_a_role_that_fails_takes_no_other_with_it(clock: FakeClock) -> None:
    turns = 0

    async def fails() -> None:
        raise ZeroDivisionError

    async def goes_on() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    keeping = Keeping(clock, Metrics())
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(keeping.run("watcher", fails)),
            tasks.create_task(keeping.run("gateway", goes_on)),
        ]
        await eventually(lambda: turns > 100)
        assert not any(task.done() for task in running)
        for task in running:
            task.cancel()


async def test_a_role_that_fails_is_known_until_it_has_gone_on_for_a_minute(clock: FakeClock) -> None:
    is_broken = asyncio.Event()
    starts = 0

    async def role() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            await is_broken.wait()
            raise ZeroDivisionError
        await asyncio.Event().wait()

    keeping = Keeping(clock, Metrics())
    running = asyncio.create_task(keeping.run("watcher", role))
    await eventually(lambda: starts == 1)
    assert [] == keeping.failing()

    is_broken.set()
    await eventually(lambda: bool(clock._sleepers))
    assert ["watcher"] == keeping.failing()

    clock.advance(1)
    await eventually(lambda: starts == 2)
    assert ["watcher"] == keeping.failing()
    clock.advance(60)
    assert [] == keeping.failing()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_role_whose_drain_hangs_is_cut_off_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_hub: Hub) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Hub, "drain", hangs)
    settings = Settings(
        server=ServerSettings(port=0, drain_seconds=0.1),
        data=DataSettings(directory=str(tmp_path / "data")),
        model=ModelSettings(url="echo:", name="echo"),
    )
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    with capture_logs() as lines:
        running = asyncio.create_task(run(settings, on_listening=listening.set_result, stop=stop))
        await asyncio.wait_for(listening, 30)
        stop.set()
        await asyncio.wait_for(running, 30)

    (cut_short,) = [line for line in lines if line["event"] == "drain_cut_short"]
    assert ["hub"] == cut_short["roles"]
    assert "stopped" == lines[-1]["event"]
