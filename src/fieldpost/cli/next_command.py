"""The one command to try next that a server names when it is up."""

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
    """Can be pasted as it stands into a shell that is where this one is.

    Args:
        directory: the server's data directory.
    """
    command = [*_program(), "devices", "add", "--kind", "truck", "--name", "Truck 17"]
    if url != DEFAULT_URL:
        command += ["--url", url]
    if directory != _DEFAULT_DIRECTORY:
        command += ["--data", directory]
    return shlex.join(command)


def _program() -> list[str]:
    """How this program was started: by its name where the shell finds it, else by its path."""
    started = Path(sys.argv[0])
    if started.name != "fieldpost":
        return [sys.executable, "-m", "fieldpost"]
    found = shutil.which("fieldpost")
    return ["fieldpost"] if found is not None and Path(found).samefile(started) else [str(started)]
