"""Programs that are waited for: what they say comes back, and none of them goes on for nobody."""

import asyncio
from pathlib import Path

import pytest

from fieldpost.cluster.tools import output_of
from fieldpost.errors import BackendUnavailableError
from tests.support.waiting import eventually


async def test_what_it_says_comes_back_and_a_failure_says_it_too() -> None:
    assert await output_of(["sh", "-c", "echo out; echo err >&2"], doing="talking", seconds=30) == "out\nerr"
    with pytest.raises(BackendUnavailableError, match="talking: no"):
        await output_of(["sh", "-c", "echo no; exit 3"], doing="talking", seconds=30)
    with pytest.raises(BackendUnavailableError, match="talking: exit code 3"):
        await output_of(["sh", "-c", "exit 3"], doing="talking", seconds=30)


def _sleeping(pid: Path) -> list[str]:
    return ["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600"]


async def _until_gone(pid: Path) -> None:
    process = Path("/proc") / pid.read_text().strip()
    await eventually(lambda: not process.exists())


async def test_one_whose_caller_is_cancelled_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    waiting = asyncio.create_task(output_of(_sleeping(pid), doing="sleeping", seconds=600))
    await eventually(pid.exists)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await _until_gone(pid)


async def test_one_whose_time_is_over_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    with pytest.raises(BackendUnavailableError, match="sleeping: no end within 1 s"):
        await output_of(_sleeping(pid), doing="sleeping", seconds=1)
    # On a busy machine it was ended before it could say who it is.
    if pid.exists():
        await _until_gone(pid)
