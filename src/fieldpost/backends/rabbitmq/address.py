"""Where the nodes of a RabbitMQ are, read from one URL: `amqp://user:password@host1:port1,host2/vhost`, or `amqps://`."""

from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from fieldpost.errors import ConfigError

_PORTS = {"amqp": 5672, "amqps": 5671}
_MAX_PORT = 65_535


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node's listener."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes, and who connects to them."""

    nodes: Sequence[Node]
    user: str
    password: str
    vhost: str
    is_encrypted: bool


def parse_address(url: str) -> Address:
    """Reads a URL; without a user it is RabbitMQ's own default, `guest`.

    Raises:
        ConfigError: it is no such URL; the password is not repeated.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _PORTS:
        raise ConfigError("broker.url: a RabbitMQ's begins with amqp:// or amqps://")
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    return Address(
        nodes=[_node(host, _PORTS[scheme]) for host in hosts.split(",")],
        user=unquote(user) or "guest",
        password=unquote(password) if credentials else "guest",
        vhost=unquote(path) or "/",
        is_encrypted=scheme == "amqps",
    )


def _node(text: str, default_port: int) -> Node:
    host, separator, port = text.strip().rpartition(":")
    if not separator or port.endswith("]"):
        # No port; an IPv6 address stands in brackets.
        host, port = text.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise ConfigError(f"broker.url: {text!r} is not host:port")
    return Node(host=host, port=int(port))
