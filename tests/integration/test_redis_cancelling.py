"""Cancelled calls on a shared connection: nobody ever gets another's reply (a known failure of other clients)."""

import asyncio
import random

import pytest

from fieldpost.backends.redis_cluster.opening import open_shared
from fieldpost.clock import SystemClock
from tests.support.engines import Engines, SingleRedis
from tests.support.relaying import Relay, listening

_CALLS = 6000
_AT_ONCE = 200


@pytest.fixture(scope="module")
def single(engine_place: Engines) -> SingleRedis:
    return SingleRedis(engine_place)


class _SlowReplies(Relay):
    """Holds replies back for a while, and cuts them anywhere."""

    def __init__(self, port: int, source: random.Random) -> None:
        super().__init__(port)
        self._source = source

    async def _pass_back(self, _number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(self._source.randint(1, 700)):
            await asyncio.sleep(self._source.random() * 0.003)
            writer.write(chunk)
        writer.close()


async def test_thousands_of_cancelled_calls_mix_up_no_replies(single: SingleRedis) -> None:
    source = random.Random(7)
    kept = cancelled = 0
    async with (
        listening(_SlowReplies(single.port, source)) as port,
        open_shared(f"redis://127.0.0.1:{port}", clock=SystemClock(), instance="test") as shared,
    ):
        for first in range(0, _CALLS, 500):
            values = [(str(number), b"canary-%d" % number) for number in range(first, first + 500)]
            await shared.values.put(values, ttl_seconds=600)
        for first in range(0, _CALLS, _AT_ONCE):
            calls = {
                number: asyncio.create_task(shared.values.get(str(number))) for number in range(first, first + _AT_ONCE)
            }
            doomed = source.sample(sorted(calls), _AT_ONCE // 2)
            for number in doomed:
                if source.random() < 0.1:
                    await asyncio.sleep(0.001)
                calls[number].cancel()
            await asyncio.wait(calls.values())
            for number, call in calls.items():
                cancelled += call.cancelled()
                if not call.cancelled():
                    assert call.result() in (None, b"canary-%d" % number)
                    kept += call.result() is not None

    assert cancelled > _CALLS / 4
    assert kept > _CALLS / 4
