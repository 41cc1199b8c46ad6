"""Starts what is measured and what measures, each a process of its own on its own core."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

_ROOT = Path(__file__).parents[1]
#: Of the peers, whose dependencies are not Fieldpost's; made by scripts/environment.sh.
PEERS_PYTHON = _ROOT / ".venv-bench" / "bin" / "python"
_START_SECONDS = 60.0
#: As many as there are connections.
DEVICES = 64
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A server under measurement."""

    port: int
    pid: int
    #: A file with the keys of some devices, one a line; the bare application takes any.
    keys: Path

    @property
    def cpu_seconds(self) -> float:
        """What it has used so far, all its threads and the kernel's work for it."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, with its children that have ended; those that live are asked for apart."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """What it has in memory of its own and of files."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def cores() -> tuple[set[int], set[int]]:
    """One core for the server, another for the load; the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return {available[0]}, {available[-1]}


@contextlib.contextmanager
def running(name: str, directory: Path, *, devices: int = DEVICES) -> Iterator[Server]:
    """The server of this name (`bench.servers`), listening, on the server's core."""
    port = free_port()
    process = start(["bench.servers", name, str(port), str(directory)], affinity=cores()[0])
    try:
        wait_until_listening(port, process)
        keys: Sequence[str] = ["fp_1_" + "x" * 43]
        if name != "starlette":
            # It listens before it is able to serve.
            _wait_until_ready(port)
            keys = add_devices(port, directory, devices)
        file = directory / "keys"
        file.write_text("\n".join(keys), encoding="ascii")
        yield Server(port=port, pid=process.pid, keys=file)
    finally:
        process.kill()
        process.wait()


def load(server: Server, mode: str, amount: float, seconds: float) -> dict[str, float]:
    """What the load generator found; with the server's own CPU fraction."""
    arguments = ["bench.load", str(server.port), str(server.keys), mode, str(amount), str(seconds)]
    before, started = server.cpu_seconds, time.perf_counter()
    found = output(arguments, seconds, affinity=cores()[1])
    found["server_cpu_fraction"] = (server.cpu_seconds - before) / (time.perf_counter() - started)
    return found


def inserts(directory: Path, rows_per_commit: int, seconds: float) -> dict[str, float]:
    """What the bare insert loop found, on the server's core."""
    return output(["bench.inserts", str(directory), str(rows_per_commit), str(seconds)], seconds, affinity=cores()[0])


def output(
    arguments: Sequence[str], seconds: float, *, affinity: set[int] | None = None, python: str | Path = sys.executable
) -> dict[str, float]:
    """What a module found that measures for so long."""
    process = start(arguments, affinity=affinity, python=python)
    try:
        text, _ = process.communicate(timeout=10 * seconds + 120)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    decoded: dict[str, float] = json.loads(text)
    return decoded


def start(
    arguments: Sequence[str],
    *,
    affinity: set[int] | None = None,
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """A module as a process; on every core unless it is given some.

    Args:
        log: where its standard error goes; to this process's without one.
    """
    outside = {name: value for name, value in os.environ.items() if not name.startswith("FIELDPOST_")}
    with contextlib.ExitStack() as stack:
        return subprocess.Popen(
            # Dies with this process, however that ends.
            ["setpriv", "--pdeathsig", "KILL", str(python), "-m", *arguments],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=None if log is None else stack.enter_context(log.open("ab")),
            env={**outside, **(environment or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, affinity or os.sched_getaffinity(0)),  # noqa: PLW1509 nothing else runs here
        )


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Returns when the process takes connections."""
    deadline = time.perf_counter() + _START_SECONDS
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit("the server does not listen")


def _wait_until_ready(port: int) -> None:
    deadline = time.perf_counter() + _START_SECONDS
    while time.perf_counter() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit("the server is not ready")


def add_devices(port: int, directory: Path, count: int = DEVICES) -> Sequence[str]:
    """Keys of new devices, made by the operator's HTTP."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/admin/devices",
        data=b'{"kind":"office","name":"bench"}',
        headers={
            "Authorization": f"Bearer {(directory / 'operator.key').read_text().strip()}",
            "Content-Type": "application/json",
        },
    )
    keys: list[str] = []
    for _ in range(count):
        with urllib.request.urlopen(request, timeout=30) as reply:
            keys.append(json.load(reply)["key"])
    return keys
