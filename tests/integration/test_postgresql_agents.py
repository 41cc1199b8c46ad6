"""Only the server whose agent says so is written to; the agent here speaks as Patroni's does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from fieldpost.backends.postgresql.opening import Shard, open_shard
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendUnavailableError
from tests.support import engines
from tests.support.messages import a_request, at
from tests.support.waiting import eventually


class Agent:
    """Answers `GET /primary`, on a port of its own."""

    def __init__(self) -> None:
        self.is_leader = True
        self.timeline = 1
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = "200 OK" if self.is_leader else "503 Service Unavailable"
        body = f'{{"state": "running", "role": "primary", "timeline": {self.timeline}}}'
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def agents() -> AsyncIterator[tuple[Agent, Agent]]:
    pair = (Agent(), Agent())
    yield pair
    for agent in pair:
        await agent.stop()


@pytest.fixture
async def shard(postgresql: engines.PostgreSQL, agents: tuple[Agent, Agent]) -> AsyncIterator[Shard]:
    agents[1].is_leader = False
    urls = [await agent.start() for agent in agents]
    url = postgresql.make_database()
    async with open_shard("shard1", url, agents=urls, pool_size=2, clock=SystemClock(), synchronous="off") as opened:
        yield opened
    postgresql.drop_database(url)


async def _can_write(shard: Shard) -> bool:
    try:
        await shard.ledger.records.record([a_request()], dispatched=(), now=at(0))
    except BackendUnavailableError:
        return False
    return True


async def test_the_server_whose_agent_leads_is_written_to(shard: Shard) -> None:
    assert await _can_write(shard)


async def test_a_server_whose_agent_died_is_not_written_to_although_it_would_take_it(
    shard: Shard, agents: tuple[Agent, Agent]
) -> None:
    await agents[0].stop()

    await eventually(lambda: _refuses(shard))


async def _refuses(shard: Shard) -> bool:
    return not await _can_write(shard)


async def test_a_former_primary_is_not_written_to_nor_read_from(shard: Shard, agents: tuple[Agent, Agent]) -> None:
    # The other server was promoted: its history began anew, and this one goes on beside it.
    agents[1].is_leader, agents[1].timeline = True, 2

    await eventually(lambda: _refuses(shard))
    with pytest.raises(BackendUnavailableError, match="not the primary"):
        await shard.ledger.records.status(a_request().id, 1)


async def test_writing_goes_on_when_there_is_a_leader_again(shard: Shard, agents: tuple[Agent, Agent]) -> None:
    agents[0].is_leader = False
    await eventually(lambda: _refuses(shard))

    agents[0].is_leader = True

    await eventually(lambda: _can_write(shard))
