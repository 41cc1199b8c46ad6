import random
import socket
from pathlib import Path

import pytest

from fieldpost.cluster import plan, state, topology
from fieldpost.cluster.topology import Size
from fieldpost.errors import ConfigError, CorruptDataError, DataDirectoryInUseError


def _begun(kept: state.State | None = None, seed: int = 1) -> state.State:
    chosen = topology.choose(None, size=Size.SMALL, shards=1) if kept is None else kept.topology
    return state.begin(kept, chosen, host="127.0.0.1", port=5000, source=random.Random(seed))


def test_every_slot_gets_a_port_of_its_own() -> None:
    begun = _begun()

    assert set(begun.ports) == set(plan.slots(begun.topology))
    assert len(set(begun.ports.values())) == len(begun.ports)


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    begun = _begun()

    state.write(tmp_path, begun)

    assert state.read(tmp_path) == begun
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600
    assert _begun(begun, seed=2) == begun


def test_a_port_that_was_taken_meanwhile_is_replaced_and_no_other() -> None:
    begun = _begun()
    with socket.socket() as other:
        other.bind(("127.0.0.1", begun.ports["redis-1.client"]))
        other.listen()

        again = _begun(begun, seed=2)

    changed = {name for name in begun.ports if begun.ports[name] != again.ports[name]}
    assert changed == {"redis-1.client"}
    assert len(set(again.ports.values())) == len(again.ports)


def test_where_etcds_members_look_for_each_other_never_moves() -> None:
    begun = _begun()
    port = begun.ports["etcd-1.peer"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        assert _begun(begun, seed=2).ports["etcd-1.peer"] == port

    with socket.socket() as other:
        other.bind((begun.peer_host, port))
        other.listen()

        with pytest.raises(ConfigError, match=f"{port}.*etcd-1.peer"):
            _begun(begun, seed=2)


def test_a_running_clusters_own_ports_are_not_taken_for_others() -> None:
    begun = _begun()
    wanted = topology.scale(begun.topology, "worker", 2)
    with socket.socket() as own:
        own.bind(("127.0.0.1", begun.ports["worker-1"]))
        own.listen()

        ports = state.choose_ports(wanted, begun.ports, not_these=5000, source=random.Random(3), running=True)

    assert {name: ports[name] for name in begun.ports} == begun.ports
    assert "worker-2" in ports


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")

    with pytest.raises(CorruptDataError, match=r"cluster\.json"):
        state.read(tmp_path)


def test_one_cluster_holds_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"

    with state.hold(directory):
        with pytest.raises(DataDirectoryInUseError), state.hold(directory):
            pass
        assert directory.stat().st_mode & 0o777 == 0o711
    with state.hold(directory):
        pass


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear")
    mode = tmp_path.stat().st_mode

    with pytest.raises(ConfigError, match="not empty"), state.hold(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    assert tmp_path.stat().st_mode == mode
