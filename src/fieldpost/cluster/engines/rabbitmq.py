"""RabbitMQ nodes as child processes, without the distribution's wrapper, which insists on a user of its own."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import readiness, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.users import User, make_directory

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
#: Loopback only, and nothing but this cluster behind it.
_USER, _PASSWORD = "guest", "guest"
_PLUGINS = "[rabbitmq_management].\n"
_MEMORY_LIMIT = "512MB"
_CRASH_DUMP_BYTES = 8_388_608


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one node listens on."""

    amqp: int
    management: int
    distribution: int


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node; its number begins at 1."""

    number: int
    ports: Ports

    @property
    def name(self) -> str:
        """Its name among the programs."""
        return f"rabbitmq-{self.number}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://{_USER}:{_PASSWORD}@127.0.0.1:{self.ports.amqp}/"

    async def is_ready(self, *, nodes: int = 1) -> bool:
        """Whether it serves, in a cluster of so many nodes that run."""
        credentials = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        question = (
            f"GET /api/nodes?columns=running HTTP/1.0\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n"
        )
        wanted = b'"running":true'
        running = b"[" + b",".join([b"{" + wanted + b"}"] * nodes) + b"]"
        is_managed = await readiness.answers("127.0.0.1", self.ports.management, question.encode(), running)
        # Its listener comes last.
        return is_managed and await self.serves()

    async def serves(self) -> bool:
        """Whether it takes connections, whatever other nodes do."""
        return await readiness.answers("127.0.0.1", self.ports.amqp, b"AMQP\0\0\x09\x01", b"version")


def name_server(directory: Path, port: int, user: User | None) -> Program:
    """Erlang's name server, which nodes would otherwise start by themselves, to stay for ever."""
    home = make_directory(directory / "rabbitmq", user)
    environment = {"HOME": str(home)}
    return Program(
        name="epmd",
        command=["epmd", "-port", str(port), "-address", "127.0.0.1"],
        directory=home,
        environment=environment,
        user=user,
    )


def server(directory: Path, node: Node, *, nodes: Sequence[Node], name_port: int, user: User | None) -> Program:
    """Writes the node's configuration and says how it is run."""
    home = make_directory(directory / "rabbitmq", user)
    base = make_directory(home / str(node.number), user)
    _make_cookie(home, user)
    peers = "\n".join(f"cluster_formation.classic_config.nodes.{peer.number} = {_node(peer)}" for peer in nodes)
    text = templates.fill(
        "rabbitmq.conf",
        amqp_port=node.ports.amqp,
        management_port=node.ports.management,
        peers=peers,
        memory_limit=_MEMORY_LIMIT,
    )
    templates.write(base / "rabbitmq.conf", text, user)
    templates.write(base / "enabled_plugins", _PLUGINS, user)
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    return Program(
        name=node.name,
        command=[SERVER],
        directory=base,
        environment={
            "HOME": str(home),
            # The server takes the script's place, so that signals reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(name_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": _node(node),
            "RABBITMQ_DIST_PORT": str(node.ports.distribution),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(base / "data"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            # A crash leaves one file behind, which would be as large as its memory.
            "ERL_CRASH_DUMP_BYTES": str(_CRASH_DUMP_BYTES),
            "RABBITMQ_PID_FILE": str(base / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none {loopback}",
        },
        user=user,
        stop_seconds=20.0,
    )


def _node(node: Node) -> str:
    return f"fieldpost{node.number}@localhost"


def _make_cookie(home: Path, user: User | None) -> None:
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        templates.write(cookie, os.urandom(16).hex(), user)
        cookie.chmod(0o400)
