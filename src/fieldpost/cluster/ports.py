"""Free ports of this machine, all of an engine's at once: one that an engine takes by itself collides one day."""

import socket
from collections.abc import Sequence

from fieldpost.errors import ConfigError

#: Below what the kernel gives to outgoing connections, so that none of these takes a port between choice and use.
FIRST, LAST = 20_000, 32_000


def free_ports(count: int, *, taken: Sequence[int] = (), start: int = FIRST) -> list[int]:
    """Ports on loopback that nobody listens on now, in ascending order.

    Args:
        start: where to begin looking, so that clusters started at once do not choose alike.

    Raises:
        ConfigError: there are not so many.
    """
    found: list[int] = []
    candidates = [*range(start, LAST), *range(FIRST, start)]
    for port in candidates:
        if len(found) == count:
            break
        if port not in taken and is_free(port):
            found.append(port)
    if len(found) < count:
        raise ConfigError(f"there are no {count} free ports between {FIRST} and {LAST}")
    return sorted(found)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that have ended are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
