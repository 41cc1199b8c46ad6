"""What a data directory remembers of its cluster, and the lock that one `cluster up` holds on it."""

import contextlib
import fcntl
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from fieldpost.cluster import plan, ports, templates
from fieldpost.cluster.engines import etcd
from fieldpost.cluster.topology import Topology
from fieldpost.errors import ConfigError, CorruptDataError, DataDirectoryInUseError

_FILE = "cluster.json"
_LOCK = "cluster.lock"
_SOCKET = "control.sock"


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kept as `cluster.json`."""

    topology: Topology
    ports: Mapping[str, int]
    #: A loopback address of this cluster alone.
    peer_host: str
    #: NGINX's.
    host: str = "127.0.0.1"
    port: int = 5000

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{self.host}:{self.port}"


def read(directory: Path) -> State | None:
    """What the directory remembers; None where there was no cluster yet.

    Raises:
        CorruptDataError: its file cannot be read.
    """
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise CorruptDataError(f"{directory / _FILE}: {error}") from error


def write(directory: Path, state: State) -> None:
    """Remembers it."""
    text = msgspec.json.format(msgspec.json.encode(state), indent=2).decode()
    templates.write(directory / _FILE, text + "\n")


def begin(kept: State | None, topology: Topology, *, host: str, port: int, source: random.Random) -> State:
    """The state of a run: ports stay what they were unless somebody else took them meanwhile.

    Raises:
        ConfigError: there are not enough free ports, or one that may not change is taken.
    """
    if kept is not None:
        _check_agreed(kept)
    peer_host = kept.peer_host if kept is not None else etcd.own_host(source)
    return State(
        topology=topology,
        ports=choose_ports(topology, {} if kept is None else kept.ports, not_these=port, source=source),
        peer_host=peer_host,
        host=host,
        port=port,
    )


def choose_ports(
    topology: Topology, kept: Mapping[str, int], *, not_these: int, source: random.Random, running: bool = False
) -> Mapping[str, int]:
    """A port for every slot.

    Args:
        running: the kept ports are this cluster's own now, so that they are not looked at.
    """
    names = plan.slots(topology)
    good = {
        name: port
        for name, port in kept.items()
        if name in names and (_is_agreed(name) or (port != not_these and (running or ports.is_free(port))))
    }
    missing = [name for name in names if name not in good]
    start = source.randrange(ports.FIRST, ports.LAST - 1000)
    found = ports.free_ports(len(missing), taken=[*good.values(), not_these], start=start)
    return {**good, **dict(zip(missing, found, strict=True))}


def _is_agreed(name: str) -> bool:
    """Whether etcd's members have written it down: they look for each other nowhere else."""
    return name.endswith(".peer")


def _check_agreed(kept: State) -> None:
    for name, port in kept.ports.items():
        if _is_agreed(name) and not ports.is_free(port, kept.peer_host):
            raise ConfigError(f"{kept.peer_host}:{port}, where {name} is known to its peers, is in use: free it first")


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Holds a data directory, which is made if it is not there.

    Raises:
        DataDirectoryInUseError: another cluster runs on it.
        ConfigError: it holds something else.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / _LOCK).exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no cluster: choose another --data")
    # Servers that refuse root run as another user, who must reach what is theirs in it.
    directory.chmod(0o711)
    with (directory / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUseError(f"a cluster runs on {directory}; see `cluster status`") from None
        yield


def socket_path(directory: Path) -> Path:
    """Where the running cluster listens for commands."""
    return directory / _SOCKET


def log_path(directory: Path, part: str) -> Path:
    """Where a part's output goes."""
    return log_directory(directory) / f"{part}.log"


def log_directory(directory: Path) -> Path:
    """Where the logs of all parts lie."""
    return directory / "logs"
