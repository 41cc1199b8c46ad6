import random

import pytest

from fieldpost.cluster import plan, topology
from fieldpost.cluster.topology import Size, Topology


def _planned(size: Size, shards: int = 1) -> tuple[Topology, plan.Plan, dict[str, int]]:
    chosen = topology.choose(None, size=size, shards=shards)
    ports = {name: 21_000 + number for number, name in enumerate(plan.slots(chosen))}
    return chosen, plan.make(chosen, ports, peer_host="127.70.1.1"), ports


@pytest.mark.parametrize("size", list(Size))
@pytest.mark.parametrize("shards", [1, 3])
def test_every_port_is_somebodys_and_nobody_shares_one(size: Size, shards: int) -> None:
    _, planned, ports = _planned(size, shards)

    used = [
        *(port for node in planned.etcd for port in (node.port, node.peer_port)),
        *(port for shard in planned.shards for node in shard.nodes for port in (node.port, node.agent_port)),
        *(shard.pool.port for shard in planned.shards),
        planned.name_port,
        *(p for n in planned.rabbitmq for p in (n.ports.amqp, n.ports.management, n.ports.distribution)),
        *(port for node in planned.redis for port in (node.port, node.bus_port)),
        *(instance.port for instance in planned.instances),
        planned.status_port,
    ]
    assert sorted(used) == sorted(ports.values())


def test_names_are_unique_and_numbered_from_one() -> None:
    _, planned, _ = _planned(Size.DEFAULT, 2)

    names = [
        *(node.name for node in planned.etcd),
        *(name for shard in planned.shards for node in shard.nodes for name in (node.name, node.server_name)),
        *(shard.pool.name for shard in planned.shards),
        *(node.name for node in planned.rabbitmq),
        *(node.name for node in planned.redis),
        *(instance.name for instance in planned.instances),
    ]
    assert len(set(names)) == len(names)
    assert {"etcd-1", "patroni-2-3", "postgresql-1-1", "pgbouncer-2", "rabbitmq-1", "redis-3", "worker-4"} <= set(names)


def test_a_pool_leads_to_the_primary_and_to_each_server() -> None:
    _, planned, _ = _planned(Size.DEFAULT)

    pool = planned.shards[0].pool
    assert pool.servers == [node.port for node in planned.shards[0].nodes]
    assert pool.server_urls == [f"{pool.url}_1", f"{pool.url}_2", f"{pool.url}_3"]


def test_more_instances_leave_all_others_where_they_are() -> None:
    chosen, planned, ports = _planned(Size.SMALL)
    wanted = topology.scale(chosen, "gateway", 3)
    more = {**ports, "gateway-2": 22_000, "gateway-3": 22_001}

    scaled = plan.make(wanted, more, peer_host="127.70.1.1")

    assert [each for each in scaled.instances if each.name in {one.name for one in planned.instances}] == list(
        planned.instances
    )
    assert len(scaled.instances) == len(planned.instances) + 2


def test_random_hosts_of_nodes_stay_on_this_machine() -> None:
    from fieldpost.cluster.engines import etcd

    hosts = {etcd.own_host(random.Random(seed)) for seed in range(50)}

    assert len(hosts) > 40
    assert all(host.startswith("127.") and host != "127.0.0.1" for host in hosts)
