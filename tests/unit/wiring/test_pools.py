"""Pools that ask for more connections than a server takes are refused at the start."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fieldpost.errors import ConfigError
from fieldpost.settings import Settings, load
from fieldpost.wiring.engines import open_engines
from fieldpost.wiring.pools import check_pools
from tests.support.clock import FakeClock


def _settings(tmp_path: Path, *, pool_size: int, replicas: int, max_connections: int = 500) -> Settings:
    shards = [
        {
            "name": f"shard{number}",
            "first": 1 + 100 * number,
            **({"last": 100 + 100 * number} if number == 0 else {}),
            "url": f"postgresql://user@pool/shard{number}",
            "replicas": [f"postgresql://user@pool:5432/replica{number}-{replica}" for replica in range(replicas)],
        }
        for number in range(2)
    ]
    return load(
        {},
        overrides={
            "data": {"directory": str(tmp_path)},
            "broker": {"url": "amqp://nowhere"},
            "database": {"shards": shards, "pool_size": pool_size, "max_connections": max_connections},
        },
    )


async def test_pools_that_may_ask_a_server_for_more_than_it_takes_are_refused_at_the_start(tmp_path: Path) -> None:
    settings = _settings(tmp_path, pool_size=100, replicas=2)

    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="pool:5432 may open 600 connections, and a server takes 500"):
            await open_engines(settings, FakeClock(), models=[], instance="one", stack=stack)


def test_pools_that_fit_are_not_refused(tmp_path: Path) -> None:
    check_pools(_settings(tmp_path, pool_size=83, replicas=2).database)
    check_pools(_settings(tmp_path, pool_size=100, replicas=2, max_connections=600).database)
    check_pools(Settings().database)


@pytest.mark.parametrize("url", ["postgresql://user:pa/secret@pool/one", "postgresql://user:secret@[pool/one"])
def test_a_url_that_cannot_be_read_here_is_neither_counted_nor_told(url: str) -> None:
    shard = {"name": "shard1", "url": url, "replicas": [url] * 9}

    check_pools(load({}, overrides={"database": {"shards": [shard], "pool_size": 100}}).database)


@pytest.mark.parametrize("size", [0, 101])
def test_a_pool_has_1_to_100_connections(tmp_path: Path, size: int) -> None:
    with pytest.raises(ConfigError, match="pool_size"):
        _settings(tmp_path, pool_size=size, replicas=0)
