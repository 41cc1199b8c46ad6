"""Fieldpost's roles as processes of their own over the real engines."""

import contextlib
import json
import select
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench.cluster.stage import Stage, used
from bench.processes import add_devices, start

_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0


class Role(msgspec.Struct, kw_only=True):
    """A role's process."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    port: int = 0


class Roles:
    """Those that run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._roles: list[Role] = []

    def start(self, names: Sequence[str], settings: Path, *, affinity: set[int] | None) -> None:
        """Returns when all of them are ready."""
        for name in names:
            log = self._directory / f"{name}.log"
            process = start(
                ["fieldpost", name, "--port", "0"],
                affinity=affinity,
                environment={"FIELDPOST_CONFIG": str(settings)},
                log=log,
            )
            self._roles.append(Role(name=name, process=process, log=log))
        for role in self._roles:
            role.port = _port(role)

    def port(self, name: str) -> int:
        """Where a role listens."""
        return next(role.port for role in self._roles if role.name == name)

    def cpu_seconds(self) -> dict[str, float]:
        """What each has used so far."""
        return {role.name: used(role.process.pid) for role in self._roles}

    def stop(self) -> None:
        """Stops them in order: what they tell at the end is in their logs then."""
        for role in self._roles:
            role.process.send_signal(signal.SIGTERM)
        for role in self._roles:
            with contextlib.suppress(subprocess.TimeoutExpired):
                role.process.wait(_STOP_SECONDS)

    def reads(self) -> Mapping[str, int]:
        """How many reads primaries and replicas served for all that have stopped."""
        counts = {"primary": 0, "replica": 0}
        for role in self._roles:
            for line in role.log.read_bytes().splitlines():
                event = json.loads(line) if line.startswith(b"{") else {}
                if event.get("event") == "reads_served":
                    counts = {served_by: count + event[served_by] for served_by, count in counts.items()}
        return counts

    def kill(self) -> None:
        """Ends what still runs."""
        for role in self._roles:
            role.process.kill()
            role.process.wait()


@contextmanager
def running(
    stage: Stage, directory: Path, names: Collection[str], *, affinity: set[int] | None = None
) -> Iterator[Roles]:
    """One process of each role, ready; over an empty broker."""
    roles = Roles(directory)
    try:
        roles.start(list(names), stage.configure(), affinity=affinity)
        yield roles
    finally:
        roles.kill()


def make_devices(stage: Stage, directory: Path) -> None:
    """Devices for all measures, made before any: reads that follow a new device count in none."""
    with running(stage, directory, ["gateway"]) as roles:
        stage.keys.write_text("\n".join(add_devices(roles.port("gateway"), stage.directory)), encoding="ascii")


def _port(role: Role) -> int:
    """Read from its greeting."""
    stream = role.process.stdout
    assert stream is not None
    deadline = time.perf_counter() + _READY_SECONDS
    while time.perf_counter() < deadline:
        if not select.select([stream], [], [], 1.0)[0]:
            continue
        line = stream.readline().decode()
        if not line:
            raise SystemExit(f"{role.name} ended: {role.log.read_text(encoding='utf-8')[-2000:]}")
        if line.startswith("ready: "):
            return urlsplit(line.removeprefix("ready: ").strip()).port or 0
    raise SystemExit(f"{role.name} is not ready: {role.log.read_text(encoding='utf-8')[-2000:]}")
