"""Ends what an earlier run of the same data directory left behind: children of children outlive a killed parent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from fieldpost.clock import Clock
from fieldpost.cluster import processes
from fieldpost.cluster.child import MARK
from fieldpost.observability import get_logger

_GONE_SECONDS = 10.0
_LOOK_SECONDS = 0.05

log = get_logger()


async def end_leftovers(directory: Path, *, mark: str, clock: Clock) -> int:
    """Kills every process of this data directory but this one; returns how many there were.

    PostgreSQL writes over its environment: its processes are found by the pid files in their data directories.
    """
    pids = sorted({*_marked(mark), *_postmasters(directory)})
    for pid in pids:
        log.warning("leftover_killed", pid=pid)
        processes.send(pid, signal.SIGKILL)
    deadline = clock.monotonic() + _GONE_SECONDS
    while any(map(processes.is_alive, pids)) and clock.monotonic() < deadline:
        await clock.sleep(_LOOK_SECONDS)
    return len(pids)


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
        pid = processes.postmaster(path.parent)
        if pid is not None:
            yield pid
            yield from processes.descendants(pid)
