"""Processes of this machine as /proc shows them: whose they are, whether they live, what they hold."""

import contextlib
import ctypes
import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fieldpost.clock import Clock

_PROC = Path("/proc")
#: How long a process that was killed outright may take to be gone.
_GONE_SECONDS = 10.0
_LOOK_SECONDS = 0.02


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    return _state(pid) not in ("Z", "X", "")


def is_frozen(pid: int) -> bool:
    """Whether it was stopped by a signal and has not been let go on."""
    return _state(pid) == "T"


def resident_bytes(pid: int, *, private: bool = False) -> int:
    """What it holds in memory, or only what no other process holds with it; 0 when it is gone."""
    try:
        resident, shared = (int(word) for word in (_PROC / str(pid) / "statm").read_text("ascii").split()[1:3])
    except (OSError, ValueError):
        return 0
    return (resident - shared if private else resident) * os.sysconf("SC_PAGE_SIZE")


def families() -> Mapping[int, Sequence[int]]:
    """Children by their parent; looked up once for many questions."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, fields in _all():
        children[int(fields[1])].append(pid)
    return children


def descendants(pid: int, children: Mapping[int, Sequence[int]] | None = None) -> Sequence[int]:
    """Its children, and theirs."""
    looked_up = families() if children is None else children
    found: list[int] = []
    waiting = [pid]
    while waiting:
        of_one = looked_up.get(waiting.pop(), ())
        found += of_one
        waiting += of_one
    return found


def group(pid: int) -> Sequence[int]:
    """All processes of the group that it leads."""
    return [other for other, fields in _all() if int(fields[2]) == pid]


def send(pid: int, number: int) -> None:
    """Sends a signal; nothing to who is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def postmaster(data: Path) -> int | None:
    """The PostgreSQL server that runs on this data directory.

    It writes over its environment, so it is found by the file in which it left its process id.
    """
    try:
        first = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        pid = int(first)
        # Another process may have the number by now.
        command = (_PROC / first / "cmdline").read_bytes()
        is_here = (_PROC / first / "cwd").resolve() == data.resolve()
    except (OSError, ValueError):
        return None
    return pid if b"postgres" in command and is_here and is_alive(pid) else None


async def until_gone(pids: Sequence[int], *, clock: Clock) -> None:
    """Returns when none of them, all of whom were killed, runs any more; buries those that are this process's."""
    deadline = clock.monotonic() + _GONE_SECONDS
    while any(map(is_alive, pids)) and clock.monotonic() < deadline:
        await clock.sleep(_LOOK_SECONDS)
    for pid in pids:
        bury(pid)


def running(program: str, directory: Path) -> Iterator[int]:
    """Processes of a program, by its short name, that run in a directory."""
    for pid, _fields in _all():
        entry = _PROC / str(pid)
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text("utf-8").strip() == program and (
                entry / "cwd"
            ).resolve() == directory.resolve():
                yield pid


def adopt_orphans() -> None:
    """Has children of dead children become this process's own: it buries them at once, where others may never do."""
    # PR_SET_CHILD_SUBREAPER, from linux/prctl.h; Python has no name for it.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def unburied() -> int | None:
    """One child of this process that has ended and was not waited for yet."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def bury(pid: int) -> None:
    """Waits for a child that has ended; nothing when it is nobody's to bury here."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def signal_number(name: str) -> int | None:
    """A signal by its name, with or without SIG, or by its number."""
    if name.isdigit():
        return int(name) if int(name) in {int(each) for each in signal.Signals} else None
    wanted = name.upper().removeprefix("SIG")
    return next((int(each) for each in signal.Signals if each.name == f"SIG{wanted}"), None)


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _all() -> Iterator[tuple[int, Sequence[str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                yield int(entry.name), fields


def _stat(pid: int) -> Sequence[str]:
    """State, parent, group and so on: what comes after the name, which may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
