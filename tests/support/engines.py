"""Real engines for tests: one of each for the whole run, on their own ports and directories, gone at its end.

The processes are children of an event loop of their own in a thread, because tests have a loop each.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import httpx

from fieldpost.backends.postgresql.opening import upgrade
from fieldpost.clock import SystemClock
from fieldpost.cluster import readiness
from fieldpost.cluster.child import Child, Program
from fieldpost.cluster.engines import postgresql, rabbitmq, redis, redis_joining
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.cluster.ports import free_ports
from fieldpost.cluster.readiness import until_ready
from fieldpost.cluster.users import make_directory, unprivileged

T = TypeVar("T")
READY_SECONDS = 60.0


class Engines:
    """Children of one directory; every method may be called from any thread and waits."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.user = unprivileged()
        self.clock = SystemClock()
        self._mark = str(directory)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engines", daemon=True)
        self._thread.start()
        self._children: list[Child] = []
        #: Engines of parallel runs look for ports in places of their own.
        self._first_port = 20_000 + os.getpid() % 100 * 100
        self._taken: list[int] = []

    def run(self, coroutine: Coroutine[Any, Any, T], *, seconds: float = 2 * READY_SECONDS) -> T:
        """Runs a coroutine on the engines' loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def ports(self, count: int) -> list[int]:
        """Ports that no other engine of this run has."""
        ports = free_ports(count, taken=self._taken, start=self._first_port)
        self._taken += ports
        return ports

    async def start(self, program: Program) -> Child:
        """Starts a program."""
        child = Child(program, log_path=self.directory / f"{program.name}.log", mark=self._mark)
        await child.start()
        self._children.append(child)
        return child

    def close(self) -> None:
        """Kills everything: what they hold is thrown away."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for child in self._children:
            await child.kill()
        await end_leftovers(self.directory, mark=self._mark, clock=self.clock)


@contextmanager
def engines() -> Iterator[Engines]:
    """A place for engines, reachable for the unprivileged user that runs them."""
    directory = Path(tempfile.mkdtemp(prefix="fieldpost-"))
    directory.chmod(0o711)
    place = Engines(directory)
    try:
        yield place
    finally:
        place.close()
        shutil.rmtree(directory, ignore_errors=True)


class RabbitMQ:
    """A RabbitMQ of one node or more, whose nodes can be killed and started again."""

    def __init__(self, place: Engines, *, nodes: int = 1) -> None:
        self._place = place
        ports = place.ports(3 * nodes + 1)
        self._name_port = ports[0]
        # Several live in one place.
        self._directory = make_directory(place.directory / f"rabbitmq-{ports[0]}", place.user)
        self.nodes = [
            rabbitmq.Node(
                number=number + 1,
                ports=rabbitmq.Ports(
                    amqp=ports[3 * number + 1], management=ports[3 * number + 2], distribution=ports[3 * number + 3]
                ),
            )
            for number in range(nodes)
        ]
        self.children: dict[int, Child] = {}
        place.run(self._start())

    @property
    def urls(self) -> Sequence[str]:
        return [node.url for node in self.nodes]

    @property
    def url(self) -> str:
        """All nodes in one URL, as the product takes it."""
        return "amqp://guest:guest@" + ",".join(f"127.0.0.1:{node.ports.amqp}" for node in self.nodes)

    def empty_url(self) -> str:
        """The same, in a virtual host of its own, with nothing in it."""
        name = uuid.uuid4().hex[:12]
        self.manage("PUT", f"/vhosts/{name}", {})
        self.manage("PUT", f"/permissions/{name}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        return f"{self.url}/{name}"

    def manage(self, method: str, path: str, body: object = None, *, node: int = 1) -> Any:
        """Asks a node's management interface; path without `/api`."""
        response = httpx.request(
            method,
            f"http://127.0.0.1:{self.nodes[node - 1].ports.management}/api{path}",
            json=body,
            auth=("guest", "guest"),
            timeout=30.0,
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def control(self, *arguments: str) -> None:
        """Does what only the operator's tool can."""
        subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", "fieldpost1@localhost", *arguments],
            env={
                "PATH": os.defpath,
                "LANG": "C.UTF-8",
                "HOME": str(self._directory / "rabbitmq"),
                "ERL_EPMD_PORT": str(self._name_port),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            },
            check=True,
            capture_output=True,
            timeout=READY_SECONDS,
        )

    def kill(self, number: int) -> None:
        self._place.run(self.children[number].kill())

    def send(self, number: int, signal_number: int) -> None:
        self.children[number].send(signal_number)

    def restart(self, number: int) -> None:
        """Starts a killed node again and waits until it serves."""
        self._place.run(self._restart(number))

    async def _start(self) -> None:
        place = self._place
        await place.start(rabbitmq.name_server(self._directory, self._name_port, place.user))
        for node in self.nodes:
            self.children[node.number] = await place.start(self._program(node))
        for node in self.nodes:
            await self._until_ready(node)

    async def _restart(self, number: int) -> None:
        await self.children[number].start()
        await self._until_ready(self.nodes[number - 1])

    async def _until_ready(self, node: rabbitmq.Node) -> None:
        await until_ready(
            node.name,
            lambda: node.is_ready(nodes=sum(child.is_running for child in self.children.values())),
            clock=self._place.clock,
            seconds=READY_SECONDS,
            children=(self.children[node.number],),
        )

    def _program(self, node: rabbitmq.Node) -> Program:
        place = self._place
        return rabbitmq.server(self._directory, node, nodes=self.nodes, name_port=self._name_port, user=place.user)


class Redis:
    """A Redis Cluster of three masters, with replicas if wanted; where not `joined`, its nodes alone."""

    def __init__(self, place: Engines, *, replicas: int = 0, joined: bool = True) -> None:
        self._place = place
        self._replicas = replicas
        count = 3 * (1 + replicas)
        ports = place.ports(2 * count)
        #: Of its own: there may be several clusters.
        self._directory = make_directory(place.directory / f"redis-{ports[0]}", place.user)
        self.nodes = [
            redis.Node(number=number + 1, port=ports[2 * number], bus_port=ports[2 * number + 1])
            for number in range(count)
        ]
        self.children: dict[int, Child] = {}
        place.run(self._start())
        if joined:
            self.join()

    @property
    def url(self) -> str:
        return "redis-cluster://" + ",".join(node.address for node in self.nodes)

    def join(self) -> None:
        self._place.run(self._join())

    def kill(self, number: int) -> None:
        self._place.run(self.children[number].kill())

    def send(self, number: int, signal_number: int) -> None:
        self.children[number].send(signal_number)

    def restart(self, number: int) -> None:
        self._place.run(self._restart(number))

    def start(self, number: int) -> None:
        """Starts a killed node without waiting for it: one alone is no cluster."""
        self._place.run(self.children[number].start())

    async def _start(self) -> None:
        place = self._place
        for node in self.nodes:
            self.children[node.number] = await place.start(redis.server(self._directory, node, place.user))
        for node in self.nodes:
            await until_ready(
                node.name,
                node.answers,
                clock=place.clock,
                seconds=READY_SECONDS,
                children=(self.children[node.number],),
            )

    async def _join(self) -> None:
        await redis_joining.join(self.nodes, replicas=self._replicas, clock=self._place.clock)
        for node in self.nodes:
            await until_ready(node.name, node.is_in_cluster, clock=self._place.clock, seconds=READY_SECONDS)

    async def _restart(self, number: int) -> None:
        node = self.nodes[number - 1]
        await self.children[number].start()
        await until_ready(node.name, node.is_in_cluster, clock=self._place.clock, seconds=READY_SECONDS)


class SingleRedis:
    """One Redis that is no cluster."""

    def __init__(self, place: Engines) -> None:
        self._place = place
        self.port = place.ports(1)[0]
        self.child = place.run(self._start())

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._place.run(self.child.kill())

    def restart(self) -> None:
        self._place.run(self._restart())

    async def _restart(self) -> None:
        await self.child.start()
        await self._until_ready(self.child)

    async def _start(self) -> Child:
        place = self._place
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        child = await place.start(Program(name=f"redis-single-{self.port}", command=command, directory=place.directory))
        await self._until_ready(child)
        return child

    async def _until_ready(self, child: Child) -> None:
        await until_ready(
            child.program.name,
            lambda: readiness.answers("127.0.0.1", self.port, b"PING\r\n", b"+PONG"),
            clock=self._place.clock,
            seconds=READY_SECONDS,
            children=(child,),
        )


class PostgreSQL:
    """One PostgreSQL server, with as many databases as tests want."""

    def __init__(self, place: Engines) -> None:
        self._place = place
        self.server = _server(place.ports(1)[0])
        self.child = place.run(self._start())
        self._numbers = itertools.count(1)
        self._template: str | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def make_database(self) -> str:
        """A new database with Fieldpost's tables, by its URL."""
        if self._template is None:
            self._template = self.make_empty_database()
            self._place.run(upgrade(self._url_of(self._template)))
        return self._url_of(self._create(f"TEMPLATE {self._template}"))

    def make_empty_database(self) -> str:
        """A new database without tables, by its name."""
        return self._create("")

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str, url: str | None = None) -> list[Any]:
        """Runs one statement on a connection of its own, and returns its rows."""
        return self._place.run(_execute(url or self.url, statement))

    def _create(self, options: str) -> str:
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return name

    def _url_of(self, name: str) -> str:
        return self.url.rpartition("/")[0] + f"/{name}"

    def kill(self) -> None:
        self._place.run(self.child.kill())

    def freeze(self) -> None:
        """Stops all of its processes, as a machine that hangs."""
        send_to_all(self.child, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        send_to_all(self.child, signal.SIGCONT)

    def restart(self) -> None:
        self._place.run(self._restart())

    async def _start(self) -> Child:
        place = self._place
        program = await postgresql.make_server(place.directory, self.server, user=place.user, is_durable=False)
        child = await place.start(program)
        await self._until_ready(child)
        return child

    async def _restart(self) -> None:
        await self.child.start()
        await self._until_ready(self.child)

    async def _until_ready(self, child: Child) -> None:
        await until_ready(
            self.server.name,
            self.server.is_ready,
            clock=self._place.clock,
            seconds=READY_SECONDS,
            children=(child,),
        )


class ReplicatedPostgreSQL:
    """A primary whose commits wait for one of its replicas; nobody but the test promotes one."""

    def __init__(self, place: Engines, *, replicas: int = 1, is_durable: bool = False) -> None:
        self._place = place
        self._is_durable = is_durable
        self.servers = [_server(port) for port in place.ports(1 + replicas)]
        self.children: list[Child] = []
        self._database = "postgres"
        self._numbers = itertools.count(1)
        place.run(self._start())

    @property
    def urls(self) -> Sequence[str]:
        """The primary's first."""
        return [server.url.rpartition("/")[0] + f"/{self._database}" for server in self.servers]

    def execute(self, number: int, statement: str) -> list[Any]:
        """Runs one statement on one of them."""
        return self._place.run(_execute(self.urls[number], statement))

    def new_database(self) -> None:
        """From here on everything is about a new database."""
        name = f"test_{next(self._numbers)}"
        self.execute(0, f"CREATE DATABASE {name}")
        self._database = name
        self._place.run(upgrade(self.urls[0]))
        self._place.run(self._until_replayed())

    def recover(self) -> None:
        """Undoes what a test did to the servers, short of a promotion."""
        for number, child in enumerate(self.children):
            self.thaw(number)
            if not child.is_running:
                self.restart(number)
        self.execute(0, "ALTER SYSTEM RESET ALL")
        self.execute(0, "SELECT pg_reload_conf()")
        self.execute(1, "SELECT pg_wal_replay_resume()")
        self._place.run(self._until_streaming())

    def kill(self, number: int) -> None:
        """Kills all of its processes, also frozen ones, which would not see that the first of them died."""
        child = self.children[number]
        pids = children_of(child)
        self._place.run(child.kill())
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self, number: int) -> None:
        """Stops all of its processes, as a machine that hangs."""
        send_to_all(self.children[number], signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Lets it go on; nothing when it has ended."""
        send_to_all(self.children[number], signal.SIGCONT)

    def restart(self, number: int) -> None:
        self._place.run(self._restart(number))

    def promote(self, number: int) -> None:
        """Makes a replica the primary, and returns when it takes writes."""
        self.execute(number, "SELECT pg_promote(true, 60)")

    async def _start(self) -> None:
        place, (primary, *others) = self._place, self.servers
        program = await postgresql.make_server(
            place.directory, primary, user=place.user, is_durable=self._is_durable, confirmed_by="ANY 1 (*)"
        )
        await self._add(primary, program)
        for server in others:
            program = await postgresql.make_replica(
                place.directory, server, primary=primary, user=place.user, is_durable=self._is_durable
            )
            await self._add(server, program)
        await self._until_streaming()

    async def _until_replayed(self) -> None:
        """All replicas show what the primary shows now."""
        [[written]] = await _execute(self.urls[0], "SELECT pg_current_wal_lsn()::text")

        async def is_replayed() -> bool:
            statement = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
            return all([(await _execute(server.url, statement))[0][0] for server in self.servers[1:]])

        await until_ready("replay", is_replayed, clock=self._place.clock, seconds=READY_SECONDS)

    async def _until_streaming(self) -> None:
        await until_ready("replication", self._is_streaming, clock=self._place.clock, seconds=READY_SECONDS)

    async def _add(self, server: postgresql.Server, program: Program) -> None:
        child = await self._place.start(program)
        self.children.append(child)
        await self._until_ready(server, child)

    async def _restart(self, number: int) -> None:
        await self.children[number].start()
        await self._until_ready(self.servers[number], self.children[number])

    async def _until_ready(self, server: postgresql.Server, child: Child) -> None:
        await until_ready(
            server.name,
            server.is_ready,
            clock=self._place.clock,
            seconds=READY_SECONDS,
            children=(child,),
        )

    async def _is_streaming(self) -> bool:
        rows = await _execute(self.servers[0].url, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'")
        return len(rows) == len(self.servers) - 1


def send_to_all(child: Child, number: int) -> None:
    """Sends a signal to a process and to its children; nothing when it has ended."""
    if child.pid is None:
        return
    for pid in (child.pid, *children_of(child)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def children_of(child: Child) -> list[int]:
    """Process ids; none when it has ended."""
    if child.pid is None:
        return []
    return [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]


async def _execute(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url, timeout=READY_SECONDS, command_timeout=READY_SECONDS)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


def _server(port: int) -> postgresql.Server:
    return postgresql.Server(name=f"postgresql-{port}", port=port)
