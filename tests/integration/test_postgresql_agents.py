"""Only the server whose agent says so is written to; the agent here speaks as Patroni's does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from fieldpost.backends.postgresql.agents import FRESH_SECONDS, Agents
from fieldpost.backends.postgresql.opening import Shard, open_shard
from fieldpost.clock import SystemClock
from fieldpost.errors import BackendUnavailableError
from tests.support import engines
from tests.support.clock import FakeClock
from tests.support.messages import a_request, at
from tests.support.waiting import DEADLINE_SECONDS, eventually


class Agent:
    """Answers `GET /primary`, on a port of its own."""

    def __init__(self) -> None:
        self.is_leader = True
        self.timeline = 1
        self.answers = 0
        self.speaks = asyncio.Event()
        self.speaks.set()
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
        await self.speaks.wait()
        status = "200 OK" if self.is_leader else "503 Service Unavailable"
        body = f'{{"state": "running", "role": "primary", "timeline": {self.timeline}}}'
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        self.answers += 1
        writer.close()


@pytest.fixture
async def agents() -> AsyncIterator[tuple[Agent, Agent]]:
    pair = (Agent(), Agent())
    yield pair
    for agent in pair:
        await agent.stop()


@pytest.fixture
async def shard(
    postgresql: engines.PostgreSQL, agents: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shard]:
    # A proxy for the outside world is nothing to servers that stand beside each other.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
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


async def test_an_agent_that_is_silent_holds_up_nobody(agents: tuple[Agent, Agent], clock: FakeClock) -> None:
    leader, silent = agents
    silent.speaks.clear()
    urls = [await agent.start() for agent in agents]
    asked = Agents(urls, shard="shard1", clock=clock, timeout_seconds=DEADLINE_SECONDS)
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
        asking = group.create_task(asked.run(client))
        for number in range(1, 10):
            await eventually(lambda: leader.answers == number)  # noqa: B023
            await eventually(lambda: _leads(asked))
            clock.advance(FRESH_SECONDS / 2)

        asking.cancel()
        silent.speaks.set()


def _leads(agents: Agents) -> bool:
    with contextlib.suppress(BackendUnavailableError):
        return agents.timeline() == 1
    return False


async def test_what_an_agent_said_is_forgotten_when_it_says_no_more(
    agents: tuple[Agent, Agent], clock: FakeClock
) -> None:
    urls = [await agent.start() for agent in agents]
    asked = Agents(urls, shard="shard1", clock=clock)
    async with httpx.AsyncClient() as client:
        await asked.ask(client)
        clock.advance(FRESH_SECONDS)
        is_fresh = _leads(asked)
        clock.advance(0.1)

    assert is_fresh
    assert not _leads(asked)


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
