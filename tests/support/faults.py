"""What is done to parts of a running cluster under load, and how long a fresh request then waits for its answer."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from enum import StrEnum
from time import monotonic

import msgspec

from fieldpost.cluster import processes
from fieldpost.cluster.control import Command, Reply, ask
from fieldpost.cluster.standing import Standing
from tests.support.clusters import RunningCluster
from tests.support.faults_doors import Door

#: Nothing that is lost may keep fresh requests waiting for longer.
BACK_SECONDS = 90.0
#: A part that nothing stands in for goes on after this long; longer than any call may hang.
FROST_SECONDS = 12.0
#: So many fresh requests in a row: several instances take turns.
_IN_A_ROW = 5
#: Also until a part serves that was started again.
_ASK_SECONDS = 120.0


class Harm(StrEnum):
    """What happens."""

    #: SIGKILL; whoever looks after the part starts it again.
    KILL = "killed"
    #: SIGSTOP; fresh requests are answered while it lasts.
    FREEZE = "frozen"
    #: SIGSTOP of what nothing stands in for, SIGCONT a little later.
    THAW = "frozen for 12 s"
    #: SIGKILL, and nobody starts it again until fresh requests are answered.
    LOSE = "lost"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One of them.

    Args:
        part: as `cluster status` names it; `primary`, `replica`: the server; `primary node`: with its agent;
            `nginx worker`: a child of NGINX.
        door: through which fresh requests come; the part's own where there is one.
    """

    part: str
    harm: Harm
    door: str = "http"

    def __str__(self) -> str:
        return f"{self.part} {self.harm.value}"


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """How long it took, from the fault (or the end of the frost) to the first of several fresh answers in a row."""

    fault: Fault
    seconds: float


class Faults:
    """Harms a cluster, and measures."""

    def __init__(self, cluster: RunningCluster, doors: Mapping[str, Door], source: random.Random) -> None:
        self._cluster = cluster
        self._doors = doors
        self._source = source

    async def inflict(self, fault: Fault) -> Recovery:
        """Does it, and returns when fresh requests are answered and every part serves again."""
        name = await self._find(fault.part)
        # Not always at the same point of what goes on.
        await asyncio.sleep(self._source.uniform(0, 0.5))
        began = monotonic()
        match fault.harm:
            case Harm.KILL:
                await self._kill(name)
                seconds = await self._until_answered(fault, began)
            case Harm.FREEZE:
                await self._tell(Command(verb="pause", part=name))
                seconds = await self._until_answered(fault, began)
                await self._tell(Command(verb="resume", part=name))
            case Harm.THAW:
                await self._tell(Command(verb="pause", part=name))
                await asyncio.sleep(FROST_SECONDS)
                thawed = monotonic()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._tell(Command(verb="resume", part=name)))
                    seconds = await self._until_answered(fault, thawed)
            case Harm.LOSE:
                await self._tell(Command(verb="kill", part=name, signal=signal.SIGKILL, down_seconds=10 * BACK_SECONDS))
                seconds = await self._until_answered(fault, began)
                await self._tell(Command(verb="restart", part=name))
        await self._until_whole(fault)
        return Recovery(fault=fault, seconds=seconds)

    async def _find(self, part: str) -> str:
        if part not in ("primary", "primary node", "replica"):
            return part
        role = part.removesuffix(" node")
        server = next(standing.part for standing in await self._parts() if standing.role == role)
        return server.replace("postgresql", "patroni") if part == "primary node" else server

    async def _kill(self, name: str) -> None:
        if name == "nginx worker":
            parts = {standing.part: standing for standing in await self._parts()}
            pid = parts["nginx"].pid
            assert pid is not None
            processes.send(self._source.choice(processes.descendants(pid)), signal.SIGKILL)
        else:
            await self._tell(Command(verb="kill", part=name, signal=signal.SIGKILL))

    async def _until_answered(self, fault: Fault, since: float) -> float:
        door = self._doors[fault.door]
        answered_at: list[float] = []
        while len(answered_at) < _IN_A_ROW:
            assert monotonic() - since < BACK_SECONDS, f"{fault}: nothing fresh answered within {BACK_SECONDS} s"
            if await door.is_answered():
                answered_at.append(monotonic())
            else:
                answered_at.clear()
                await asyncio.sleep(0.1)
        return answered_at[0] - since

    async def _until_whole(self, fault: Fault) -> None:
        deadline = monotonic() + BACK_SECONDS
        while ailing := [part for part in await self._parts() if part.health not in ("ready", "running", "streaming")]:
            assert monotonic() < deadline, f"{fault}: {ailing}"
            await asyncio.sleep(0.2)

    async def _parts(self) -> Sequence[Standing]:
        return (await self._tell(Command(verb="status"))).parts

    async def _tell(self, command: Command) -> Reply:
        return await ask(self._cluster.directory, command, seconds=_ASK_SECONDS)


def row(recovery: Recovery) -> str:
    """A row of the table in `docs/faults.md`."""
    fault = recovery.fault
    return f"| {fault.part} | {fault.harm.value} | {fault.door} | {recovery.seconds:.1f} |"
