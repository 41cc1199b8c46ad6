"""Where the nodes of a RabbitMQ are, read from one URL: `amqp://user:password@host1:port1,host2/vhost`, or `amqps://`."""

import msgspec

from fieldpost.backends import addresses

_PORTS = {"amqp": 5672, "amqps": 5671}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes, and who connects to them."""

    nodes: tuple[addresses.Node, ...]
    user: str
    password: str
    vhost: str
    is_encrypted: bool

    def __repr__(self) -> str:
        return f"RabbitMQ at {', '.join(map(str, self.nodes))}"


def parse_address(url: str) -> Address:
    """Reads a URL; without a user it is RabbitMQ's own default, `guest`.

    Raises:
        ConfigError: it is no such URL; the password is not repeated.
    """
    parts = addresses.read(url, setting="broker.url", ports=_PORTS)
    return Address(
        nodes=parts.nodes,
        user=parts.user or "guest",
        password="guest" if parts.user is None else parts.password or "",
        vhost=parts.path or "/",
        is_encrypted=parts.scheme == "amqps",
    )
