"""How every part of a running cluster stands: what `cluster status` shows.

All are asked at once, so that many who do not answer take no longer than one.
"""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from fieldpost.cluster import processes
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import patroni
from fieldpost.cluster.part import Part
from fieldpost.cluster.plan import Shard
from fieldpost.cluster.topology import ROLES

_ENGINES = ("balancer", *ROLES, "broker", "name server", "shared state", "pool", "agent", "agreement")
_ASK_SECONDS = 2.0
#: Stands for what nobody tells.
UNKNOWN = "unknown"
_UNTOLD = patroni.Member(name="", role=UNKNOWN, state=UNKNOWN, lag=UNKNOWN)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One line of it.

    Args:
        role: of a server `unknown` where nobody tells it.
        lag_bytes: of a replica behind its primary; None for everything else, and where it is not known.
    """

    part: str
    role: str
    pid: int | None
    port: int
    resident_bytes: int
    health: str
    lag_bytes: int | None = None
    restarts: int = 0


async def all_of(cluster: Cluster) -> Sequence[Standing]:
    """Every part, doors first, and each PostgreSQL server after its agent."""
    children = processes.families()
    order = {role: number for number, role in enumerate(_ENGINES)}
    parts = sorted(cluster.parts.values(), key=lambda part: order.get(part.role, len(order)))
    healths, servers = await asyncio.gather(
        asyncio.gather(*(_health(part, cluster) for part in parts)), _servers(cluster)
    )
    lines: list[Standing] = []
    for part, health in zip(parts, healths, strict=True):
        lines.append(_of_part(part, health, children))
        lines += [
            _of_server(cluster, node, servers.get(node.name, _UNTOLD), children)
            for node in cluster.servers.values()
            if node.name == part.name
        ]
    return lines


def _of_part(part: Part, health: str, children: Mapping[int, Sequence[int]]) -> Standing:
    return Standing(
        part=part.name,
        role=part.role,
        pid=part.pid,
        port=part.port,
        resident_bytes=0 if part.pid is None else _resident_bytes(part.pid, children),
        health=health,
        restarts=part.restarts,
    )


def _of_server(
    cluster: Cluster, node: patroni.Node, server: patroni.Member, children: Mapping[int, Sequence[int]]
) -> Standing:
    pid = processes.postmaster(patroni.data_directory(cluster.directory, node))
    role = "primary" if server.is_primary else UNKNOWN if server is _UNTOLD else "replica"
    return Standing(
        part=node.server_name,
        role=role,
        pid=pid,
        port=node.port,
        resident_bytes=0 if pid is None else _resident_bytes(pid, children),
        health=_server_health(pid, server),
        lag_bytes=server.lag if role == "replica" and isinstance(server.lag, int) else None,
    )


def _server_health(pid: int | None, server: patroni.Member) -> str:
    if pid is None:
        return "down"
    return "paused" if processes.is_frozen(pid) else server.state


async def _health(part: Part, cluster: Cluster) -> str:
    if part.pid is None:
        return "down"
    if part.is_paused:
        return "paused"
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            is_ready = await part.is_ready()
    except (OSError, TimeoutError):
        is_ready = False
    if is_ready:
        return "ready"
    return "draining" if part.name in cluster.leaving else "not ready"


async def _servers(cluster: Cluster) -> Mapping[str, patroni.Member]:
    """What is told of each server: by any agent of its shard, or by its own, which knows less but needs etcd for nothing."""
    shards = await asyncio.gather(*(_servers_of(cluster, shard) for shard in cluster.plan.shards))
    return {member.name: member for shard in shards for member in shard}


async def _servers_of(cluster: Cluster, shard: Shard) -> Sequence[patroni.Member]:
    parts = [(node, cluster.parts.get(node.name)) for node in shard.nodes]
    asked = [node for node, part in parts if part is not None and part.pid is not None and not part.is_paused]
    told, own = await asyncio.gather(
        asyncio.gather(*(patroni.members(node) for node in asked)),
        asyncio.gather(*(patroni.own(node) for node in asked)),
    )
    agreed = next((members for members in told if members), ())
    return [*(member for member in own if member is not None), *agreed]


def _resident_bytes(pid: int, children: Mapping[int, Sequence[int]]) -> int:
    # What children share with their parent is counted once.
    private = sum(processes.resident_bytes(child, private=True) for child in processes.descendants(pid, children))
    return processes.resident_bytes(pid) + private
