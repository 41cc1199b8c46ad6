"""What a cluster runs that this project does not bring along: named where it is missing, never installed by itself."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from fieldpost.cluster.engines import patroni, rabbitmq
from fieldpost.errors import ConfigError

#: Where Debian puts servers that only root's search path finds.
_SEARCH_PATH = os.pathsep.join((os.defpath, "/usr/sbin", "/sbin"))
_PROGRAMS = (
    ("setpriv", "util-linux"),
    ("etcd", "etcd-server"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("pgbouncer", "pgbouncer"),
    ("nginx", "nginx-light"),
    ("epmd", "erlang-base"),
)


def missing(patroni_directory: str) -> Sequence[str]:
    """Names of the distribution's packages, and of what else is not there."""
    found = [package for program, package in _PROGRAMS if shutil.which(program, path=_SEARCH_PATH) is None]
    if not Path(rabbitmq.SERVER).exists():
        found.append("rabbitmq-server")
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        found.append("postgresql")
    try:
        patroni.executable(patroni_directory)
    except ConfigError:
        found.append("Patroni")
    return found


def check(patroni_directory: str) -> None:
    """Returns when everything is there.

    Raises:
        ConfigError: it names what is not, and what installs it.
    """
    names = missing(patroni_directory)
    if names:
        raise ConfigError(f"not installed: {', '.join(names)}. `make engines` installs what a cluster needs")
