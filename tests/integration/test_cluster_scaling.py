"""More and fewer processes of a role: what cannot be done is as if it had not been asked for, and all of it is stopped.

The processes are real ones: those of roles that begin here do so without anything they need.
"""

import asyncio
import random
from functools import partial

import pytest

from fieldpost.cluster import bringing_up, state
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.commands import Commands
from fieldpost.cluster.control import Command, ask, serving
from fieldpost.cluster.topology import Size
from fieldpost.cluster.watching import Watches
from fieldpost.errors import BackendUnavailableError, FieldpostError
from tests.support.cluster_parts import a_cluster, keep, keep_nginx, nginx_that_reads_nothing, sleeping
from tests.support.waiting import eventually


def _commands(cluster: Cluster) -> Commands:
    choose = partial(state.choose_ports, source=random.Random())
    return Commands(cluster, Watches(cluster), choose_ports=choose, stop=lambda: None)


def _gateways(cluster: Cluster) -> int:
    """As many as run, are planned, and are remembered."""
    assert state.read(cluster.directory) == cluster.state
    count = cluster.state.topology.roles["gateway"]
    assert sum(instance.role == "gateway" for instance in cluster.plan.instances) == count
    assert [part.pid is not None for part in cluster.parts.values() if part.role == "gateway"] == [True] * count
    assert not cluster.leaving
    return count


async def test_a_process_that_cannot_be_started_takes_those_before_it_with_it() -> None:
    async with a_cluster() as cluster:
        await keep(cluster, sleeping(cluster, "gateway-1", role="gateway"))
        (state.log_directory(cluster.directory) / "gateway-3.log").mkdir()

        with pytest.raises(BackendUnavailableError, match="gateway-3 cannot be started"):
            await _commands(cluster).handle(Command(verb="scale", role="gateway", count=3))

        assert _gateways(cluster) == 1


async def test_processes_that_nginx_cannot_be_told_of_stay_and_leave_when_asked_again() -> None:
    async with a_cluster(size=Size.DEFAULT) as cluster:
        await keep_nginx(cluster)
        for number in (1, 2, 3):
            await keep(cluster, sleeping(cluster, f"gateway-{number}", role="gateway", port=number))
        commands = _commands(cluster)

        with nginx_that_reads_nothing(cluster), pytest.raises(BackendUnavailableError, match="new upstreams"):
            await commands.handle(Command(verb="scale", role="gateway", count=1))
        assert _gateways(cluster) == 3

        await commands.handle(Command(verb="scale", role="gateway", count=1))
        assert _gateways(cluster) == 1


async def test_going_down_in_the_middle_ends_what_was_begun() -> None:
    async with a_cluster() as cluster:
        await keep(cluster, sleeping(cluster, "gateway-1", role="gateway"))

        async with asyncio.TaskGroup() as tasks, serving(cluster.directory, _commands(cluster).handle):
            asked = tasks.create_task(_error_of(cluster, Command(verb="scale", role="gateway", count=6)))
            # At every step: by the next look in a while all of them would have begun.
            async with asyncio.timeout(30):
                while "gateway-2" not in cluster.parts or cluster.parts["gateway-2"].pid is None:
                    await asyncio.sleep(0)

        assert "the cluster is stopping" in asked.result()
        assert state.read(cluster.directory) == cluster.state
        assert cluster.state.topology.roles["gateway"] == 1
        await bringing_up.take_down(cluster)
        assert not any(part.pid for part in cluster.parts.values())


async def test_a_process_that_does_not_become_ready_stays_and_goes_down_with_the_rest() -> None:
    async with a_cluster() as cluster:
        await keep(cluster, sleeping(cluster, "gateway-1", role="gateway"))

        async with asyncio.TaskGroup() as tasks, serving(cluster.directory, _commands(cluster).handle):
            asked = tasks.create_task(_error_of(cluster, Command(verb="scale", role="gateway", count=2)))
            await eventually(lambda: "gateway-2" in cluster.parts and cluster.parts["gateway-2"].restarts > 0)

        assert "the cluster is stopping" in asked.result()
        assert cluster.state.topology.roles["gateway"] == 2


async def test_one_that_does_not_end_is_neither_counted_nor_begun_anew_and_those_beside_it_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_cluster(size=Size.DEFAULT) as cluster:
        await keep_nginx(cluster)
        for number in (1, 2, 3):
            await keep(cluster, sleeping(cluster, f"gateway-{number}", role="gateway", port=number))
        commands = _commands(cluster)

        with monkeypatch.context() as patched:
            # As one that hangs in the kernel.
            patched.setattr(cluster.parts["gateway-3"].child, "stop", _hanging)
            with pytest.raises(BackendUnavailableError, match="hangs"):
                await commands.handle(Command(verb="scale", role="gateway", count=1))
            assert {"gateway-1", "gateway-3"} == {name for name in cluster.parts if name.startswith("gateway")}
            with pytest.raises(BackendUnavailableError, match="gateway-3 has not ended yet"):
                await commands.handle(Command(verb="scale", role="gateway", count=3))

        await commands.handle(Command(verb="scale", role="gateway", count=1))
        assert _gateways(cluster) == 1


async def _hanging() -> None:
    raise BackendUnavailableError("it hangs")


async def test_before_all_is_up_nothing_is_scaled() -> None:
    async with a_cluster() as cluster:
        cluster.is_ready = False

        with pytest.raises(BackendUnavailableError, match="the cluster is not up"):
            await _commands(cluster).handle(Command(verb="scale", role="gateway", count=2))

        assert cluster.state.topology.roles["gateway"] == 1
        assert not cluster.parts


async def _error_of(cluster: Cluster, command: Command) -> str:
    with pytest.raises(FieldpostError) as raised:
        await ask(cluster.directory, command, seconds=60)
    return raised.value.detail
