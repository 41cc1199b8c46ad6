"""What shared state over Redis does when Redis fails: nothing raises, nothing hangs, and all of it comes back by itself."""

import asyncio
import binascii
import gc
import signal
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest

from fieldpost.backends.redis_cluster import channels, client, link
from fieldpost.backends.redis_cluster.opening import open_shared
from fieldpost.background import running
from fieldpost.clock import SystemClock
from fieldpost.messages.events import CredentialsChanged
from fieldpost.messages.instances import Instance
from fieldpost.ports.shared import Shared, Subscription
from tests.support.engines import Engines, Redis, SingleRedis
from tests.support.redis import command
from tests.support.waiting import eventually

#: Spread over all nodes.
CHANNELS = [f"devices.{number}" for number in range(24)]
KEYS = [f"key-{number}" for number in range(24)]
#: The last slot of the first of three masters.
FIRST_RANGE = 5460
#: Ten times and more what any call may take: who hangs is found, a busy machine is not blamed.
HANGING_SECONDS = 15.0


class Listener:
    """Hears everything, and counts the losses."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.heard: set[int] = set()
        self.losses = 0

    def has_lost_more_than(self, losses: int) -> bool:
        return self.losses > losses

    async def listen(self) -> None:
        while True:
            events = await self._subscription.receive()
            self.heard |= {event.device_id for event in events if isinstance(event, CredentialsChanged)}
            self.losses += not events


class House:
    """Two processes' views of one Redis, one of which listens."""

    def __init__(self, here: Shared, there: Shared, listener: Listener) -> None:
        self.here = here
        self.there = there
        self.listener = listener
        self._number = 0

    async def bus_works(self) -> bool:
        """Whether all channels bring what is said on them; asked until it is so."""
        first = self._number
        for channel in CHANNELS:
            await self.here.bus.publish(channel, [CredentialsChanged(device_id=self._number)])
            self._number += 1
        wanted = set(range(first, self._number))
        for _ in range(20):
            if wanted <= self.listener.heard:
                return True
            await asyncio.sleep(0.02)
        return False

    async def values_work(self) -> bool:
        async with asyncio.timeout(HANGING_SECONDS):
            await self.here.values.put([(key, key.encode()) for key in KEYS], ttl_seconds=600)
            found = await asyncio.gather(*(self.there.values.get(key) for key in KEYS))
        assert all(value in (None, key.encode()) for key, value in zip(KEYS, found, strict=True))
        return None not in found

    async def works(self) -> None:
        await eventually(self.values_work)
        await eventually(self.bus_works)


@asynccontextmanager
async def _house(url: str) -> AsyncIterator[House]:
    async with (
        open_shared(url, clock=SystemClock(), instance="here") as here,
        open_shared(url, clock=SystemClock(), instance="there") as there,
        there.bus.subscribe(CHANNELS) as subscription,
        asyncio.TaskGroup() as group,
    ):
        listener = Listener(subscription)
        listening = group.create_task(listener.listen())
        yield House(here, there, listener)
        listening.cancel()


async def _all_calls_return(shared: Shared) -> None:
    instance = _instance("away")
    async with asyncio.timeout(HANGING_SECONDS):
        await shared.values.put([("k", b"v")], ttl_seconds=60)
        await shared.values.get("k")
        await shared.bus.publish("devices.1", [CredentialsChanged(device_id=1)])
        async with shared.bus.subscribe(["devices.200"]):
            pass
        await shared.leases.acquire("l", holder="a", ttl_seconds=60)
        await shared.leases.release("l", holder="a")
        await shared.instances.announce(instance, ttl_seconds=60)
        await shared.instances.list()
        await shared.instances.withdraw(instance.id)


def _instance(identity: str) -> Instance:
    return Instance(id=identity, role="hub", host="127.0.0.1", port=1, started_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def cluster(engine_place: Engines) -> Redis:
    """Its nodes are killed, frozen and started again; each test leaves six of them running."""
    return Redis(engine_place, replicas=1)


@pytest.fixture
def single(engine_place: Engines) -> SingleRedis:
    return SingleRedis(engine_place)


async def _masters(cluster: Redis) -> Sequence[int]:
    roles = [(node.number, await command(node.port, "ROLE")) for node in cluster.nodes]
    return [number for number, role in roles if b"master" in role]


async def test_a_killed_master_is_replaced_and_the_loss_is_told(cluster: Redis) -> None:
    async with _house(cluster.url) as house:
        await house.works()
        losses = house.listener.losses
        victim = (await _masters(cluster))[0]

        await asyncio.to_thread(cluster.kill, victim)
        await _all_calls_return(house.here)
        await house.works()

        assert house.listener.losses > losses
        await asyncio.to_thread(cluster.restart, victim)


async def test_a_frozen_master_holds_nobody_up_and_is_replaced(cluster: Redis) -> None:
    async with _house(cluster.url) as house:
        await house.works()
        losses = house.listener.losses
        victim = (await _masters(cluster))[0]

        cluster.send(victim, signal.SIGSTOP)
        try:
            await _all_calls_return(house.here)
            await house.works()
        finally:
            cluster.send(victim, signal.SIGCONT)

        assert house.listener.losses > losses
        await house.works()


async def test_all_nodes_may_die_and_all_comes_back(cluster: Redis) -> None:
    async with _house(cluster.url) as house:
        await house.works()
        assert await house.here.leases.acquire("mine", holder="here", ttl_seconds=600)
        await house.here.instances.announce(_instance("here"), ttl_seconds=600)
        assert [_instance("here")] == [one for one in await house.here.instances.list() if one.id == "here"]

        for node in cluster.nodes:
            await asyncio.to_thread(cluster.kill, node.number)
        losses = house.listener.losses
        await _all_calls_return(house.here)
        assert await house.here.values.get(KEYS[0]) is None
        assert await house.here.leases.acquire("mine", holder="here", ttl_seconds=600), "who has a lease keeps it"
        assert not await house.there.leases.acquire("mine", holder="there", ttl_seconds=600)
        assert "here" in {one.id for one in await house.here.instances.list()}, "what was last heard stands"
        await eventually(lambda: house.listener.losses > losses + 2)

        for node in cluster.nodes:
            await asyncio.to_thread(cluster.start, node.number)
        await house.works()
        assert await house.here.leases.acquire("new", holder="here", ttl_seconds=600)
        assert not await house.there.leases.acquire("new", holder="there", ttl_seconds=600)
        await house.here.instances.announce(_instance("anew"), ttl_seconds=600)
        assert ["anew"] == [one.id for one in await house.there.instances.list()]


async def test_a_part_that_stays_away_takes_the_others_not_with_it(engine_place: Engines) -> None:
    cluster = await asyncio.to_thread(Redis, engine_place)
    async with _house(cluster.url) as house:
        await house.works()
        await asyncio.to_thread(cluster.kill, 1)

        async def some_values_work() -> bool:
            await house.here.values.put([(key, key.encode()) for key in KEYS], ttl_seconds=600)
            found = await asyncio.gather(*(house.there.values.get(key) for key in KEYS))
            return len(KEYS) / 3 < sum(value is not None for value in found) < len(KEYS)

        async def some_channels_work() -> bool:
            house.listener.heard.clear()
            assert not await house.bus_works()
            return len(house.listener.heard) > len(CHANNELS) / 3

        await eventually(some_values_work)
        await eventually(some_channels_work)
        losses = house.listener.losses
        await eventually(lambda: house.listener.losses > losses)

        await asyncio.to_thread(cluster.restart, 1)
        await house.works()


async def test_what_many_put_at_the_moment_a_node_dies_is_there_where_nodes_live(engine_place: Engines) -> None:
    cluster = await asyncio.to_thread(Redis, engine_place)
    keys = [f"key-{number}" for number in range(50)]
    async with _house(cluster.url) as house:
        await house.works()
        await asyncio.to_thread(cluster.kill, 1)
        await asyncio.gather(*(house.here.values.put([(key, b"")], ttl_seconds=600) for key in keys))

        held = [await command(node.port, "KEYS fieldpost:value:*") for node in cluster.nodes[1:]]
        expected = {
            key for key in keys if binascii.crc_hqx(f"fieldpost:value:{key}".encode(), 0) % 16_384 > FIRST_RANGE
        }
        assert expected == {key for key in keys if f"fieldpost:value:{key}\r\n".encode() in b"".join(held)}


async def test_work_goes_on_without_redis_once_another_holders_time_is_over(single: SingleRedis) -> None:
    async with _house(single.url) as house:
        assert await house.there.leases.acquire("l", holder="there", ttl_seconds=0.5)
        assert not await house.here.leases.acquire("l", holder="here", ttl_seconds=600)

        await asyncio.to_thread(single.kill)

        async def is_free() -> bool:
            return await house.here.leases.acquire("l", holder="here", ttl_seconds=0.5)

        await eventually(is_free)


async def test_it_opens_while_redis_is_away_and_connects_later(single: SingleRedis) -> None:
    await asyncio.to_thread(single.kill)

    async with _house(single.url) as house:
        await _all_calls_return(house.here)
        assert await house.here.values.get("k") is None
        await asyncio.to_thread(single.restart)

        await house.works()
        assert house.listener.losses


async def test_a_connection_that_was_cut_is_made_again_and_the_loss_is_told(redis_cluster: Redis) -> None:
    async with _house(redis_cluster.url) as house:
        for _ in range(3):
            await house.works()
            losses = house.listener.losses

            for node in redis_cluster.nodes:
                await command(node.port, "CLIENT KILL TYPE pubsub SKIPME no")

            await eventually(partial(house.listener.has_lost_more_than, losses))
        await house.works()


async def test_devices_that_come_and_go_all_the_time_are_no_loss(
    redis_cluster: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine's late answers are none of it, and it is looked at all the time.
    for module, name in ((channels, "CALL_SECONDS"), (client, "CALL_SECONDS"), (client, "_GUARD_SECONDS")):
        monkeypatch.setattr(module, name, HANGING_SECONDS)
    monkeypatch.setattr(link, "_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(link, "_SOONEST_SECONDS", 0.01)
    states: list[object] = []

    async with (
        open_shared(redis_cluster.url, clock=SystemClock(), instance="here") as here,
        here.bus.subscribe(CHANNELS) as subscription,
    ):
        listener = Listener(subscription)

        async def come_and_go(number: int) -> None:
            for _ in range(10):
                await subscription.follow([f"passing.{number}"])
                states.append(here.bus.link.state)  # type: ignore[attr-defined]
                await subscription.unfollow([f"passing.{number}"])

        async with running(listener.listen()):
            await asyncio.gather(*(come_and_go(number) for number in range(100)))

            assert not listener.losses
            assert {link.State.WHOLE} == set(states)


async def test_eviction_takes_values_and_never_leases_nor_instances(single: SingleRedis) -> None:
    await command(single.port, "CONFIG SET maxmemory 8mb")
    await command(single.port, "CONFIG SET maxmemory-policy volatile-ttl")
    async with open_shared(single.url, clock=SystemClock(), instance="test") as shared:
        assert await shared.leases.acquire("l", holder="a", ttl_seconds=600)
        await shared.instances.announce(_instance("here"), ttl_seconds=600)

        for number in range(40):
            await shared.values.put([(f"{number}-{key}", bytes(10_000)) for key in range(100)], ttl_seconds=60)

        assert b"evicted_keys:0\r\n" not in await command(single.port, "INFO stats")
        assert not await shared.leases.acquire("l", holder="b", ttl_seconds=600)
        assert [_instance("here")] == await shared.instances.list()


async def test_a_strange_entry_keeps_nobody_out_of_the_registry_nor_from_reading_it(single: SingleRedis) -> None:
    strange = ["nonsense", "nan", '""', "999999999999999nonsense", r'"999999999999999\xa1\xff"']
    async with open_shared(single.url, clock=SystemClock(), instance="test") as shared:
        await shared.instances.announce(_instance("here"), ttl_seconds=600)
        for number, description in enumerate(strange):
            await command(single.port, f"HSET fieldpost:instances strange {description}")

            assert [_instance("here")] == await shared.instances.list()
            await shared.instances.announce(_instance(f"late-{number}"), ttl_seconds=600)
            assert f"late-{number}" in {one.id for one in await shared.instances.list()}
            await shared.instances.withdraw(f"late-{number}")


async def test_leaving_leaves_nothing_behind(redis_cluster: Redis) -> None:
    before = asyncio.all_tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            async with _house(redis_cluster.url) as house:
                await house.works()
        gc.collect()

    assert before == asyncio.all_tasks()

    async def nobody_is_connected() -> bool:
        lists = [await command(node.port, "CLIENT LIST") for node in redis_cluster.nodes]
        return not any(b"name=here" in listed or b"name=there" in listed for listed in lists)

    await eventually(nobody_is_connected)
