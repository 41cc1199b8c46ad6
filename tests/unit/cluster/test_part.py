"""A part is started again whenever it ends: soon at first, later when it ends again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fieldpost.cluster.child import Program
from fieldpost.cluster.part import Part
from fieldpost.errors import BackendUnavailableError
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


async def _ready() -> bool:
    return True


def _part(directory: Path, clock: FakeClock, command: str) -> Part:
    return Part(
        Program(name="part", command=["sh", "-c", command], directory=directory),
        role="part",
        port=1,
        is_ready=_ready,
        log_path=directory / "part.log",
        mark=str(directory),
        clock=clock,
    )


@asynccontextmanager
async def _kept(directory: Path, clock: FakeClock, command: str) -> AsyncIterator[Part]:
    part = _part(directory, clock, command)
    await part.start()
    keeping = asyncio.create_task(part.run())
    try:
        yield part
    finally:
        stopping = asyncio.create_task(part.stop())
        await eventually(lambda: _is_over(clock, stopping))
        keeping.cancel()
        await asyncio.gather(keeping, stopping, return_exceptions=True)


def _is_over(clock: FakeClock, *tasks: "asyncio.Task[None]") -> bool:
    clock.advance(0.05)
    return all(task.done() for task in tasks)


def _restarted(clock: FakeClock, part: Part, times: int) -> bool:
    clock.advance(0.05)
    return part.restarts >= times


async def test_one_that_ends_again_and_again_rests_longer_each_time(tmp_path: Path, clock: FakeClock) -> None:
    with capture_logs() as lines:
        async with _kept(tmp_path, clock, "exit 7") as part:
            await eventually(lambda: _restarted(clock, part, 3))

    ended = [(line["exit_code"], line["restart_seconds"]) for line in lines if line["event"] == "part_ended"]
    assert [(7, 0.2), (7, 0.4), (7, 0.8)] == ended[:3]


async def test_one_that_an_operator_restarts_begins_anew(tmp_path: Path, clock: FakeClock) -> None:
    is_well, runs = tmp_path / "well", tmp_path / "runs"
    with capture_logs() as lines:
        async with _kept(tmp_path, clock, f"test -e {is_well} && touch {runs} && exec sleep 600; exit 7") as part:
            await eventually(lambda: _restarted(clock, part, 2))
            is_well.touch()
            await eventually(lambda: _restarted(clock, part, 0) and runs.exists())

            lines.clear()
            is_well.unlink()
            restarts = part.restarts
            await part.restart()
            await eventually(lambda: _restarted(clock, part, restarts + 2))

    ended = [(line["exit_code"], line["restart_seconds"]) for line in lines if line["event"] == "part_ended"]
    assert (7, 0.2) == ended[0]


async def test_one_that_was_stopped_before_it_began_is_not_started(tmp_path: Path, clock: FakeClock) -> None:
    part = _part(tmp_path, clock, "exec sleep 600")
    await part.stop()

    with pytest.raises(BackendUnavailableError, match="part was stopped"):
        await part.start()

    assert part.pid is None


async def test_one_that_is_stopped_while_it_starts_does_not_run_on(tmp_path: Path, clock: FakeClock) -> None:
    part = _part(tmp_path, clock, "exec sleep 600")
    starting = asyncio.create_task(part.start())
    # So far that there is no way back, and not so far that it is known who runs.
    await asyncio.sleep(0)
    assert part.pid is None

    stopping = asyncio.create_task(part.stop())
    await eventually(lambda: _is_over(clock, starting, stopping))

    await asyncio.gather(starting, stopping)
    assert part.pid is None
    assert part.child.exit_code is not None
