"""Which parts a topology has and on which ports they listen; pure: nothing is started or written here."""

from collections.abc import Mapping, Sequence

import msgspec

from fieldpost.cluster.engines import etcd, patroni, pgbouncer, rabbitmq, redis
from fieldpost.cluster.topology import ROLES, Topology

Ports = Mapping[str, int]


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One PostgreSQL cluster with its pool."""

    number: int
    nodes: Sequence[patroni.Node]
    pool: pgbouncer.Pool

    @property
    def name(self) -> str:
        """In settings and logs."""
        return f"shard{self.number}"


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a role."""

    role: str
    number: int
    port: int

    @property
    def name(self) -> str:
        """Among the parts."""
        return f"{self.role}-{self.number}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs."""

    topology: Topology
    etcd: Sequence[etcd.Node]
    shards: Sequence[Shard]
    name_port: int
    rabbitmq: Sequence[rabbitmq.Node]
    redis: Sequence[redis.Node]
    instances: Sequence[Instance]
    #: Where NGINX tells about itself; its own port is not planned but given.
    status_port: int


def slots(topology: Topology) -> Sequence[str]:
    """The names of all ports but NGINX's, each engine's complete: one taken unasked collides one day."""
    return [
        *(f"etcd-{n}.{part}" for n in _up_to(topology.etcd_nodes) for part in ("client", "peer")),
        *(
            f"{patroni.node_name(shard, n)}.{part}"
            for shard in _up_to(topology.shards)
            for n in _up_to(topology.database_nodes)
            for part in ("postgresql", "agent")
        ),
        *(f"pgbouncer-{shard}" for shard in _up_to(topology.shards)),
        "epmd",
        *(f"rabbitmq-{n}.{part}" for n in _up_to(topology.broker_nodes) for part in ("amqp", "management", "distribution")),
        *(f"redis-{n}.{part}" for n in _up_to(topology.redis_nodes) for part in ("client", "bus")),
        *(f"{role}-{n}" for role in ROLES for n in _up_to(topology.roles.get(role, 0))),
        "nginx.status",
    ]  # fmt: skip


def make(topology: Topology, ports: Ports, *, peer_host: str) -> Plan:
    """The plan of a topology whose slots all have a port.

    Args:
        peer_host: a loopback address of this cluster alone; see `etcd`.
    """
    return Plan(
        topology=topology,
        etcd=[
            etcd.Node(number=n, port=ports[f"etcd-{n}.client"], peer_host=peer_host, peer_port=ports[f"etcd-{n}.peer"])
            for n in _up_to(topology.etcd_nodes)
        ],
        shards=[_shard(number, topology, ports) for number in _up_to(topology.shards)],
        name_port=ports["epmd"],
        rabbitmq=[
            rabbitmq.Node(
                number=n,
                ports=rabbitmq.Ports(
                    amqp=ports[f"rabbitmq-{n}.amqp"],
                    management=ports[f"rabbitmq-{n}.management"],
                    distribution=ports[f"rabbitmq-{n}.distribution"],
                ),
            )
            for n in _up_to(topology.broker_nodes)
        ],
        redis=[
            redis.Node(number=n, port=ports[f"redis-{n}.client"], bus_port=ports[f"redis-{n}.bus"])
            for n in _up_to(topology.redis_nodes)
        ],
        instances=[
            Instance(role=role, number=n, port=ports[f"{role}-{n}"])
            for role in ROLES
            for n in _up_to(topology.roles.get(role, 0))
        ],
        status_port=ports["nginx.status"],
    )


def _shard(number: int, topology: Topology, ports: Ports) -> Shard:
    names = [(n, patroni.node_name(number, n)) for n in _up_to(topology.database_nodes)]
    nodes = [
        patroni.Node(shard=number, number=n, port=ports[f"{name}.postgresql"], agent_port=ports[f"{name}.agent"])
        for n, name in names
    ]
    name = f"pgbouncer-{number}"
    pool = pgbouncer.Pool(name=name, port=ports[name], servers=[node.port for node in nodes])
    return Shard(number=number, nodes=nodes, pool=pool)


def _up_to(count: int) -> range:
    return range(1, count + 1)
