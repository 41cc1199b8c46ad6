"""Makes one Redis Cluster of nodes that run, or completes one whose making was ended in the middle."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from fieldpost.clock import Clock
from fieldpost.cluster import readiness
from fieldpost.cluster.engines.redis import Node
from fieldpost.cluster.tools import output_of

_CREATE_SECONDS = 30.0
_MEET_SECONDS = 30.0


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself, and of others whether it knows them.

    Args:
        master: whom it follows; empty for a master.
        known: ids of all nodes that it has met, its own too.
    """

    id: str
    master: str
    has_slots: bool
    known: frozenset[str]


async def join(nodes: Sequence[Node], *, replicas: int, clock: Clock) -> None:
    """Makes a cluster of nodes; one that is made stays as it is, and one half made is begun anew.

    Made is one that has all of its slots; replicas that it lacks join it.

    Args:
        replicas: of each master.

    Raises:
        BackendUnavailableError: it cannot be made.
    """
    # Any of them: one that has forgotten what it knew is no reason to begin anew.
    if any([await _has_all_slots(node) for node in nodes]):
        if replicas:
            await _add_replicas(nodes, clock=clock)
        return
    # A node that somebody began to join would be refused for what it knows; one with keys in it refuses this.
    for node in nodes:
        await _run_client("-p", str(node.port), "cluster", "reset", "hard")
    addresses = [node.address for node in nodes]
    await _run_client("--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes")


def lone(views: Mapping[int, View]) -> Mapping[int, int]:
    """Nodes that neither hold slots nor follow anybody, by number, and whom each is to follow: who has fewest."""
    masters = {view.id: number for number, view in views.items() if view.has_slots}
    followers = Counter(dict.fromkeys(masters, 0))
    followers.update(view.master for view in views.values() if view.master in masters)
    chosen: dict[int, int] = {}
    for number, view in views.items():
        if masters and not view.has_slots and not view.master:
            master = min(followers, key=lambda each: (followers[each], masters[each]))
            followers[master] += 1
            chosen[number] = masters[master]
    return chosen


def read_view(text: str) -> View:
    """What `CLUSTER NODES` says."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    own = next(words for words in lines if "myself" in words[2].split(","))
    return View(
        id=own[0],
        master="" if own[3] == "-" else own[3],
        has_slots=len(own) > 8,
        known=frozenset(words[0] for words in lines if "handshake" not in words[2]),
    )


async def _add_replicas(nodes: Sequence[Node], *, clock: Clock) -> None:
    by_number = {node.number: node for node in nodes}
    views = {node.number: await _view(node) for node in nodes}
    async with asyncio.TaskGroup() as tasks:
        for number, master in lone(views).items():
            tasks.create_task(_follow(by_number[number], by_number[master], views[master].id, clock=clock))


async def _follow(node: Node, master: Node, master_id: str, *, clock: Clock) -> None:
    async def knows_master() -> bool:
        return master_id in (await _view(node)).known

    if not await knows_master():
        await _tell(node, "meet", "127.0.0.1", str(master.port), str(master.bus_port))
    # Whom it has only heard of it cannot follow.
    await readiness.until_ready(f"{node.name} in its cluster", knows_master, clock=clock, seconds=_MEET_SECONDS)
    await _tell(node, "replicate", master_id)


async def _view(node: Node) -> View:
    return read_view(await _tell(node, "nodes"))


async def _tell(node: Node, *words: str) -> str:
    return await _run_client("-p", str(node.port), "cluster", *words)


async def _run_client(*words: str) -> str:
    return await output_of(["redis-cli", "-e", *words], doing="making the Redis cluster", seconds=_CREATE_SECONDS)


async def _has_all_slots(node: Node) -> bool:
    return await readiness.answers(
        "127.0.0.1", node.port, b"CLUSTER INFO\r\nQUIT\r\n", b"cluster_slots_assigned:16384\r\n"
    )
