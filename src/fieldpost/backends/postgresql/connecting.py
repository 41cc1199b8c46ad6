"""Connections that PgBouncer's transaction mode allows, and that do not outlive a dead server unnoticed.

No prepared statement has a name: the next transaction may be on another server connection. No statement has a timeout of
asyncpg's: at its end asyncpg asks the server to cancel, and a commit whose wait for a replica is cancelled is there, seen
by everyone, and perhaps on no replica. Whoever uses a connection ends it instead; see `node`.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fieldpost.errors import ConfigError

CONNECT_SECONDS = 3.0
#: How long a transaction waits for a free connection.
POOL_SECONDS = 5.0
#: Unanswered for this long, a connection is dead: to the kernel for what was sent, to keepalives when all is quiet.
_DEAD_AFTER_SECONDS = 10
_KEEPALIVE_SECONDS = 3
#: No connection grows older, so that load spreads again after a server came back.
_RECYCLE_SECONDS = 1800
_FORM = "postgresql://user@host:port/database"
#: Of a URL, as libpq names it: whether connections are encrypted, and through which authority a server is trusted.
_MODE, _AUTHORITY = "sslmode", "sslrootcert"
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection that notices when the server warns: at a commit, that it gave up waiting for a replica.

    It says so in whatever language its `lc_messages` names, so the text tells nothing.
    """

    __slots__ = ("has_warned",)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.has_warned = False

    def note(self, _connection: object, message: Any) -> None:
        """Hears what the server says beside its answers."""
        if message.severity_en == "WARNING":
            self.has_warned = True


def make_engine(url: str, *, pool_size: int) -> AsyncEngine:
    """A pool of at most so many connections; none is opened yet.

    Raises:
        ConfigError: the URL is not one of PostgreSQL's.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Not repeated: a password may be in it.
        raise ConfigError(f"a database's URL cannot be read; it is {_FORM}") from None
    if address.drivername != "postgresql" or not address.host or not address.database:
        raise ConfigError(f"a database's URL is {_FORM}, not {address!r}")
    if unknown := sorted(address.query.keys() - {_MODE, _AUTHORITY}):
        raise ConfigError(f"a database's URL may say {_MODE} and {_AUTHORITY}, and not {', '.join(unknown)}")
    encryption = _encryption(address)
    return create_async_engine(
        address.set(drivername="postgresql+asyncpg").difference_update_query([_MODE, _AUTHORITY]),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_recycle=_RECYCLE_SECONDS,
        connect_args={
            "async_creator_fn": _connect,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
            **encryption,
        },
    )


def place(url: str) -> str:
    """Where a URL that `make_engine` takes leads to, without what is secret in it."""
    address = make_url(url)
    return f"{address.host}:{address.port or 5432}"


def _encryption(address: URL) -> Mapping[str, Any]:
    """What the driver is told; without a mode it encrypts where the server can, whoever that is."""
    mode, authority = address.query.get(_MODE), address.query.get(_AUTHORITY)
    if mode is None and authority is None:
        return {}
    if mode not in _MODES:
        raise ConfigError(f"a database's URL says {_MODE}={mode}; it may be {', '.join(_MODES)}")
    if not mode.startswith("verify-"):
        if authority is not None:
            raise ConfigError(f"a database's URL names {_AUTHORITY}, which {_MODE}={mode} does not look at")
        return {"ssl": mode}
    try:
        # The driver's own would look beneath the home directory; without a file this takes the system's authorities.
        context = ssl.create_default_context(cafile=str(authority) if authority is not None else None)
    except OSError as error:
        raise ConfigError(f"a database's URL names {_AUTHORITY}={authority}, which cannot be read: {error}") from None
    context.check_hostname = mode == "verify-full"
    return {"ssl": context}


async def _connect(*args: Any, **keywords: Any) -> Session:
    session: Session = await asyncpg.connect(
        *args,
        **keywords,
        timeout=CONNECT_SECONDS,
        statement_cache_size=0,
        connection_class=Session,
    )
    session.add_log_listener(session.note)
    _notice_death(session)
    return session


def _notice_death(session: Session) -> None:
    # asyncpg has no other way to its socket.
    connected = session._transport.get_extra_info("socket")  # noqa: SLF001
    if connected is None or connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _KEEPALIVE_SECONDS,
        "TCP_KEEPINTVL": _KEEPALIVE_SECONDS,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": _DEAD_AFTER_SECONDS * 1000,
    }
    for name, value in options.items():
        # Not every system has all of them.
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
