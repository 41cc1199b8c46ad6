"""NGINX as a child process: the one address in front of all gateways and hubs.

Open-source NGINX asks nobody whether they are ready: whoever watches that writes its upstreams anew and has it read them.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fieldpost.cluster import asking, templates
from fieldpost.cluster.child import Program
from fieldpost.cluster.users import User, make_directory

#: An instance that refuses a connection is left alone until it was asked again whether it is ready.
_INSTANCE = "server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;"


class Balancer(msgspec.Struct, frozen=True, kw_only=True):
    """Where it listens: for clients, and for who asks how it is."""

    host: str
    port: int
    status_port: int

    @property
    def name(self) -> str:
        """Its name among the programs."""
        return "nginx"

    async def is_ready(self) -> bool:
        """Whether it serves."""
        return (await asking.get(self.status_port, "/")).status == 200

    async def generation(self) -> int:
        """Which upstreams it has read; -1 when it does not say."""
        reply = await asking.get(self.status_port, "/generation")
        return int(reply.body) if reply.status == 200 and reply.body.isdigit() else -1


class Upstreams(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of the instances that are ready."""

    gateways: Sequence[int] = ()
    hubs: Sequence[int] = ()
    #: Counts up with every change, so that it is known which NGINX has read.
    generation: int = 0


def server(directory: Path, balancer: Balancer, *, user: User | None) -> Program:
    """Writes its configuration, with no upstream yet, and says how it is run."""
    # Only root may listen below 1024; its workers are the other user's then too.
    is_roots = user is not None and balancer.port < 1024
    base = make_directory(directory / "nginx", user)
    text = templates.fill(
        "nginx.conf",
        user=f"user {user.name};" if user is not None and is_roots else "# Its own user is the workers' too.",
        directory=base,
        processes=min(4, os.cpu_count() or 1),
        host=balancer.host,
        port=balancer.port,
        status_port=balancer.status_port,
    )
    path = templates.write(base / "nginx.conf", text, user)
    write_upstreams(directory, Upstreams(), user=user)
    return Program(
        name=balancer.name,
        command=["nginx", "-e", "stderr", "-p", str(base), "-c", str(path)],
        directory=base,
        # Debian's stands where only root's search path leads.
        environment={"PATH": f"{os.defpath}:/usr/sbin:/sbin"},
        user=None if is_roots else user,
        stop_signal=signal.SIGQUIT,
        stop_seconds=5.0,
    )


def write_upstreams(directory: Path, upstreams: Upstreams, *, user: User | None) -> None:
    """Writes who is ready; NGINX reads it on SIGHUP."""
    text = templates.fill(
        "nginx-upstreams.conf",
        generation=upstreams.generation,
        gateways=_servers(upstreams.gateways),
        gateways_ready=int(bool(upstreams.gateways)),
        hubs=_servers(upstreams.hubs),
        hubs_ready=int(bool(upstreams.hubs)),
    )
    templates.write(directory / "nginx" / "upstreams.conf", text, user)


def _servers(ports: Sequence[int]) -> str:
    # NGINX wants at least one; nothing is sent to one that is down.
    return "\n    ".join(_INSTANCE.format(port=port) for port in ports) or "server 127.0.0.1:9 down;"
