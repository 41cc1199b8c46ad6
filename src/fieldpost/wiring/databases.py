"""The tables of all shards, brought up to date, and how they stand; and the directory of devices alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from fieldpost.clock import Clock
from fieldpost.errors import ConfigError, FieldpostError
from fieldpost.ports.devices import DeviceDirectory
from fieldpost.settings import Settings, ShardSettings
from fieldpost.wiring.engines import shard_map


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's; `revision` is None where there are none yet, `problem` says why nothing is known."""

    shard: str
    revision: str | None = None
    newest: str
    problem: str = ""

    @property
    def are_current(self) -> bool:
        """Whether this version can work with them."""
        return not self.problem and self.revision == self.newest


async def upgrade(settings: Settings) -> AsyncIterator[Tables]:
    """Brings one shard after the other up to date; safe to run twice at once.

    Raises:
        ConfigError: no shards, gaps or overlaps, a database of a newer version.
        UnavailableError: a shard is away.
    """
    from fieldpost.backends.postgresql import opening
    from fieldpost.backends.relational.upgrading import HEAD

    for shard in _shards(settings):
        await opening.upgrade(shard.url)
        yield Tables(shard=shard.name, revision=HEAD, newest=HEAD)


async def status(settings: Settings) -> AsyncIterator[Tables]:
    """How each shard's tables stand, also of those that are away.

    Raises:
        ConfigError: no shards, gaps or overlaps.
    """
    from fieldpost.backends.postgresql import opening
    from fieldpost.backends.relational.upgrading import HEAD

    for shard in _shards(settings):
        try:
            yield Tables(shard=shard.name, revision=await opening.revision(shard.url), newest=HEAD)
        except FieldpostError as error:
            yield Tables(shard=shard.name, newest=HEAD, problem=str(error))


@asynccontextmanager
async def open_directory(settings: Settings, clock: Clock) -> AsyncIterator[DeviceDirectory]:
    """The directory of devices, in the shard of device 1 or embedded, without anything else.

    Raises:
        ConfigError: shards with gaps or overlaps, or there is no database yet.
        DataDirectoryInUseError: another process holds the embedded database.
    """
    if settings.database.shards:
        from fieldpost.backends.postgresql.opening import open_shard

        name = shard_map(settings).shard_of(1)
        (shard,) = (shard for shard in settings.database.shards if shard.name == name)
        synchronous = settings.database.synchronous
        async with open_shard(
            name, shard.url, agents=shard.agents, pool_size=2, clock=clock, synchronous=synchronous
        ) as opened:
            yield opened.devices
        return
    from fieldpost.backends.sqlite.opening import lock_directory, open_database

    path = Path(settings.data.directory) / "fieldpost.db"
    if not path.exists():
        raise ConfigError(f"there is no {path}")
    with lock_directory(path.parent):
        async with open_database(path) as embedded:
            yield embedded.devices


def _shards(settings: Settings) -> tuple[ShardSettings, ...]:
    if not settings.database.shards:
        raise ConfigError("there are no shards (database.shards); the embedded database looks after itself")
    shard_map(settings)
    return settings.database.shards
