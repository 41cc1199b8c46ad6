"""A process whose engines are not there yet is alive, says what it waits for, and can be stopped at any moment."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fieldpost.settings import load
from fieldpost.supervisor.running import run
from tests.support import engines
from tests.support.relaying import Relay, listening
from tests.support.server import free_port
from tests.support.waiting import eventually


class Silent:
    """Takes connections and says nothing on them, like an engine that hangs or is behind a firewall."""

    def __init__(self) -> None:
        self.met = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until its client has left."""
        self.met.set()
        while await reader.read(1024):
            pass
        writer.close()


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    engine = Silent()
    async with await asyncio.start_server(engine.serve, "127.0.0.1", 0) as server:
        engine.port = int(server.sockets[0].getsockname()[1])
        yield engine


class Gateway:
    """One that starts, in the test's own process."""

    def __init__(self, directory: Path, urls: Mapping[str, str]) -> None:
        self.port = free_port()
        self.stop = asyncio.Event()
        self.is_open = asyncio.Event()
        (directory / "fieldpost.toml").write_text(
            f'[server]\nport = {self.port}\n[data]\ndirectory = "{directory}/data"\n[broker]\nurl = "{urls["broker"]}"\n'
            f'[shared]\nurl = "{urls["shared"]}"\n'
            f'[[database.shards]]\nname = "shard1"\nurl = "{urls["database"]}"\n'
        )
        self._settings = load({}, file=directory / "fieldpost.toml")

    async def run(self) -> None:
        """Until it has stopped."""
        await run(
            self._settings, stop=self.stop, roles=["gateway", "hub"], on_listening=lambda _port: self.is_open.set()
        )


@asynccontextmanager
async def _starting(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway; stopped and gone at the end."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(gateway.run())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=30) as client:
            yield client
        gateway.stop.set()
        await asyncio.wait_for(running, 30)


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/health")
    except httpx.TransportError:
        return False
    return True


@pytest.mark.parametrize("engine", ["shared", "database", "broker"])
async def test_it_is_alive_not_ready_and_stopped_while_an_engine_says_nothing(
    engine: str, silent: Silent, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls = {
        "shared": f"redis://127.0.0.1:{silent.port if engine == 'shared' else free_port()}",
        "database": f"postgresql://nobody@127.0.0.1:{silent.port}/none",
        "broker": f"amqp://127.0.0.1:{silent.port}",
    }
    if engine == "broker":
        urls["database"] = request.getfixturevalue("postgresql").make_database()
    gateway = Gateway(tmp_path, urls)

    with capture_logs() as lines:
        async with _starting(gateway) as client:
            await asyncio.wait_for(silent.met.wait(), 30)
            health, ready, other = [await client.get(path) for path in ("/health", "/ready", "/v1/requests")]

    assert (200, {"status": "alive"}) == (health.status_code, health.json())
    assert (503, "not ready", "starting") == (ready.status_code, ready.json()["status"], ready.json()["reasons"][0])
    assert (503, "urn:fieldpost:problem:starting") == (other.status_code, other.json()["type"])
    assert int(other.headers["retry-after"]) >= 1
    assert not gateway.is_open.is_set()
    assert "stopped" == lines[-1]["event"]


async def test_a_stop_cuts_the_attempt_short_instead_of_awaiting_its_end(silent: Silent, tmp_path: Path) -> None:
    gateway = Gateway(
        tmp_path,
        {
            "shared": f"redis://127.0.0.1:{free_port()}",
            "database": f"postgresql://nobody@127.0.0.1:{silent.port}/none",
            "broker": f"amqp://127.0.0.1:{free_port()}",
        },
    )

    with capture_logs() as lines:
        async with _starting(gateway):
            await asyncio.wait_for(silent.met.wait(), 30)

    assert [] == [line for line in lines if line["event"] == "engines_awaited"]
    assert "stopped" == lines[-1]["event"]


async def test_it_says_what_it_waits_for_and_serves_on_the_same_connection_once_that_is_there(
    rabbitmq: engines.RabbitMQ, postgresql: engines.PostgreSQL, tmp_path: Path
) -> None:
    database = httpx.URL(postgresql.make_database())
    assert database.port is not None
    port = free_port()
    urls = {
        "shared": f"redis://127.0.0.1:{free_port()}",
        "database": str(database.copy_with(port=port)),
        "broker": rabbitmq.empty_url(),
    }
    gateway = Gateway(tmp_path, urls)

    async with _starting(gateway) as client:
        await eventually(lambda: _answers(client))

        async def is_awaiting() -> bool:
            reasons: list[str] = (await client.get("/ready")).json()["reasons"]
            return reasons[0] == "starting" and len(reasons) == 2 and reasons[1].startswith("engines are awaited: ")

        await eventually(is_awaiting)
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{gateway.port}/v1/stream")
        before = await client.get("/health")

        relay = Relay(database.port)
        async with listening(relay, port=port):
            await asyncio.wait_for(gateway.is_open.wait(), 30)
            ready, other = await client.get("/ready"), await client.get("/v1/requests")
            gateway.stop.set()

    assert (503, "1") == (refused.value.response.status_code, refused.value.response.headers["retry-after"])
    assert 200 == before.status_code
    assert (200, 401) == (ready.status_code, other.status_code)
