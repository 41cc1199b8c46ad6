"""`fieldpost cluster up`: brings a cluster up on one machine, looks after it, and leaves nothing behind."""

import asyncio
import random
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fieldpost.clock import Clock
from fieldpost.cluster import bringing_up, control, plan, ports, processes, requirements, state, topology
from fieldpost.cluster.cluster import Cluster
from fieldpost.cluster.commands import Commands
from fieldpost.cluster.engines import patroni
from fieldpost.cluster.leftovers import end_leftovers
from fieldpost.cluster.topology import Size
from fieldpost.cluster.users import let_enter, unprivileged
from fieldpost.cluster.watching import Watches
from fieldpost.errors import PortInUseError
from fieldpost.observability import get_logger

log = get_logger()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; None takes what the data directory remembers."""

    directory: Path
    host: str = "127.0.0.1"
    port: int = 5000
    size: Size | None = None
    shards: int | None = None
    with_roles: bool = True
    patroni_directory: str = ""


async def run(
    options: Options,
    *,
    own: Mapping[str, Mapping[str, Any]],
    clock: Clock,
    source: random.Random,
    say: Callable[[str], None],
    hint: str = "",
) -> None:
    """Runs a cluster until SIGTERM, SIGINT or `down` comes.

    Args:
        own: the user's settings by section, without what stands at its default.
        say: shows a line: one for each part, and `ready: URL` when all of it is up.
        hint: what is shown after that.

    Raises:
        ConfigError: something is missing, or the options do not fit what lies there.
        DataDirectoryInUseError: a cluster runs there.
        PortInUseError: another program has NGINX's port.
        BackendUnavailableError: a part does not come up; everything else was stopped again.
    """
    requirements.check(options.patroni_directory)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    directory = options.directory.resolve()
    try:
        with state.hold(directory):
            await _hold(directory, options, own=own, clock=clock, source=source, say=say, hint=hint, stopping=stopping)
    except ExceptionGroup as group:
        raise _first(group) from None


async def _hold(
    directory: Path,
    options: Options,
    *,
    own: Mapping[str, Mapping[str, Any]],
    clock: Clock,
    source: random.Random,
    say: Callable[[str], None],
    hint: str,
    stopping: asyncio.Event,
) -> None:
    mark = str(directory)
    user = unprivileged()
    let_enter(directory, user)
    processes.adopt_orphans()
    await end_leftovers(directory, mark=mark, clock=clock)
    if not ports.is_free(options.port, options.host):
        raise PortInUseError(f"{options.host}:{options.port}")
    kept = state.read(directory)
    chosen = topology.choose(None if kept is None else kept.topology, size=options.size, shards=options.shards)
    remembered = state.begin(kept, chosen, host=options.host, port=options.port, source=source)
    state.write(directory, remembered)
    async with asyncio.TaskGroup() as tasks:
        cluster = Cluster(
            directory,
            remembered,
            plan.make(chosen, remembered.ports, peer_host=remembered.peer_host),
            user=user,
            patroni_program=patroni.executable(options.patroni_directory),
            own=own,
            clock=clock,
            tasks=tasks,
            say=say,
        )
        watches = Watches(cluster)
        commands = Commands(
            cluster, watches, choose_ports=partial(state.choose_ports, source=source), stop=stopping.set
        )
        burying = tasks.create_task(watches.bury_all())
        try:
            async with control.serving(directory, commands.handle):
                await _live(cluster, watches, with_roles=options.with_roles, stopping=stopping, say=say, hint=hint)
        finally:
            await bringing_up.take_down(cluster)
            await end_leftovers(directory, mark=mark, clock=clock)
            burying.cancel()
    say("stopped")


async def _live(
    cluster: Cluster,
    watches: Watches,
    *,
    with_roles: bool,
    stopping: asyncio.Event,
    say: Callable[[str], None],
    hint: str,
) -> None:
    """Brings it up and looks after it until it is to stop."""
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watches.run())
        asked = tasks.create_task(_wait(stopping))
        coming = tasks.create_task(_come_up(cluster, watches, with_roles=with_roles))
        await asyncio.wait([asked, coming], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set() and coming.exception() is None:
            say(f"ready: {cluster.state.url}")
            if hint:
                say(hint)
            await asked
        say("stopping")
        for task in (watching, asked, coming):
            task.cancel()


async def _come_up(cluster: Cluster, watches: Watches, *, with_roles: bool) -> None:
    await bringing_up.bring_up(cluster, with_roles=with_roles)
    # Ready is what clients can use, so NGINX has to know of it.
    await watches.balance()
    cluster.is_ready = True


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The first error of all that came at once: the others are mostly its consequences."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
