"""Where the nodes of an engine are, and who connects, read from one URL: `scheme://user:password@host1:port1,[::1],host3/path`.

What cannot be read is told without any of the text: a password may stand anywhere in a URL that was mistyped.
Source: RFC 3986, section 3.2 (authority), but for its several hosts.
"""

import re
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from fieldpost.errors import ConfigError

_MAX_PORT = 65_535
#: A bare host, or an IPv6 address in brackets, and perhaps a port.
_NODE = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^\s/?#@%:\[\]\\]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)


class Node(NamedTuple):
    """One node's listener; an IPv6 address stands without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says, percent-decoded."""

    scheme: str
    nodes: tuple[Node, ...]
    #: None where none is given, which is something else than an empty one.
    user: str | None
    password: str | None
    #: Without the slash before it.
    path: str

    def __repr__(self) -> str:
        return f"{self.scheme}://{','.join(map(str, self.nodes))}"


def scheme_of(url: str) -> str:
    """What stands before `://`, in small letters; empty where nothing does."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def read(url: str, *, setting: str, ports: Mapping[str, int]) -> Parts:
    """Reads a URL.

    Args:
        setting: what an error names instead of the URL.
        ports: the schemes that are possible, and the port of a node that names none.

    Raises:
        ConfigError: it is no such URL.
    """
    scheme = scheme_of(url)
    if scheme not in ports:
        raise ConfigError(f"{setting} begins with none of {', '.join(f'{known}://' for known in ports)}")
    authority, _, path = url.partition("://")[2].partition("/")
    if "@" in path:
        # Else the beginning of a password would be taken for a host, and told to whoever reads the log.
        raise ConfigError(f"{setting}: in a user, a password or a path, / is written %2F and @ is written %40")
    credentials, at, hosts = authority.rpartition("@")
    user, colon, password = credentials.partition(":")
    return Parts(
        scheme=scheme,
        nodes=tuple(_node(text, number, setting, ports[scheme]) for number, text in enumerate(hosts.split(","), 1)),
        user=_decoded(user, setting) if at else None,
        password=_decoded(password, setting) if colon else None,
        path=_decoded(path, setting),
    )


def _node(text: str, number: int, setting: str, default_port: int) -> Node:
    match = _NODE.fullmatch(text.strip())
    port = default_port if match is None or match["port"] is None else int(match["port"])
    if match is None or not 0 < port <= _MAX_PORT:
        raise ConfigError(f"{setting}: host {number} is not of the form host:port, or [IPv6 address]:port")
    if match["six"] is None:
        return Node(match["host"], port)
    try:
        IPv6Address(match["six"])
    except AddressValueError:
        raise ConfigError(f"{setting}: host {number} is no IPv6 address, although it stands in brackets") from None
    return Node(match["six"], port)


def _decoded(text: str, setting: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"{setting}: what is percent-encoded in it is not UTF-8") from None
