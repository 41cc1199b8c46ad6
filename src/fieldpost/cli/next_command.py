"""Commands to try next, as they can be pasted."""

import shlex
import shutil
import sys
from pathlib import Path

from fieldpost.cli.server import DEFAULT_URL

_DEFAULT_DIRECTORY = "fieldpost-data"
#: Addresses that stand for every one this machine has, and where it is reached itself then.
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 compared


def reached_at(host: str) -> str:
    """An address that is listened on, as it is written in a URL on this machine."""
    if host in _EVERYWHERE:
        return _EVERYWHERE[host]
    return f"[{host}]" if ":" in host else host


def next_command(url: str, directory: str) -> str:
    """The one that a server names when it is up.

    Args:
        directory: the server's data directory.
    """
    words = ["devices", "add", "--kind", "truck", "--name", "Truck 17"]
    if url != DEFAULT_URL:
        words += ["--url", url]
    if directory != _DEFAULT_DIRECTORY:
        words += ["--data", directory]
    return pasted(*words)


def pasted(*words: str) -> str:
    """This program with these arguments; can be pasted as it stands into a shell that is where this one is."""
    return shlex.join([*_program(), *words])


def _program() -> list[str]:
    """How this program was started: by its name where the shell finds it, else by its path."""
    started = Path(sys.argv[0])
    if started.name != "fieldpost":
        return [sys.executable, "-m", "fieldpost"]
    found = shutil.which("fieldpost")
    return ["fieldpost"] if found is not None and Path(found).samefile(started) else [str(started)]
