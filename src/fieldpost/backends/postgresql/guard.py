"""Who may be written to: the first statement of every transaction asks the server who it is.

Behind PgBouncer every transaction may be on another server, so knowing a connection is not enough. A server that was
promoted starts a new timeline; one whose timeline is not what the primary's agent says is a former primary.
"""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, text

from fieldpost.errors import BackendUnavailableError

T = TypeVar("T")

#: A lock that is not free after this time: whoever holds it is stuck.
_LOCK_MILLISECONDS = "5000"
#: A session that says nothing for so long inside a transaction (its process is frozen) loses its locks.
_IDLE_MILLISECONDS = "10000"
#: The file of the log that a primary writes; nothing on a replica. Its name begins with the timeline.
_LOG_FILE = "CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS log_file"
_TIMELINE_DIGITS = 8
_WHO = text(f"SELECT {_LOG_FILE}")
#: The message makes this transaction one that waits for a replica even when it finds all written already, by one that
#: waited in vain: an answer to "is it recorded?" promises as much as recording it.
_BEGIN = text(
    f"""
    SELECT set_config('synchronous_commit', :confirmation, true),
           set_config('lock_timeout', '{_LOCK_MILLISECONDS}', true),
           set_config('idle_in_transaction_session_timeout', '{_IDLE_MILLISECONDS}', true),
           current_setting('synchronous_standby_names') <> '' AS has_replicas,
           CASE WHEN NOT pg_is_in_recovery() AND :confirmation = 'on'
                THEN pg_logical_emit_message(true, 'fieldpost', '') END,
           {_LOG_FILE}
    """
)


def guarded_read(function: Callable[[Connection], T], *, timeline: int | None) -> Callable[[Connection], T]:
    """The function, on the primary only.

    Args:
        timeline: the primary's; None where there is no agent to say it.
    """

    def run(connection: Connection) -> T:
        _check(connection.execute(_WHO).one().log_file, timeline)
        return function(connection)

    return run


def guarded_write(
    function: Callable[[Connection], T], *, timeline: int | None, is_confirmed: bool, must_have_replica: bool
) -> Callable[[Connection], T]:
    """The function, on the primary only, in a transaction whose locks and waits are bounded.

    Args:
        is_confirmed: its commit waits for replicas, as many as the server is told to wait for.
        must_have_replica: refuse a server that is told to wait for none.
    """

    def run(connection: Connection) -> T:
        row = connection.execute(_BEGIN, {"confirmation": "on" if is_confirmed else "local"}).one()
        _check(row.log_file, timeline)
        if must_have_replica and not row.has_replicas:
            raise BackendUnavailableError("there is no replica that could confirm")
        return function(connection)

    return run


def _check(log_file: str | None, timeline: int | None) -> None:
    if log_file is None:
        raise BackendUnavailableError("this server is a replica, or is still starting")
    if timeline is not None and int(log_file[:_TIMELINE_DIGITS], 16) != timeline:
        raise BackendUnavailableError("this server is not the primary, or not any more")
