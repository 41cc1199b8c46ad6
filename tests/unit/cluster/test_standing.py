"""What `cluster status` shows where parts do not tell; servers of ours stand in the place of Patroni's agents."""

from collections.abc import Sequence

from rich.console import Console

from fieldpost.cluster import showing, standing
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import patroni
from fieldpost.cluster.standing import Standing
from fieldpost.cluster.topology import Size
from tests.support.cluster_parts import Agents, a_cluster, keep, sleeping


async def _nodes(cluster: Cluster) -> Sequence[patroni.Node]:
    nodes = [node for shard in cluster.plan.shards for node in shard.nodes]
    for node in nodes:
        await keep(cluster, sleeping(cluster, node.name, role="agent", port=node.agent_port))
    return nodes


async def _servers(cluster: Cluster) -> Sequence[Standing]:
    return [part for part in await standing.all_of(cluster) if part.part.startswith("postgresql-")]


async def test_agents_of_all_shards_are_asked_at_once() -> None:
    async with a_cluster(size=Size.DEFAULT, shards=2) as cluster:
        agents = Agents(await _nodes(cluster), until_all=True)
        agents.are_silent = True
        async with agents.listening():
            found = await _servers(cluster)

        assert agents.were_all_asked.is_set()
        assert {(part.role, part.lag_bytes) for part in found} == {("unknown", None)}


async def test_without_agreement_every_server_is_shown_as_its_own_agent_tells() -> None:
    async with a_cluster(size=Size.DEFAULT) as cluster:
        agents = Agents(await _nodes(cluster))
        async with agents.listening():
            found = await _servers(cluster)

        assert [(part.role, part.lag_bytes) for part in found] == [
            ("primary", None),
            ("replica", None),
            ("replica", None),
        ]


async def test_with_it_they_are_shown_as_any_agent_tells() -> None:
    async with a_cluster(size=Size.DEFAULT) as cluster:
        nodes = await _nodes(cluster)
        agents = Agents(nodes)
        agents.primary = None
        agents.cluster = """{"members": [
            {"name": "patroni-1-1", "role": "replica", "state": "streaming", "lag": 17},
            {"name": "patroni-1-2", "role": "leader", "state": "running"},
            {"name": "patroni-1-3", "role": "quorum_standby", "state": "streaming", "lag": "unknown"}]}"""
        async with agents.listening():
            found = await _servers(cluster)

        assert [(part.role, part.lag_bytes) for part in found] == [
            ("replica", 17),
            ("primary", None),
            ("replica", None),
        ]


def test_what_nobody_tells_is_said_in_the_table() -> None:
    def server(role: str, *, health: str, lag_bytes: int | None = None) -> Standing:
        return Standing(
            part=f"a {role}", role=role, pid=1, port=1, resident_bytes=0, health=health, lag_bytes=lag_bytes
        )

    console = Console(width=160)
    with console.capture() as shown:
        console.print(
            showing.table(
                [
                    server("primary", health="running"),
                    server("replica", health="streaming", lag_bytes=17),
                    server("replica", health="running"),
                    server("unknown", health="unknown"),
                ]
            )
        )

    lines = [line.split() for line in shown.get().splitlines()[1:]]
    assert [line[6:] for line in lines] == [
        ["running"],
        ["streaming", "17", "B"],
        ["running", "unknown"],
        ["unknown"] * 2,
    ]
