"""Ends what an earlier run of the same data directory left behind: children of children outlive a killed parent."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from fieldpost.clock import Clock
from fieldpost.cluster import processes
from fieldpost.cluster.child import MARK
from fieldpost.observability import get_logger

log = get_logger()


async def end_leftovers(directory: Path, *, mark: str, clock: Clock) -> int:
    """Kills every process of this data directory but this one; returns how many there were.

    PostgreSQL and NGINX write over their environment: theirs are found by where they run.
    """
    pids = sorted({*_marked(mark), *_postmasters(directory), *_balancers(directory)})
    for pid in pids:
        log.warning("leftover_killed", pid=pid)
        processes.send(pid, signal.SIGKILL)
    await processes.until_gone(pids, clock=clock)
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


def _balancers(directory: Path) -> Iterator[int]:
    # Workers of a killed master go on serving.
    return processes.running("nginx", directory / "nginx")
