"""Services over the embedded backends in a temporary directory, and a clock that is turned by hand."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fieldpost.backends.local_folder.folders import LocalFolders
from fieldpost.backends.memory import memory_shared
from fieldpost.backends.models.echo import EchoModel
from fieldpost.backends.models.library.library import DocumentLibrary
from fieldpost.backends.sqlite.opening import open_database
from fieldpost.messages.devices import Credential, DeviceKind
from fieldpost.observability import Metrics
from fieldpost.policy.partition import ShardMap, ShardRange
from fieldpost.ports.backends import Backends
from fieldpost.services.answers import Answers
from fieldpost.services.intake import Intake
from fieldpost.services.mailbox import Mailbox
from fieldpost.services.queues import declare_queues
from fieldpost.settings import ModelSettings, Settings
from tests.support.clock import FakeClock

DEVICE = Credential(device_id=1, kind=DeviceKind.TRUCK, key_hash=bytes(32), disabled=False)
OTHER = Credential(device_id=2, kind=DeviceKind.OFFICE, key_hash=bytes(32), disabled=False)


@pytest.fixture
def settings() -> Settings:
    return Settings(model=ModelSettings(url="echo:", name="echo"))


@pytest.fixture
async def backends(tmp_path: Path, settings: Settings, clock: FakeClock) -> AsyncIterator[Backends]:
    (tmp_path / "knowledge").mkdir()
    async with (
        open_database(tmp_path / "fieldpost.db") as embedded,
        DocumentLibrary(tmp_path / "knowledge", tmp_path / "library.db") as library,
    ):
        models = {"echo": EchoModel()}
        await declare_queues(embedded.broker, shards=["shard1"], models=models, settings=settings.queues)
        yield Backends(
            broker=embedded.broker,
            ledgers={"shard1": embedded.ledger},
            shards=ShardMap([ShardRange(shard="shard1", first=1)]),
            devices=embedded.devices,
            shared=memory_shared(clock),
            folders=LocalFolders(tmp_path / "Cloud"),
            model_names=tuple(models),
            models=models,
            library=library,
            pepper=b"pepper",
            operators={},
        )


@pytest.fixture
def intake(settings: Settings, backends: Backends, clock: FakeClock) -> Intake:
    return Intake(settings=settings, backends=backends, clock=clock, source=random.Random(1), metrics=Metrics())


@pytest.fixture
def mailbox(backends: Backends) -> Mailbox:
    return Mailbox(backends)


@pytest.fixture
def answers(backends: Backends, clock: FakeClock, intake: Intake, mailbox: Mailbox) -> Answers:
    return Answers(backends=backends, clock=clock, intake=intake, mailbox=mailbox)
