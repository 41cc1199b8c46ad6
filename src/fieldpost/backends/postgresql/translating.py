"""What PostgreSQL, PgBouncer and the network say, in Fieldpost's errors: no vendor exception leaves this package."""

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fieldpost.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    CorruptDataError,
    FieldpostError,
    StorageFullError,
)

#: Somebody else's transaction was in the way: the same again may succeed at once.
_REPEATABLE = frozenset({"40001", "40P01"})
_FULL = "53100"
_NO_TABLE = "42P01"
#: Rows that are damaged, and classes of what a caller's data did: trying again does not help.
_CORRUPT = ("XX001", "XX002", "21", "22", "23")
#: What the database lacks or forbids: no request's fault, and somebody mends it.
_UNFIT = "42"
#: After these a session is no more, and says nothing of what became of its transaction.
_ENDED = ("08", "57P01", "57P02", "57P03", "57P05")


def is_repeatable(error: Exception) -> bool:
    """Whether the transaction, which was rolled back, may succeed when it is run again at once."""
    if not isinstance(error, DBAPIError):
        return False
    # A connection that died in the pool is noticed when it is used.
    return sqlstate(error) in _REPEATABLE or error.connection_invalidated


def translate(error: Exception, *, is_committing: bool) -> Exception:
    """The error to raise; one that nobody expects stays what it is.

    Args:
        is_committing: the commit had been sent, so that a session that is lost leaves the outcome open.
    """
    if isinstance(error, FieldpostError):
        return error
    code, text = sqlstate(error), _text(error)
    if is_committing and (not code or code.startswith(_ENDED)):
        return BackendTimeoutError(f"the commit was not confirmed: {text}")
    if code == _FULL:
        return StorageFullError(text)
    if code == _NO_TABLE:
        return BackendUnavailableError(f"the database has no tables; run: fieldpost db upgrade ({text})")
    if code.startswith(_UNFIT):
        return BackendUnavailableError(f"the database is not as it should be: {text}")
    if code.startswith(_CORRUPT):
        return CorruptDataError(text)
    known = (DBAPIError, PoolTimeoutError, InvalidRequestError, OSError, TimeoutError, asyncpg.PostgresError)
    if isinstance(error, (*known, asyncpg.InterfaceError)):
        return BackendUnavailableError(text)
    return error


def sqlstate(error: Exception) -> str:
    """The five characters that say what happened, or nothing for what did not come from a server."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    found = getattr(cause, "sqlstate", None)
    return found if isinstance(found, str) else ""


def _text(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause) or type(cause).__name__).splitlines()[0]
