"""A cluster in the test's own process, for tests of what is done to its parts: nothing runs in it but what they start."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from fieldpost.background import running
from fieldpost.clock import SystemClock
from fieldpost.cluster import bringing_up, plan, state, topology
from fieldpost.cluster.child import Program
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import nginx
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.cluster.part import Part
from fieldpost.cluster.ports import free_ports
from fieldpost.cluster.topology import Size
from fieldpost.cluster.users import unprivileged
from tests.support.hasty_clock import HastyClock
from tests.support.waiting import DEADLINE_SECONDS, eventually


async def _ready() -> bool:
    return True


@asynccontextmanager
async def a_cluster(*, size: Size = Size.SMALL, shards: int = 1) -> AsyncIterator[Cluster]:
    """A cluster that counts as up; at its end it goes down, which fails where that does not end by itself."""
    directory = Path(tempfile.mkdtemp(prefix="fieldpost-"))
    # The user who runs engines must get in.
    directory.chmod(0o711)
    chosen = topology.choose(None, size=size, shards=shards)
    [port] = free_ports(1, start=30_000 + os.getpid() % 1000)
    remembered = state.begin(None, chosen, host="127.0.0.1", port=port, source=random.Random())
    state.write(directory, remembered)
    tasks: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()
    is_down, is_over = asyncio.Event(), asyncio.Event()
    try:
        async with running(_holding(tasks, is_down, is_over)):
            made = Cluster(
                directory,
                remembered,
                plan.make(chosen, remembered.ports, peer_host=remembered.peer_host),
                user=unprivileged(),
                patroni_program=Path("/nowhere"),
                own={},
                clock=SystemClock(),
                tasks=await tasks,
                say=lambda _line: None,
            )
            made.is_ready = True
            try:
                yield made
            finally:
                await bringing_up.take_down(made)
                is_down.set()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await is_over.wait()
            assert await end_leftovers(directory, mark=str(directory), clock=SystemClock()) == 0
    finally:
        await end_leftovers(directory, mark=str(directory), clock=SystemClock())
        shutil.rmtree(directory, ignore_errors=True)


def sleeping(cluster: Cluster, name: str, *, role: str, port: int = 1) -> Part:
    """A part of it that does nothing, not started yet."""
    return cluster.part(
        Program(name=name, command=["sleep", "600"], directory=cluster.directory), role=role, port=port, is_ready=_ready
    )


async def keep(cluster: Cluster, part: Part) -> Part:
    """Starts a part and keeps it running."""
    await part.start()
    cluster.keep(part)
    return part


async def _holding(tasks: "asyncio.Future[asyncio.TaskGroup]", is_down: asyncio.Event, is_over: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        tasks.set_result(group)
        await is_down.wait()
    is_over.set()


async def keep_nginx(cluster: Cluster) -> Part:
    """Its real balancer, which serves when this returns."""
    balancer = cluster.balancer
    program = nginx.server(cluster.directory, balancer, user=cluster.user)
    part = cluster.part(program, role="balancer", port=balancer.port, is_ready=balancer.is_ready)
    await keep(cluster, part)
    await eventually(balancer.is_ready)
    return part


@contextmanager
def nginx_that_reads_nothing(cluster: Cluster) -> Iterator[None]:
    """Meanwhile NGINX goes on with what it has read, and no time is waited for it to do otherwise."""
    path = cluster.directory / "nginx" / "nginx.conf"
    text, clock = path.read_text(), cluster.clock
    path.write_text(text + "no such directive;\n")
    cluster.clock = HastyClock()
    yield
    path.write_text(text)
    cluster.clock = clock
