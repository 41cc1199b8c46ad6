"""A cluster in the test's own process, for tests of what is done to its parts: nothing runs in it but what they start."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from fieldpost.background import running
from fieldpost.clock import SystemClock
from fieldpost.cluster import bringing_up, plan, state, topology
from fieldpost.cluster.child import Program
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.engines import nginx, patroni
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


class Agents:
    """In the place of Patroni's: they answer for one primary, and on `/cluster` what they are given, or hang up.

    Args:
        until_all: nobody is answered before every agent has been asked both.
    """

    def __init__(self, nodes: Sequence[patroni.Node], *, until_all: bool = False) -> None:
        self.primary: patroni.Node | None = nodes[0]
        self.cluster = ""
        self.are_silent = False
        self.were_all_asked = asyncio.Event()
        self._nodes = nodes
        self._until_all = until_all
        self._waiting: set[tuple[str, str]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        servers = [
            await asyncio.start_server(partial(self._answer, node), "127.0.0.1", node.agent_port)
            for node in self._nodes
        ]
        try:
            yield
        finally:
            for server in servers:
                server.close()

    async def _answer(self, node: patroni.Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readline()).split()[1].decode()
            if self._until_all and path in ("/cluster", "/patroni"):
                await self._all_asked(node.name, path, reader)
            body = self._said(node, path)
            if body and not self.are_silent:
                writer.write(f"HTTP/1.0 200 OK\r\n\r\n{body}".encode())
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _all_asked(self, name: str, path: str, reader: asyncio.StreamReader) -> None:
        """Returns when all wait at once, or who asked this has given up."""
        self._waiting.add((name, path))
        if len(self._waiting) == 2 * len(self._nodes):
            self.were_all_asked.set()
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(_event(self.were_all_asked)), tasks.create_task(_end(reader))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        self._waiting.discard((name, path))

    def _said(self, node: patroni.Node, path: str) -> str:
        is_primary = node == self.primary
        if path == "/cluster":
            return self.cluster
        if path == "/primary" and not is_primary:
            return ""
        return f'{{"state": "running", "role": "{"primary" if is_primary else "replica"}"}}'


async def _event(event: asyncio.Event) -> None:
    await event.wait()


async def _end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1024):
        pass
