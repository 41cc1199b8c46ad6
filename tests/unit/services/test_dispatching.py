"""Two shards over the same work queues: neither hides what the other lost, nor takes all the room."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from fieldpost.backends.local_folder import LocalFolders
from fieldpost.backends.memory import memory_shared
from fieldpost.backends.sqlite.opening import Embedded, open_database
from fieldpost.messages.requests import Priority, Request
from fieldpost.policy.partition import ShardMap, ShardRange
from fieldpost.ports.backends import Backends
from fieldpost.services.dispatching import Dispatcher
from fieldpost.services.leases import HeldLease
from fieldpost.services.queues import declare_queues, work_queue
from fieldpost.settings import Settings
from tests.support.clock import FakeClock
from tests.support.messages import a_request
from tests.support.waiting import eventually

_QUEUE = work_queue("echo", Priority.NORMAL)


class Shards(msgspec.Struct, frozen=True, kw_only=True):
    """Both shards' parts, over the first one's broker."""

    databases: dict[str, Embedded]
    dispatchers: dict[str, Dispatcher]
    clock: FakeClock

    async def record(self, shard: str, number: int, *, dispatched: bool = True) -> list[Request]:
        device_id = 1 if shard == "a" else 1000
        now = self.clock.now()
        requests = [a_request(device_id=device_id, model="echo", accepted_at=now) for _ in range(number)]
        ids = {request.id for request in requests} if dispatched else set()
        await self.databases[shard].ledger.records.record(requests, dispatched=ids, now=now)
        return requests

    async def take(self, shard: str) -> int:
        dispatch = self.databases[shard].ledger.dispatch
        now = self.clock.now()
        return len(await dispatch.take("echo", Priority.NORMAL, after_device=0, limit=1000, now=now))

    async def depth(self) -> int:
        return await self.databases["a"].broker.depth(_QUEUE)


@pytest.fixture
async def shards(tmp_path: Path) -> AsyncIterator[Shards]:
    settings, clock = Settings(), FakeClock()
    async with open_database(tmp_path / "a.db") as a, open_database(tmp_path / "b.db") as b:
        await declare_queues(a.broker, shards=["a", "b"], models=["echo"], settings=settings.queues)
        shared = memory_shared(clock)
        backends = Backends(
            broker=a.broker,
            ledgers={"a": a.ledger, "b": b.ledger},
            shards=ShardMap([ShardRange(shard="a", first=1, last=999), ShardRange(shard="b", first=1000)]),
            devices=a.devices,
            shared=shared,
            folders=LocalFolders(tmp_path / "Cloud"),
            model_names=("echo",),
            models={},
            library=None,
            pepper=b"",
            operators={},
        )
        dispatchers = {
            name: Dispatcher(
                settings=settings,
                backends=backends,
                clock=clock,
                shard=name,
                lease=HeldLease(leases=shared.leases, clock=clock, name=name, holder="one", ttl_seconds=10),
            )
            for name in ("a", "b")
        }
        yield Shards(databases={"a": a, "b": b}, dispatchers=dispatchers, clock=clock)


async def test_what_one_shard_lost_is_found_while_another_keeps_the_queue_filled(shards: Shards) -> None:
    await shards.record("a", 50)
    await shards.dispatchers["b"].publish(await shards.record("b", 200))

    shards.clock.advance(900)
    await shards.dispatchers["a"].find_lost()
    assert 0 == await shards.take("a")
    shards.clock.advance(200)
    await shards.dispatchers["a"].find_lost()

    assert 50 == await shards.take("a")


async def _is_topped_up(shards: Shards) -> bool:
    return await shards.depth() > 200


async def test_a_shard_has_a_share_of_a_queue_that_another_one_floods_and_no_more(shards: Shards) -> None:
    flood, few = shards.dispatchers["b"], shards.dispatchers["a"]
    await flood.publish(await shards.record("b", 200))
    assert set() == await flood.choose([a_request(device_id=1000, model="echo")])
    await shards.record("a", 80, dispatched=False)

    running = [asyncio.create_task(dispatcher.run()) for dispatcher in (few, flood)]
    await eventually(partial(_is_topped_up, shards))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    assert 30 == await shards.take("a")
    assert 250 == await shards.depth()
