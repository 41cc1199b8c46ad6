"""Serves an ASGI application with uvicorn, as a task that can be cancelled; signals are the supervisor's."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn

from fieldpost.errors import ConfigError, PortInUseError
from fieldpost.messages.requests import MAX_BODY_BYTES
from fieldpost.web.bodies import Receive, Scope
from fieldpost.web.protocol import BoundedWebSocket, Patience, bounded_http
from fieldpost.web.sending import Send

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 65
#: A stopping server waits this long for replies under way.
_GRACE_SECONDS = 3


async def serve(
    application: Callable[[Scope, Receive, Send], Awaitable[None]],
    listener: socket.socket,
    *,
    on_listening: Callable[[int], None],
    patience: Patience | None = None,
) -> None:
    """Serves until cancelled, then lets replies under way end and closes the listener.

    Args:
        listener: see `reserve`.
        patience: with the peers of HTTP connections; the usual one when none is given.
    """
    server = _Server(
        uvicorn.Config(
            application,
            loop="none",
            http=bounded_http(patience or Patience()),
            ws=BoundedWebSocket,
            ws_max_size=MAX_BODY_BYTES,
            ws_per_message_deflate=False,
            ws_ping_interval=20.0,
            ws_ping_timeout=20.0,
            lifespan="off",
            access_log=False,
            log_config=None,
            # What goes wrong is logged where it is known.
            log_level="critical",
            server_header=False,
            # Nobody asks who called but by the key.
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        ),
        on_started=lambda: on_listening(listener.getsockname()[1]),
    )
    with contextlib.closing(listener):
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
                # Leaving now would cut replies under way: uvicorn ends by itself, after its grace at the latest.
                await asyncio.wait([serving])


class _Server(uvicorn.Server):
    """Leaves signals alone, and tells when it listens."""

    def __init__(self, config: uvicorn.Config, *, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the supervisor's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts listening."""
        await super().startup(sockets)
        self._on_started()


def reserve(host: str, port: int) -> socket.socket:
    """A socket that has the port, and that nobody can connect to before it is served; 0 takes a free one.

    Raises:
        PortInUseError: another process has it.
        ConfigError: host and port cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with contextlib.ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            unless_bound.pop_all()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(f"{host}:{port}; choose another with --port, or stop that process") from error
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener
