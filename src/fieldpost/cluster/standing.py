"""How every part of a running cluster stands: what `cluster status` shows."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from fieldpost.cluster import processes
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import patroni
from fieldpost.cluster.part import Part
from fieldpost.cluster.topology import ROLES

_ENGINES = ("balancer", *ROLES, "broker", "name server", "shared state", "pool", "agent", "agreement")
_ASK_SECONDS = 2.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One line of it.

    Args:
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
    healths, members = await asyncio.gather(
        asyncio.gather(*(_health(part, cluster) for part in parts)), _members(cluster)
    )
    lines: list[Standing] = []
    for part, health in zip(parts, healths, strict=True):
        lines.append(_of_part(part, health, children))
        lines += [
            _of_server(cluster, node, members.get(node.name), children)
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
    cluster: Cluster, node: patroni.Node, member: patroni.Member | None, children: Mapping[int, Sequence[int]]
) -> Standing:
    pid = processes.postmaster(patroni.data_directory(cluster.directory, node))
    is_primary = member is not None and member.role == "leader"
    return Standing(
        part=node.server_name,
        role="primary" if is_primary else "replica",
        pid=pid,
        port=node.port,
        resident_bytes=0 if pid is None else _resident_bytes(pid, children),
        health=_server_health(pid, member),
        lag_bytes=member.lag if member is not None and isinstance(member.lag, int) and not is_primary else None,
    )


def _server_health(pid: int | None, member: patroni.Member | None) -> str:
    if pid is None:
        return "down"
    if processes.is_frozen(pid):
        return "paused"
    return "unknown" if member is None else member.state


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


async def _members(cluster: Cluster) -> Mapping[str, patroni.Member]:
    found: dict[str, patroni.Member] = {}
    for shard in cluster.plan.shards:
        for node in shard.nodes:
            part = cluster.parts.get(node.name)
            if part is None or part.pid is None or part.is_paused:
                continue
            of_shard = await patroni.members(node)
            if of_shard:
                found |= patroni.by_name(of_shard)
                break
    return found


def _resident_bytes(pid: int, children: Mapping[int, Sequence[int]]) -> int:
    # What children share with their parent is counted once.
    private = sum(processes.resident_bytes(child, private=True) for child in processes.descendants(pid, children))
    return processes.resident_bytes(pid) + private
