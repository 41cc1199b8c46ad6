"""What a pool and NGINX were told and have not confirmed, they are told again; both are real."""

import pytest

from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import pgbouncer
from fieldpost.cluster.part import Part
from fieldpost.cluster.plan import Shard
from fieldpost.cluster.topology import Size
from fieldpost.cluster.watching import Watches
from fieldpost.errors import BackendUnavailableError
from tests.support.cluster_parts import Agents, a_cluster, keep, keep_nginx, nginx_that_reads_nothing, sleeping
from tests.support.waiting import eventually


def _pool(cluster: Cluster, shard: Shard) -> Part:
    """Not started yet: it confirms nothing."""
    program = pgbouncer.server(cluster.directory, shard.pool, primary=shard.nodes[0].port, user=cluster.user)
    cluster.primaries[shard.name] = shard.nodes[0].name
    return cluster.part(program, role="pool", port=shard.pool.port, is_ready=shard.pool.is_ready)


async def _primary_port(shard: Shard) -> int:
    """Where the pool sends writes."""
    for line in (await pgbouncer.command(shard.pool, "SHOW DATABASES")).splitlines():
        name, _host, port, *_rest = line.split("|")
        if name == pgbouncer.DATABASE:
            return int(port)
    return 0


@pytest.mark.parametrize("now", [0, 1, 2], ids=["the earlier one", "the one told of", "a third one"])
async def test_a_pool_that_has_not_confirmed_a_primary_is_told_again(now: int) -> None:
    async with a_cluster(size=Size.DEFAULT) as cluster:
        [shard] = cluster.plan.shards
        pool, watches, agents = _pool(cluster, shard), Watches(cluster), Agents(shard.nodes)
        async with agents.listening():
            agents.primary = shard.nodes[1]
            with pytest.raises(BackendUnavailableError, match="pgbouncer-1"):
                await watches.follow_primary(shard)
            # It has read by now what was written last.
            await keep(cluster, pool)
            await eventually(lambda: _is_sent_to(shard, shard.nodes[1].port))

            agents.primary = shard.nodes[now]
            await watches.follow_primary(shard)

            assert await _primary_port(shard) == shard.nodes[now].port
            assert cluster.primaries[shard.name] == shard.nodes[now].name


async def _is_sent_to(shard: Shard, port: int) -> bool:
    try:
        return await _primary_port(shard) == port
    except BackendUnavailableError:
        return False


@pytest.mark.parametrize("now", [1, 2], ids=["the earlier one", "the one told of"])
async def test_nginx_that_has_not_read_new_upstreams_is_told_again(now: int) -> None:
    async with a_cluster() as cluster:
        await keep_nginx(cluster)
        gateways = {
            number: await keep(cluster, sleeping(cluster, f"gateway-{number}", role="gateway", port=number))
            for number in (1, 2)
        }
        watches = Watches(cluster)
        cluster.leaving = {"gateway-2"}
        await watches.balance()

        cluster.leaving = {"gateway-1"}
        with nginx_that_reads_nothing(cluster), pytest.raises(BackendUnavailableError, match="new upstreams"):
            await watches.balance()
        cluster.leaving = {part.name for number, part in gateways.items() if number != now}
        await watches.balance()

        # Its earlier workers answer until they have heard that they are to end.
        await eventually(lambda: _has_read(cluster, 3))
        assert f"server 127.0.0.1:{now} " in _upstreams(cluster)
        # Confirmed: nothing is told any more.
        await watches.balance()
        assert "default 3;" in _upstreams(cluster)


async def _has_read(cluster: Cluster, generation: int) -> bool:
    return await cluster.balancer.generation() == generation


def _upstreams(cluster: Cluster) -> str:
    return (cluster.directory / "nginx" / "upstreams.conf").read_text()
