"""Redis nodes of which somebody has begun to make a cluster, and was ended in the middle."""

import subprocess

from fieldpost.cluster.engines import redis
from tests.support.engines import Engines, Redis
from tests.support.waiting import eventually_now


def _tell(node: redis.Node, *words: str) -> str:
    command = ["redis-cli", "-e", "-p", str(node.port), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def test_a_cluster_half_made_is_made_and_one_that_is_made_keeps_what_it_holds(engine_place: Engines) -> None:
    began = Redis(engine_place, joined=False)
    first, second, third = began.nodes
    _tell(first, "cluster", "addslotsrange", "0", "5460")
    _tell(second, "cluster", "addslotsrange", "5461", "10922")
    _tell(first, "cluster", "meet", "127.0.0.1", str(second.port), str(second.bus_port))

    began.join()
    made = _tell(third, "cluster", "info")
    _tell(first, "set", "{06S}", "kept")
    began.join()

    assert "cluster_state:ok" in made
    assert "cluster_known_nodes:3" in made
    assert _tell(first, "get", "{06S}").strip() == "kept"


def _masters(began: Redis) -> list[str]:
    """Whom each node follows, by its port; empty for those that follow nobody."""
    roles = [_tell(node, "info", "replication") for node in began.nodes]
    return [text.partition("master_port:")[2].partition("\n")[0] for text in roles]


def test_replicas_that_were_not_told_whom_to_follow_are_told_and_nobody_else_is_touched(engine_place: Engines) -> None:
    began = Redis(engine_place, replicas=1)
    before = _masters(began)
    first, second, _third, _told, known, strange = began.nodes
    assert [bool(port) for port in before] == [False, False, False, True, True, True]
    _tell(first, "set", "{06S}", "kept")
    # As they stand when their making ends too early: one has heard of the others, one has not.
    for node in (known, strange):
        _tell(node, "cluster", "reset", "hard")
    _tell(known, "cluster", "meet", "127.0.0.1", str(second.port), str(second.bus_port))
    eventually_now(lambda: "cluster_slots_assigned:16384" in _tell(known, "cluster", "info"))

    began.join()
    after = _masters(began)

    assert after[:4] == before[:4]
    assert sorted(after[3:]) == sorted(str(node.port) for node in began.nodes[:3])
    assert _tell(first, "get", "{06S}").strip() == "kept"

    began.join()
    assert _masters(began) == after
