"""The tables of all shards: brought up to date, and how they stand."""

from collections.abc import AsyncIterator

import msgspec

from fieldpost.errors import ConfigError, FieldpostError
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


def _shards(settings: Settings) -> tuple[ShardSettings, ...]:
    if not settings.database.shards:
        raise ConfigError("there are no shards (database.shards); the embedded database looks after itself")
    shard_map(settings)
    return settings.database.shards
