"""kill -9 at random moments under load: whatever was promised is kept."""

import asyncio
import random
from pathlib import Path

import pytest

from fieldpost.fleet.history import check
from tests.faults.fleet import Fleet
from tests.support.server import Server
from tests.support.waiting import eventually

DEVICES = 4


@pytest.mark.timeout(400)
async def test_nothing_promised_is_lost_when_the_process_is_killed_20_times(data: Path) -> None:
    await _kill_under_load(data, kills=20, seed=20)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_nothing_promised_is_lost_when_the_process_is_killed_200_times(data: Path) -> None:
    await _kill_under_load(data, kills=200, seed=200)


async def _kill_under_load(data: Path, *, kills: int, seed: int) -> None:
    source = random.Random(seed)
    server = Server(data, settings={"FIELDPOST_MODEL_URL": "echo:", "FIELDPOST_MODEL_NAME": "echo"})
    await asyncio.to_thread(server.start)
    keys = [server.add_device(name=f"truck {number}") for number in range(DEVICES)]
    fleet = Fleet(server, keys, seed)
    working = asyncio.create_task(fleet.run())
    biting = 0
    try:
        for _ in range(kills):
            accepted_before = len(fleet.accepted)
            await eventually(lambda before=accepted_before: len(fleet.accepted) > before)  # type: ignore[misc]
            await asyncio.sleep(source.uniform(0, 0.5))
            await asyncio.to_thread(server.kill)
            biting += bool(fleet.accepted - fleet.acked)
            await asyncio.to_thread(server.start)
        await fleet.settle()
        await eventually(lambda: working.done() or fleet.accepted <= fleet.delivered, seconds=120)
        assert not working.done(), working.exception()
        await fleet.confirm_with_the_ledger()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        server.kill()

    verdict = check(fleet.history)
    assert verdict.is_kept, verdict
    assert not fleet.refused, fleet.refused[:3]
    # A run in which the faults met no work in hand would prove nothing.
    assert biting >= kills // 2
    assert len(fleet.accepted) > 5 * kills
