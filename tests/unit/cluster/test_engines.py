"""What is written for engines to read; that they read it is shown in tests/integration."""

from pathlib import Path

import pytest

from fieldpost.cluster import node_addresses, plan, topology
from fieldpost.cluster.engines import etcd, nginx, patroni, pgbouncer, rabbitmq
from fieldpost.cluster.engines.redis import Node
from fieldpost.cluster.topology import Size


@pytest.fixture
def planned() -> plan.Plan:
    chosen = topology.choose(None, size=Size.FULL, shards=1)
    ports = {name: 21_000 + number for number, name in enumerate(plan.slots(chosen))}
    return plan.make(chosen, ports, peer_host="127.70.1.1")


def test_etcds_nodes_know_each_other_by_their_own_address(tmp_path: Path, planned: plan.Plan) -> None:
    etcd.server(tmp_path, planned.etcd[0], nodes=planned.etcd, user=None)

    text = (tmp_path / "etcd" / "1" / "etcd.yml").read_text()
    peers = ",".join(f"{node.name}=http://127.70.1.1:{node.peer_port}" for node in planned.etcd)
    assert f"initial-cluster: {peers}\n" in text


def test_an_agent_agrees_through_every_etcd_and_commits_wait_for_a_replica(tmp_path: Path, planned: plan.Plan) -> None:
    shard = planned.shards[0]

    program = patroni.agent(
        tmp_path, shard.nodes[1], program=Path("/p/patroni"), agreed_through=planned.etcd, user=None
    )

    text = (tmp_path / "postgresql-1-2" / "patroni.yml").read_text()
    assert f"hosts: {', '.join(node.address for node in planned.etcd)}\n" in text
    assert "synchronous_mode: quorum\n" in text
    assert "ttl: 20\n" in text
    # Replicas that never answer do not hold up commits until Patroni gives them up.
    assert "wal_sender_timeout: 5s\n" in text
    assert program.name == "patroni-1-2"
    assert (tmp_path / "postgresql-1-2" / "patroni.yml").stat().st_mode & 0o777 == 0o600


def test_a_pool_is_pointed_at_the_primary_and_at_every_server(tmp_path: Path, planned: plan.Plan) -> None:
    pool = planned.shards[0].pool

    pgbouncer.server(tmp_path, pool, primary=pool.servers[2], user=None)

    lines = (tmp_path / "pgbouncer-1" / "pgbouncer.ini").read_text().splitlines()
    assert any(line.startswith(f"fieldpost = host=127.0.0.1 port={pool.servers[2]} ") for line in lines)
    assert any(line.startswith(f"fieldpost_1 = host=127.0.0.1 port={pool.servers[0]} ") for line in lines)
    assert "pool_mode = transaction" in lines


def test_nobody_ready_is_told_by_the_balancer_itself(tmp_path: Path) -> None:
    nginx.server(tmp_path, nginx.Balancer(host="127.0.0.1", port=5000, status_port=21_000), user=None)
    path = tmp_path / "nginx" / "upstreams.conf"
    assert "$gateways_ready { default 0; }" in path.read_text()

    nginx.write_upstreams(tmp_path, nginx.Upstreams(gateways=[21_001], generation=7), user=None)

    assert "$gateways_ready { default 1; }" in path.read_text()
    assert "$hubs_ready { default 0; }" in path.read_text()
    assert "$generation { default 7; }" in path.read_text()
    assert "server 127.0.0.1:21001 " in path.read_text()


def test_redis_nodes_find_each_other_after_their_ports_have_moved(tmp_path: Path) -> None:
    for number in (1, 2):
        own = {1: "", 2: ""} | {number: "myself,"}
        directory = tmp_path / "redis" / str(number)
        directory.mkdir(parents=True)
        (directory / "nodes.conf").write_text(
            f"aaa 127.0.0.1:20001@20002 {own[1]}master - 0 0 1 connected 0-8191\n"
            f"bbb 127.0.0.1:20003@20004 {own[2]}master - 0 0 2 connected 8192-16383\n"
        )

    # Each takes what was the other's: one at a time would send both to the same place.
    now = [Node(number=1, port=20_003, bus_port=20_004), Node(number=2, port=20_001, bus_port=20_002)]
    node_addresses.follow(tmp_path, now)

    for number in (1, 2):
        first, second = (tmp_path / "redis" / str(number) / "nodes.conf").read_text().splitlines()
        assert first.startswith("aaa 127.0.0.1:20003@20004 ")
        assert second.startswith("bbb 127.0.0.1:20001@20002 ")


def test_what_a_broker_leaves_when_it_crashes_is_bounded(tmp_path: Path, planned: plan.Plan) -> None:
    program = rabbitmq.server(tmp_path, planned.rabbitmq[0], nodes=planned.rabbitmq, name_port=21_999, user=None)

    assert 0 < int(program.environment["ERL_CRASH_DUMP_BYTES"]) <= 8_388_608
