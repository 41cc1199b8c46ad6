"""Ends what an earlier run of the same data directory left behind: children of children outlive a killed parent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from fieldpost.clock import Clock
from fieldpost.cluster.child import MARK
from fieldpost.observability import get_logger

_GONE_SECONDS = 10.0
_LOOK_SECONDS = 0.05

log = get_logger()


async def end_leftovers(directory: Path, *, mark: str, clock: Clock) -> int:
    """Kills every process of this data directory but this one; returns how many there were.

    PostgreSQL writes over its environment: its processes are found by the pid files in their data directories.
    """
    pids = [*_marked(mark), *_postmasters(directory)]
    for pid in pids:
        log.warning("leftover_killed", pid=pid)
        _kill(pid)
    deadline = clock.monotonic() + _GONE_SECONDS
    while any(map(is_alive, pids)) and clock.monotonic() < deadline:
        await clock.sleep(_LOOK_SECONDS)
    return len(pids)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue


def _postmasters(directory: Path) -> Iterator[int]:
    for path in directory.glob("**/postmaster.pid"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        # Its second line names the data directory: another process may have the number by now.
        if len(lines) < 2 or not lines[0].strip().isdigit():
            continue
        pid = int(lines[0])
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"postgres" in command and Path(f"/proc/{pid}/cwd").resolve() == path.parent.resolve():
            yield pid


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
