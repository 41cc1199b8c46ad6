"""Which user runs what: servers that refuse root run as an unprivileged one."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.errors import ConfigError

#: Tried in this order.
_NAMES = ("postgres", "nobody")


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def unprivileged() -> User | None:
    """Who runs servers that refuse root; None when this process is not root's.

    Raises:
        ConfigError: this machine has no such user.
    """
    if os.geteuid() != 0:
        return None
    for name in _NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ConfigError(f"as root, a cluster needs an unprivileged user: one of {', '.join(_NAMES)}")


def as_user(user: User | None, command: Sequence[str]) -> list[str]:
    """The command, run by that user and dying with its parent (the death signal is set last: changing users clears it)."""
    ids = [] if user is None else [f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
    return ["setpriv", *ids, "--pdeathsig=KILL", "--", *command]


def make_directory(path: Path, user: User | None = None) -> Path:
    """A directory, made if it is not there, that this user owns and nobody else enters."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    if user is not None:
        os.chown(path, user.uid, user.gid)
    return path


def let_enter(path: Path, user: User | None) -> None:
    """Checks that the user can reach what lies in this directory.

    Raises:
        ConfigError: a directory above is closed to that user; it names the directory.
    """
    if user is None:
        return
    for directory in (path, *path.parents):
        status = directory.stat()
        is_open = status.st_mode & 0o001 or (status.st_uid == user.uid and status.st_mode & 0o100)
        if not is_open:
            raise ConfigError(
                f"user {user.name}, who runs PostgreSQL, cannot enter {directory}: choose another --data, "
                f"or chmod o+x {directory}"
            )
