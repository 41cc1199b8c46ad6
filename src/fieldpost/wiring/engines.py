"""Engines, chosen by URL: the embedded ones where none is given."""

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import msgspec

from fieldpost.backends.addresses import scheme_of
from fieldpost.clock import Clock
from fieldpost.errors import ConfigError
from fieldpost.policy.partition import ShardMap, ShardRange
from fieldpost.ports.broker import Broker
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.ports.ledger import Ledger
from fieldpost.ports.ledger_values import Reads
from fieldpost.ports.shared import Shared
from fieldpost.services.queues import declare_queues, requests_queue
from fieldpost.services.remembering import (
    RECORDED_AT_MOST,
    REMEMBER_SECONDS,
    remember_queued,
    remember_recorded,
)
from fieldpost.settings import Settings
from fieldpost.wiring.pools import check_pools

#: The shard that owns every device where there is one database.
_ONLY_SHARD = "shard1"


class Engines(msgspec.Struct, frozen=True, kw_only=True):
    """One of each, open."""

    broker: Broker
    ledgers: Mapping[str, Ledger]
    shards: ShardMap
    devices: DeviceDirectory
    shared: Shared
    reads: Mapping[str, Reads] = {}


def are_shareable(settings: Settings) -> bool:
    """Whether other processes can work over the same engines."""
    return bool(settings.broker.url and settings.database.shards and settings.shared.url)


async def open_engines(
    settings: Settings, clock: Clock, *, models: Iterable[str], instance: str, stack: AsyncExitStack
) -> Engines:
    """Opens them and makes the queues; they close with the stack.

    Raises:
        ConfigError: a URL of an unknown scheme, shards with gaps or overlaps.
        DataDirectoryInUseError: another process holds the embedded engines.
        UnavailableError: an engine is away.
    """
    embedded = None
    if not (settings.broker.url and settings.database.shards):
        from fieldpost.backends.sqlite.opening import lock_directory, open_database

        directory = Path(settings.data.directory)
        stack.enter_context(lock_directory(directory))
        embedded = await stack.enter_async_context(open_database(directory / "fieldpost.db"))
    shared = await _open_shared(settings.shared.url, clock, instance, stack)
    shards = shard_map(settings)
    reads: Mapping[str, Reads] = {}
    if settings.database.shards:
        ledgers, devices, reads = await _open_shards(settings, clock, stack)
    else:
        assert embedded is not None
        ledgers, devices = {_ONLY_SHARD: embedded.ledger}, embedded.devices
    broker: Broker
    if settings.broker.url:
        broker = await _open_broker(settings.broker.url, clock, instance, stack)
    else:
        assert embedded is not None
        broker = embedded.broker
    await declare_queues(broker, shards=shards.shards, models=models, settings=settings.queues)
    if embedded is not None and broker is embedded.broker:
        for shard in shards.shards:
            # The process that accepted them remembered them; this one is asked about them too.
            await remember_queued(embedded.broker.browse(requests_queue(shard)), shared.values)
        # Last: what is recorded stands against what still waits under the same key.
        now = clock.now()
        recorded = embedded.newest.pages(
            since=now - timedelta(seconds=REMEMBER_SECONDS), until=now, limit=RECORDED_AT_MOST
        )
        await remember_recorded(recorded, shared.values)
    return Engines(broker=broker, ledgers=ledgers, shards=shards, devices=devices, shared=shared, reads=reads)


def shard_map(settings: Settings) -> ShardMap:
    """Which shard owns which devices.

    Raises:
        ConfigError: gaps or overlaps.
    """
    shards = settings.database.shards
    if not shards:
        return ShardMap([ShardRange(shard=_ONLY_SHARD, first=1)])
    return ShardMap([ShardRange(shard=shard.name, first=shard.first, last=shard.last) for shard in shards])


async def _open_broker(url: str, clock: Clock, instance: str, stack: AsyncExitStack) -> Broker:
    match scheme_of(url):
        case "amqp" | "amqps":
            from fieldpost.backends.rabbitmq.opening import open_broker

            return await stack.enter_async_context(open_broker(url, clock=clock, instance=instance))
        case _:
            # Not repeated: without a scheme, a password may be the first word.
            raise ConfigError("broker.url: unknown scheme; known are amqp, amqps")


async def _open_shared(url: str, clock: Clock, instance: str, stack: AsyncExitStack) -> Shared:
    if not url:
        from fieldpost.backends.memory import memory_shared

        return memory_shared(clock)
    match scheme_of(url):
        case "redis" | "rediss" | "redis-cluster" | "rediss-cluster":
            from fieldpost.backends.redis_cluster.opening import open_shared

            return await stack.enter_async_context(open_shared(url, clock=clock, instance=instance))
        case _:
            raise ConfigError("shared.url: unknown scheme; known are redis-cluster, rediss-cluster, redis, rediss")


async def _open_shards(
    settings: Settings, clock: Clock, stack: AsyncExitStack
) -> tuple[Mapping[str, Ledger], DeviceDirectory, Mapping[str, Reads]]:
    """The shards' ledgers, the directory of devices, which lives in the shard of device 1, and counts of their reads."""
    from fieldpost.backends.postgresql.opening import open_shard

    database = settings.database
    check_pools(database)
    opened = {
        shard.name: await stack.enter_async_context(
            open_shard(
                shard.name,
                shard.url,
                replicas=shard.replicas,
                agents=shard.agents,
                pool_size=database.pool_size,
                clock=clock,
                synchronous=database.synchronous,
                lag_seconds=database.lag_seconds,
            )
        )
        for shard in database.shards
    }
    first = opened[shard_map(settings).shard_of(1)]
    ledgers = {name: shard.ledger for name, shard in opened.items()}
    return ledgers, first.devices, {name: shard.reads for name, shard in opened.items()}
