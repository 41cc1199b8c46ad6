"""How many of everything a cluster on one machine has; pure."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise

import msgspec

from fieldpost.errors import ConfigError

#: What runs requests, in the order in which it is shown.
ROLES = ("gateway", "hub", "processor", "worker", "watcher")
MAX_SHARDS = 8
_MAX_INSTANCES = 64
#: Device ids of all shards but the last; its own goes on without end.
_SHARD_DEVICES = 1000


class Size(StrEnum):
    """How much of it may die."""

    SMALL = "small"
    DEFAULT = "default"
    FULL = "full"


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """What stays as it is once a data directory was made; `roles` alone may be scaled."""

    size: Size = Size.DEFAULT
    shards: int = 1
    roles: Mapping[str, int] = {}

    @property
    def etcd_nodes(self) -> int:
        """Nodes that agree on who leads."""
        return 3 if self.size is Size.FULL else 1

    @property
    def database_nodes(self) -> int:
        """Of each shard: the primary and its replicas."""
        return 1 if self.size is Size.SMALL else 3

    @property
    def broker_nodes(self) -> int:
        """Nodes of RabbitMQ."""
        return 3 if self.size is Size.FULL else 1

    @property
    def redis_replicas(self) -> int:
        """Of each of the three masters."""
        return 2 if self.size is Size.FULL else 0

    @property
    def redis_nodes(self) -> int:
        """Masters and replicas."""
        return 3 * (1 + self.redis_replicas)


_COUNTS: Mapping[Size, Mapping[str, int]] = {
    Size.SMALL: {"gateway": 1, "hub": 1, "processor": 1, "worker": 1, "watcher": 1},
    Size.DEFAULT: {"gateway": 3, "hub": 2, "processor": 3, "worker": 4, "watcher": 1},
    Size.FULL: {"gateway": 3, "hub": 2, "processor": 3, "worker": 4, "watcher": 1},
}


def choose(kept: Topology | None, *, size: Size | None, shards: int | None) -> Topology:
    """The topology of a data directory: the one that was kept, or a new one.

    Args:
        size: None takes what is there.
        shards: the same.

    Raises:
        ConfigError: another one than was kept is wanted: what lies there cannot be turned into it.
    """
    if shards is not None and not 1 <= shards <= MAX_SHARDS:
        raise ConfigError(f"a cluster has 1 to {MAX_SHARDS} shards, not {shards}")
    if kept is None:
        chosen = size or Size.DEFAULT
        return Topology(size=chosen, shards=shards or 1, roles=_COUNTS[chosen])
    if size not in (None, kept.size):
        raise ConfigError(f"this data directory holds a cluster of size {kept.size.value}: choose another --data")
    if shards not in (None, kept.shards):
        raise ConfigError(f"this data directory holds a cluster of {kept.shards} shards: choose another --data")
    return kept


def scale(topology: Topology, role: str, count: int) -> Topology:
    """The same with so many instances of a role.

    Raises:
        ConfigError: no such role, or a number that is not possible.
    """
    if role not in ROLES:
        raise ConfigError(f"there is no role {role}; there are {', '.join(ROLES)}")
    if not 0 <= count <= _MAX_INSTANCES:
        raise ConfigError(f"a role has 0 to {_MAX_INSTANCES} instances, not {count}")
    return msgspec.structs.replace(topology, roles={**topology.roles, role: count})


def ranges(shards: int) -> Sequence[tuple[int, int | None]]:
    """First and last device id of every shard: 1–999, 1000–1999, … and the rest; None is without end."""
    firsts = [max(1, number * _SHARD_DEVICES) for number in range(shards)]
    return [*((first, after - 1) for first, after in pairwise(firsts)), (firsts[-1], None)]
