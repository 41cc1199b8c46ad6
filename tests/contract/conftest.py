"""Every backend behind a port; each contract test runs over all of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fieldpost.backends.postgresql.opening import open_shard
from fieldpost.backends.sqlite.opening import Embedded, open_database
from fieldpost.clock import SystemClock
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.ledger import Ledger
from tests.support import engines


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """What every relational backend offers."""

    ledger: Ledger
    devices: DeviceDirectory


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    async with open_database(tmp_path / "fieldpost.db") as engines:
        yield engines


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        async with open_database(tmp_path / "fieldpost.db") as embedded:
            yield Database(ledger=embedded.ledger, devices=embedded.devices)
        return
    server: engines.PostgreSQL = request.getfixturevalue("postgresql")
    url = server.make_database()
    async with open_shard("shard1", url, pool_size=10, clock=SystemClock(), synchronous="off") as shard:
        yield Database(ledger=shard.ledger, devices=shard.devices)
    server.drop_database(url)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return database.ledger


@pytest.fixture
def directory(database: Database) -> DeviceDirectory:
    return database.devices
