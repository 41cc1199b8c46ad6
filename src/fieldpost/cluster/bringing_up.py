"""The order in which a cluster comes up and goes down: engines side by side, then the schema, then the roles; and back."""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial

from fieldpost.cluster import asking, configuration, node_addresses
from fieldpost.cluster.child import Program
from fieldpost.cluster.cluster import READY_SECONDS, Cluster
from fieldpost.cluster.engines import etcd, nginx, patroni, pgbouncer, rabbitmq, redis, redis_joining
from fieldpost.cluster.part import Part
from fieldpost.cluster.plan import Instance, Shard
from fieldpost.cluster.ports import is_free
from fieldpost.cluster.readiness import until_ready
from fieldpost.cluster.topology import ROLES
from fieldpost.cluster.users import make_directory
from fieldpost.errors import FieldpostError
from fieldpost.observability import get_logger

#: A role finishes what it has in hand within its own bound; this is beyond it.
_DRAIN_SECONDS = 30.0
_UPGRADE_SECONDS = 60.0
#: Beyond what all stages may take one after the other, and less than `down` waits.
_DOWN_SECONDS = 100.0

log = get_logger()


async def bring_up(cluster: Cluster, *, with_roles: bool) -> None:
    """Starts everything, and returns when all of it serves.

    Raises:
        BackendUnavailableError: a part does not.
    """
    plan = cluster.plan
    make_directory(cluster.directory / "roles")
    configuration.write(cluster.directory, plan, own=cluster.own)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_databases(cluster))
        tasks.create_task(_broker(cluster))
        tasks.create_task(_shared(cluster))
        tasks.create_task(_balancer(cluster))
    if with_roles:
        await _upgrade(cluster)
        async with asyncio.TaskGroup() as tasks:
            for instance in plan.instances:
                tasks.create_task(cluster.launch(role_part(cluster, instance)))


async def take_down(cluster: Cluster, *, seconds: float = _DOWN_SECONDS) -> None:
    """Stops everything in order: roles drain while all they need is there; replicas end before their primary.

    It always ends: what runs even so is left over.

    Args:
        seconds: after which it waits no longer.
    """
    cluster.is_ready = False
    agents = _named(cluster, "agent")
    primaries = [name for name in agents if name in cluster.primaries.values()]
    replicas = [name for name in agents if name not in primaries]
    try:
        async with asyncio.timeout(seconds):
            await _in_turn(cluster, _named(cluster, *ROLES), _named(cluster, "balancer", "pool"))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_in_turn(cluster, replicas, primaries))
                tasks.create_task(_in_turn(cluster, _named(cluster, "broker", "shared state")))
            await _in_turn(cluster, _named(cluster, "agreement", "name server"))
    except TimeoutError:
        log.warning("parts_not_stopped_in_time", parts=[part.name for part in cluster.parts.values() if part.pid])
    finally:
        cluster.let_go()


def _named(cluster: Cluster, *roles: str) -> Sequence[str]:
    return [part.name for part in cluster.parts.values() if part.role in roles]


async def _in_turn(cluster: Cluster, *stages: Sequence[str]) -> None:
    for names in stages:
        try:
            await cluster.stop(names)
        except (FieldpostError, OSError) as error:
            log.warning("part_not_stopped", reason=str(error))


def role_part(cluster: Cluster, instance: Instance) -> Part:
    """One process of a role, not started yet."""
    program = Program(
        name=instance.name,
        command=[sys.executable, "-m", "fieldpost", instance.role, "--port", str(instance.port)],
        directory=make_directory(cluster.directory / "roles"),
        environment={"FIELDPOST_CONFIG": str(configuration.path(cluster.directory)), "PYTHONUNBUFFERED": "1"},
        stop_seconds=_DRAIN_SECONDS,
    )

    async def is_ready() -> bool:
        return (await asking.get(instance.port, "/ready")).status == 200

    return cluster.part(program, role=instance.role, port=instance.port, is_ready=is_ready)


async def _databases(cluster: Cluster) -> None:
    nodes = cluster.plan.etcd
    programs = [etcd.server(cluster.directory, node, nodes=nodes, user=cluster.user) for node in nodes]
    async with asyncio.TaskGroup() as tasks:
        for node, program in zip(nodes, programs, strict=True):
            part = cluster.part(program, role="agreement", port=node.port, is_ready=node.is_ready)
            tasks.create_task(cluster.launch(part))
    async with asyncio.TaskGroup() as tasks:
        for shard in cluster.plan.shards:
            tasks.create_task(_shard(cluster, shard))


async def _shard(cluster: Cluster, shard: Shard) -> None:
    async with asyncio.TaskGroup() as tasks:
        for node in shard.nodes:
            program = patroni.agent(
                cluster.directory,
                node,
                program=cluster.patroni_program,
                agreed_through=cluster.plan.etcd,
                user=cluster.user,
            )
            part = cluster.part(
                program, role="agent", port=node.agent_port, is_ready=partial(patroni.is_serving, node), node=node
            )
            tasks.create_task(cluster.launch(part))
    primary = await _first_primary(cluster, shard)
    await patroni.make_database(primary, pgbouncer.DATABASE)
    cluster.primaries[shard.name] = primary.name
    program = pgbouncer.server(cluster.directory, shard.pool, primary=primary.port, user=cluster.user)
    await cluster.launch(cluster.part(program, role="pool", port=shard.pool.port, is_ready=shard.pool.is_ready))


async def _first_primary(cluster: Cluster, shard: Shard) -> patroni.Node:
    """Who takes writes; old data is a replica's until its agent has the lock again."""
    found: list[patroni.Node] = []

    async def is_there() -> bool:
        primary = await primary_of(shard)
        found.extend([primary] if primary is not None else [])
        return bool(found)

    await until_ready(f"the primary of {shard.name}", is_there, clock=cluster.clock, seconds=READY_SECONDS)
    return found[0]


async def primary_of(shard: Shard) -> patroni.Node | None:
    """The node that takes writes, as its own agent says."""
    for node in shard.nodes:
        if await node.is_primary():
            return node
    return None


async def _broker(cluster: Cluster) -> None:
    plan = cluster.plan
    names = rabbitmq.name_server(cluster.directory, plan.name_port, cluster.user)

    async def is_listening() -> bool:
        return not is_free(plan.name_port)

    await cluster.launch(cluster.part(names, role="name server", port=plan.name_port, is_ready=is_listening))
    async with asyncio.TaskGroup() as tasks:
        for node in plan.rabbitmq:
            program = rabbitmq.server(
                cluster.directory, node, nodes=plan.rabbitmq, name_port=plan.name_port, user=cluster.user
            )
            part = cluster.part(program, role="broker", port=node.ports.amqp, is_ready=node.serves)
            tasks.create_task(cluster.launch(part, is_ready=partial(node.is_ready, nodes=len(plan.rabbitmq))))


async def _shared(cluster: Cluster) -> None:
    nodes = cluster.plan.redis
    node_addresses.follow(cluster.directory, nodes)
    parts = []
    for node in nodes:
        program = redis.server(cluster.directory, node, cluster.user)
        parts.append(cluster.part(program, role="shared state", port=node.port, is_ready=node.is_in_cluster))
    async with asyncio.TaskGroup() as tasks:
        for node, part in zip(nodes, parts, strict=True):
            tasks.create_task(cluster.launch(part, is_ready=node.answers))
    await redis_joining.join(nodes, replicas=cluster.plan.topology.redis_replicas, clock=cluster.clock)
    for node in nodes:
        await until_ready(node.name, node.is_in_cluster, clock=cluster.clock, seconds=READY_SECONDS)


async def _balancer(cluster: Cluster) -> None:
    balancer = cluster.balancer
    program = nginx.server(cluster.directory, balancer, user=cluster.user)
    await cluster.launch(cluster.part(program, role="balancer", port=balancer.port, is_ready=balancer.is_ready))


async def _upgrade(cluster: Cluster) -> None:
    """Brings the schema of all shards to what the roles know."""
    program = Program(
        name="db-upgrade",
        command=[sys.executable, "-m", "fieldpost", "db", "upgrade"],
        directory=cluster.directory / "roles",
        environment={"FIELDPOST_CONFIG": str(configuration.path(cluster.directory))},
    )
    await cluster.run_to_end(program, seconds=_UPGRADE_SECONDS)
