"""Opens shared state over Redis Cluster, or one Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from fieldpost.backends.redis_cluster.address import parse_url
from fieldpost.backends.redis_cluster.bus import RedisBus
from fieldpost.backends.redis_cluster.instances import RedisInstances
from fieldpost.backends.redis_cluster.leases import RedisLeases
from fieldpost.backends.redis_cluster.values import RedisValues
from fieldpost.background import running
from fieldpost.clock import Clock
from fieldpost.ports.instances import Instances
from fieldpost.ports.shared import Bus, Leases, Shared, SharedValues


class RedisShared(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, over one link."""

    bus: Bus
    values: SharedValues
    leases: Leases
    instances: Instances


@asynccontextmanager
async def open_shared(url: str, *, clock: Clock, instance: str) -> AsyncIterator[Shared]:
    """Shared state while the context lasts; opens also while Redis is away, and connects once it is there.

    Args:
        url: see `fieldpost.backends.redis_cluster.address`.
        instance: what Redis lists this process as.

    Raises:
        ConfigError: the URL is none.
    """
    bus = RedisBus(parse_url(url), clock=clock, name=instance)
    async with running(bus.run()):
        await bus.link.until_looked()
        yield RedisShared(
            bus=bus,
            values=RedisValues(bus.link),
            leases=RedisLeases(bus.link, clock),
            instances=RedisInstances(bus.link),
        )
