"""Cancelled calls on a shared connection: nobody ever gets another's reply (a known failure of other clients)."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from fieldpost.backends.redis_cluster.opening import open_shared
from fieldpost.clock import SystemClock
from tests.support.engines import Engines, SingleRedis

_CALLS = 6000
_AT_ONCE = 200


@pytest.fixture(scope="module")
def single(engine_place: Engines) -> SingleRedis:
    return SingleRedis(engine_place)


@contextlib.asynccontextmanager
async def _slow_replies(port: int, source: random.Random) -> AsyncIterator[int]:
    """A port before the server that holds replies back for a while, and cuts them anywhere."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)

        async def forth() -> None:
            while chunk := await reader.read(65_536):
                server_writer.write(chunk)
            server_writer.close()

        async def back() -> None:
            while chunk := await server_reader.read(source.randint(1, 700)):
                await asyncio.sleep(source.random() * 0.003)
                writer.write(chunk)
            writer.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(forth(), back())
        for end in (writer, server_writer):
            end.close()
        await asyncio.gather(writer.wait_closed(), server_writer.wait_closed(), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def test_thousands_of_cancelled_calls_mix_up_no_replies(single: SingleRedis) -> None:
    source = random.Random(7)
    kept = cancelled = 0
    async with (
        _slow_replies(single.port, source) as port,
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
