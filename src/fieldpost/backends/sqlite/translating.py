"""What SQLite says, in Fieldpost's errors: no vendor exception leaves this package."""

import errno
import sqlite3
from types import TracebackType

from sqlalchemy.exc import DatabaseError, DBAPIError

from fieldpost.errors import BackendUnavailableError, CorruptDataError, FieldpostError, StorageFullError

#: SQLite says FULL for a write that found no room, and an I/O error when the shared-memory file could not grow for want
#: of it, or when a quota or a sync said so.
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_FSYNC"})
_CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class translated:  # noqa: N801
    """A context that lets no vendor exception out."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, FieldpostError) or not isinstance(error, Exception):
            return
        raise _translate(error) from error


def _translate(error: Exception) -> FieldpostError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = str(cause)
    name = getattr(cause, "sqlite_errorname", "")
    if name in _FULL or (isinstance(cause, OSError) and cause.errno in _NO_ROOM):
        return StorageFullError(text)
    if name in _CORRUPT:
        return CorruptDataError(text)
    if isinstance(error, DatabaseError | sqlite3.Error | OSError):
        return BackendUnavailableError(text)
    return CorruptDataError(f"{type(error).__name__}: {text}")
