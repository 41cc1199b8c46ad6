"""What a pool may ask of its servers."""

from pathlib import Path

import msgspec
import pytest

from fieldpost.cluster.engines import patroni, pgbouncer
from fieldpost.errors import ConfigError

_POOL = pgbouncer.Pool(name="pgbouncer-1", port=1, servers=[2, 3, 4])


def test_its_pools_keep_5_to_100_connections_to_each_server_as_planned(tmp_path: Path) -> None:
    pgbouncer.server(tmp_path, _POOL, primary=2, user=None)

    lines = (tmp_path / "pgbouncer-1" / "pgbouncer.ini").read_text().splitlines()
    assert {"min_pool_size = 5", "default_pool_size = 100", "pool_mode = transaction"} <= set(lines)


def test_pools_that_may_open_more_than_a_server_takes_do_not_start(tmp_path: Path) -> None:
    # Twice: a server is asked as the primary, and by its own number.
    most = (patroni.MAX_CONNECTIONS - 20) // 2
    pgbouncer.server(tmp_path, msgspec.structs.replace(_POOL, pool_size=most), primary=2, user=None)

    with pytest.raises(ConfigError, match="may open 482 connections to a server that takes 500"):
        pgbouncer.server(tmp_path, msgspec.structs.replace(_POOL, pool_size=most + 1), primary=2, user=None)
