"""Redis nodes of which somebody has begun to make a cluster, and was ended in the middle."""

import subprocess

from fieldpost.cluster.engines import redis
from tests.support.engines import Engines, Redis


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
