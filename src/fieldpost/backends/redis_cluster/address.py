"""Where Redis is, read from a URL: `redis-cluster://h1:p1,h2:p2,…` or `redis://h:p`; `user:password@` may precede."""

import msgspec

from fieldpost.backends import addresses
from fieldpost.errors import ConfigError

_DEFAULT_PORT = 6379
#: Schemes; whether they mean a cluster, and encrypted connections.
_SCHEMES = {
    "redis": (False, False),
    "rediss": (False, True),
    "redis-cluster": (True, False),
    "rediss-cluster": (True, True),
}
_SETTING = "shared.url"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to find its engine."""

    #: Of a cluster some are enough, the rest is found.
    nodes: tuple[addresses.Node, ...]
    is_cluster: bool
    is_encrypted: bool = False
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Redis at {', '.join(map(str, self.nodes))}"


def parse_url(url: str) -> Address:
    """Reads a URL.

    Raises:
        ConfigError: it is not one; the message leaves the password out.
    """
    parts = addresses.read(url, setting=_SETTING, ports=dict.fromkeys(_SCHEMES, _DEFAULT_PORT))
    is_cluster, is_encrypted = _SCHEMES[parts.scheme]
    if len(parts.nodes) > 1 and not is_cluster:
        raise ConfigError(
            f"{_SETTING}: {parts.scheme}:// takes one host; several are a cluster: {parts.scheme}-cluster://"
        )
    if parts.path.strip("/"):
        raise ConfigError(f"{_SETTING}: nothing stands after the hosts; a Redis of Fieldpost's own has one database")
    return Address(
        nodes=parts.nodes,
        is_cluster=is_cluster,
        is_encrypted=is_encrypted,
        user=parts.user or "",
        password=parts.password or "",
    )
