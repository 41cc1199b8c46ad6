import pytest

from fieldpost.cluster import topology
from fieldpost.cluster.topology import Size, Topology
from fieldpost.errors import ConfigError


def test_the_usual_size_is_the_designs() -> None:
    usual = topology.choose(None, size=None, shards=None)

    assert (usual.etcd_nodes, usual.database_nodes, usual.broker_nodes, usual.redis_nodes) == (1, 3, 1, 3)
    assert usual.roles == {"gateway": 3, "hub": 2, "processor": 3, "worker": 4, "watcher": 1}


def test_in_a_full_one_any_node_may_die() -> None:
    full = topology.choose(None, size=Size.FULL, shards=None)

    assert (full.etcd_nodes, full.database_nodes, full.broker_nodes, full.redis_nodes) == (3, 3, 3, 9)


def test_a_small_one_has_no_replicas() -> None:
    small = topology.choose(None, size=Size.SMALL, shards=2)

    assert (small.etcd_nodes, small.database_nodes, small.broker_nodes, small.redis_nodes) == (1, 1, 1, 3)
    assert set(small.roles.values()) == {1}


def test_what_a_directory_holds_is_kept_when_nothing_else_is_wanted() -> None:
    kept = topology.scale(topology.choose(None, size=Size.SMALL, shards=2), "worker", 6)

    assert topology.choose(kept, size=None, shards=None) == kept
    assert topology.choose(kept, size=Size.SMALL, shards=2) == kept


def test_another_size_than_a_directory_holds_is_refused() -> None:
    kept = topology.choose(None, size=Size.SMALL, shards=2)

    with pytest.raises(ConfigError, match="size small"):
        topology.choose(kept, size=Size.FULL, shards=None)
    with pytest.raises(ConfigError, match="2 shards"):
        topology.choose(kept, size=None, shards=3)


@pytest.mark.parametrize("shards", [0, -1, 9])
def test_impossible_numbers_of_shards_are_refused(shards: int) -> None:
    with pytest.raises(ConfigError):
        topology.choose(None, size=None, shards=shards)


@pytest.mark.parametrize(("role", "count"), [("gatekeeper", 1), ("gateway", -1), ("gateway", 65)])
def test_impossible_scales_are_refused(role: str, count: int) -> None:
    with pytest.raises(ConfigError):
        topology.scale(Topology(), role, count)


@pytest.mark.parametrize(
    ("shards", "ranges"),
    [(1, [(1, None)]), (2, [(1, 999), (1000, None)]), (3, [(1, 999), (1000, 1999), (2000, None)])],
)
def test_shards_share_all_devices_without_gap_or_overlap(shards: int, ranges: list[tuple[int, int | None]]) -> None:
    assert topology.ranges(shards) == ranges
