"""All shards in one processor: what one of them lacks is nothing to the others."""

import asyncio
import random
from pathlib import Path

import msgspec

from fieldpost.backends.sqlite.opening import open_database
from fieldpost.clock import SystemClock
from fieldpost.messages.devices import Credential, DeviceKind
from fieldpost.messages.requests import Channel, Input, RequestBody
from fieldpost.observability import Metrics
from fieldpost.policy.partition import ShardMap, ShardRange
from fieldpost.ports.backends import Backends
from fieldpost.ports.ledger import Ledger
from fieldpost.roles.processor import Processor
from fieldpost.services.intake import Intake
from fieldpost.services.queues import declare_queues
from fieldpost.settings import DataSettings, ModelSettings, Settings
from fieldpost.wiring.opening import open_backends
from tests.support.waiting import eventually

HERE = Credential(device_id=1, kind=DeviceKind.TRUCK, key_hash=bytes(32), disabled=False)
THERE = Credential(device_id=1000, kind=DeviceKind.TRUCK, key_hash=bytes(32), disabled=False)


async def _a_ledger_that_is_away(path: Path) -> Ledger:
    async with open_database(path) as embedded:
        return embedded.ledger


async def _with_a_second_shard(backends: Backends, settings: Settings, ledger: Ledger) -> Backends:
    shards = ShardMap([ShardRange(shard="shard1", first=1, last=999), ShardRange(shard="shard2", first=1000)])
    await declare_queues(backends.broker, shards=shards.shards, models=backends.model_names, settings=settings.queues)
    return msgspec.structs.replace(backends, shards=shards, ledgers={**backends.ledgers, "shard2": ledger})


async def test_a_shard_whose_ledger_is_away_holds_up_no_other(tmp_path: Path) -> None:
    settings = Settings(
        model=ModelSettings(url="echo:", name="echo"), data=DataSettings(directory=str(tmp_path / "data"))
    )
    clock, metrics = SystemClock(), Metrics()
    away = await _a_ledger_that_is_away(tmp_path / "away.db")
    async with open_backends(settings, clock) as only_one:
        backends = await _with_a_second_shard(only_one, settings, away)
        intake = Intake(settings=settings, backends=backends, clock=clock, source=random.Random(1), metrics=metrics)
        processor = Processor(settings=settings, backends=backends, clock=clock, metrics=metrics, instance="one")
        running = asyncio.create_task(processor.run())
        try:
            body = RequestBody(input=Input(prompt="a question"))
            await intake.accept(THERE, body, channel=Channel.HTTP)
            await intake.accept(HERE, body, channel=Channel.HTTP)

            await eventually(lambda: _holds(backends, "work.echo.normal", 1))

            # What cannot be recorded waits.
            assert await _holds(backends, "requests.shard2", 1)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert await backends.shared.leases.acquire("dispatcher.shard1", holder="two", ttl_seconds=1)


async def _holds(backends: Backends, queue: str, messages: int) -> bool:
    return messages == await backends.broker.depth(queue)
