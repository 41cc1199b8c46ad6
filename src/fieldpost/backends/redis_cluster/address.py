"""Where Redis is, read from a URL: `redis-cluster://h1:p1,h2:p2,…` or `redis://h:p`; `user:password@` may precede."""

from urllib.parse import unquote

import msgspec

from fieldpost.errors import ConfigError

_DEFAULT_PORT = 6379
#: Schemes; whether they mean a cluster, and encrypted connections.
_SCHEMES = {
    "redis": (False, False),
    "rediss": (False, True),
    "redis-cluster": (True, False),
    "rediss-cluster": (True, True),
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to find its engine."""

    #: Shape: (nodes, 2): host, port. Of a cluster some are enough, the rest is found.
    nodes: tuple[tuple[str, int], ...]
    is_cluster: bool
    is_encrypted: bool = False
    user: str = ""
    password: str = ""


def parse_url(url: str) -> Address:
    """Reads a URL.

    Raises:
        ConfigError: it is not one; the message leaves the password out.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise ConfigError(f"shared.url: unknown scheme {scheme!r}; known are {', '.join(_SCHEMES)}")
    credentials, _, hosts = rest.rstrip("/").rpartition("@")
    user, _, password = credentials.partition(":")
    is_cluster, is_encrypted = _SCHEMES[scheme]
    nodes = tuple(_node(text) for text in hosts.split(","))
    if len(nodes) > 1 and not is_cluster:
        raise ConfigError(f"shared.url: {scheme}:// takes one host; several are a cluster: {scheme}-cluster://")
    return Address(
        nodes=nodes,
        is_cluster=is_cluster,
        is_encrypted=is_encrypted,
        user=unquote(user),
        password=unquote(password),
    )


def _node(text: str) -> tuple[str, int]:
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        host, port = port, str(_DEFAULT_PORT)
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigError(f"shared.url: {text!r} is not of the form host:port")
    return host.strip("[]"), int(port)
