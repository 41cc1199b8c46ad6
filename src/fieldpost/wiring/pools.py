"""The connections that this process's pools may open, held against what the servers take."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from fieldpost.errors import ConfigError
from fieldpost.policy.connections import overdrawn
from fieldpost.settings import DatabaseSettings

_PORT = 5432


def check_pools(database: DatabaseSettings) -> None:
    """Shards and replicas that lead to one server, or one PgBouncer, have its connections together.

    Raises:
        ConfigError: they may open more than it takes.
    """
    found = overdrawn(_pools(database), max_connections=database.max_connections)
    for server, total in found.items():
        raise ConfigError(
            f"the pools that lead to {server} may open {total} connections, and a server takes {database.max_connections}"
            " (database.max_connections); set database.pool_size lower, or spread them over more servers"
        )


def _pools(database: DatabaseSettings) -> Iterator[tuple[str, int]]:
    for shard in database.shards:
        for url in (shard.url, *shard.replicas):
            if server := _server(url):
                yield server, database.pool_size


def _server(url: str) -> str:
    """Its host and port; nothing where they cannot be told: never the URL itself, which may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}"
