"""Servers that pools could ask for too much."""

from fieldpost.policy.connections import overdrawn


def test_pools_are_added_up_by_server() -> None:
    pools = [("one", 300), ("two", 500), ("one", 201)]

    assert {"one": 501} == overdrawn(pools, max_connections=500)
    assert {} == overdrawn(pools, max_connections=501)
    assert {} == overdrawn([], max_connections=1)
