"""Fixtures that every kind of test may use; nothing clever."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import engines
from tests.support.clock import FakeClock
from tests.support.server import Server, running_server

#: What takes longest is begun first: nobody waits for one last long file.
_FIRST = ("faults", "integration", "acceptance")


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start, also where the run itself is a shell's background job and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep their tests together: those of one share a server."""
    items.sort(key=lambda item: _place(Path(item.location[0]).parts))


def _place(parts: tuple[str, ...]) -> int:
    return next((place for place, folder in enumerate(_FIRST) if folder in parts), len(_FIRST))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running Fieldpost for all tests of a module, with the library as its model."""
    with running_server(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Where a test's own server keeps everything."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def engine_place() -> Iterator[engines.Engines]:
    """Where this run's real engines live; gone at its end."""
    with engines.engines() as place:
        yield place


@pytest.fixture(scope="session")
def rabbitmq(engine_place: engines.Engines) -> engines.RabbitMQ:
    """One RabbitMQ node for all tests that leave it alive; those that harm it start their own."""
    return engines.RabbitMQ(engine_place)


@pytest.fixture(scope="session")
def redis_cluster(engine_place: engines.Engines) -> engines.Redis:
    """One Redis Cluster of three masters for all tests that leave it alive."""
    return engines.Redis(engine_place)


@pytest.fixture(scope="session")
def postgresql(engine_place: engines.Engines) -> engines.PostgreSQL:
    """One PostgreSQL server for all tests that leave it alive; each makes databases of its own in it."""
    return engines.PostgreSQL(engine_place)
