"""Which shard owns which device ids: explicit ranges, checked for gaps and overlaps.

Source: design, "Where the design contradicts itself": ranges are explicit, versioned, checked.
"""

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from fieldpost.errors import ConfigError


class ShardRange(msgspec.Struct, frozen=True, kw_only=True):
    """Device ids from `first` to `last`, both included; `last` None means no end."""

    shard: str
    first: int
    last: int | None = None


class ShardMap:
    """The checked ranges of all shards."""

    def __init__(self, ranges: Iterable[ShardRange]) -> None:
        self._ranges = sorted(ranges, key=lambda shard_range: shard_range.first)
        self._firsts = [shard_range.first for shard_range in self._ranges]
        self._check()

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of all shards, each once, by their first device id."""
        return tuple(dict.fromkeys(shard_range.shard for shard_range in self._ranges))

    def shard_of(self, device_id: int) -> str:
        """The shard that owns this device id.

        Raises:
            ConfigError: device_id < 1.
        """
        if device_id < 1:
            raise ConfigError("device ids are positive", device_id=device_id)
        return self._ranges[bisect_right(self._firsts, device_id) - 1].shard

    def _check(self) -> None:
        expected: int | None = 1
        for shard_range in self._ranges:
            if expected is None or shard_range.first < expected:
                raise ConfigError(f"shard {shard_range.shard!r} overlaps the range before it")
            if shard_range.first > expected:
                raise ConfigError(f"device ids {expected} to {shard_range.first - 1} belong to no shard")
            if shard_range.last is not None and shard_range.last < shard_range.first:
                raise ConfigError(f"shard {shard_range.shard!r} ends before it begins")
            expected = None if shard_range.last is None else shard_range.last + 1
        if expected is not None:
            raise ConfigError(f"device ids from {expected} on belong to no shard")
