"""A cluster goes down whatever state its parts are in."""

import asyncio
from collections.abc import Awaitable, Callable

from fieldpost.clock import SystemClock
from fieldpost.cluster import bringing_up
from fieldpost.cluster.child import Program
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.cluster.part import Part
from fieldpost.errors import BackendUnavailableError
from tests.support.cluster_parts import a_cluster, keep, sleeping


async def _refused() -> None:
    raise BackendUnavailableError("it was killed and does not end")


async def _never_over() -> None:
    await asyncio.Future()


async def _with_stuck(cluster: Cluster, on_death: Callable[[], Awaitable[None]]) -> None:
    """A worker whose end does not come, and parts of the stages beside and after it."""
    stuck = Part(
        Program(name="stuck", command=["sleep", "600"], directory=cluster.directory),
        role="worker",
        port=1,
        is_ready=lambda: asyncio.sleep(0, True),
        log_path=cluster.directory / "stuck.log",
        mark=str(cluster.directory),
        clock=cluster.clock,
        on_death=on_death,
    )
    cluster.parts[stuck.name] = await keep(cluster, stuck)
    for role in ("gateway", "broker", "agreement"):
        await keep(cluster, sleeping(cluster, f"{role}-1", role=role))


async def test_one_whose_end_goes_wrong_keeps_nobody_else_from_it() -> None:
    async with a_cluster() as cluster:
        await _with_stuck(cluster, _refused)

        await bringing_up.take_down(cluster)

        assert not cluster.own_children()


async def test_one_that_does_not_end_is_waited_for_no_longer_than_is_said() -> None:
    async with a_cluster() as cluster:
        await _with_stuck(cluster, _never_over)

        await bringing_up.take_down(cluster, seconds=0.5)

        # Nothing keeps them running any more: what is left is killed, and stays away.
        await end_leftovers(cluster.directory, mark=str(cluster.directory), clock=SystemClock())
        cluster.parts.clear()
