"""Locks for databases that several processes write at once; SQLite has one writer, so there each of these does nothing.

Rows are locked in order of their ids, so that batches that meet wait for each other and never in a circle.
"""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import Connection, select, text

from fieldpost.backends.relational import rows
from fieldpost.backends.relational.schema import requests

#: Advisory locks are told apart by two numbers; the first says what they are for.
_DIRECTORY, _ARRIVALS, _SCHEMA = 0x66700001, 0x66700002, 0x66700003
#: Requests share locks, so that a batch holds few.
_PLACES = 64

_ROWS = select(requests.c.id).where(requests.c.id.in_(rows.ids_parameter)).order_by(requests.c.id).with_for_update()
_ALONE = text("SELECT pg_advisory_xact_lock(CAST(:space AS integer), CAST(:place AS integer))")
_TOGETHER = text(
    "SELECT pg_advisory_xact_lock_shared(CAST(:space AS integer), place)"
    " FROM unnest(CAST(:places AS integer[])) AS place"
)


def rows_of(connection: Connection, request_ids: Iterable[UUID]) -> None:
    """Locks these requests, so that the next statement sees and changes their newest state."""
    ids = list(request_ids)
    if ids and _has_many_writers(connection):
        connection.execute(_ROWS, {"ids": ids}).all()


def arrivals(connection: Connection, request_ids: Iterable[UUID]) -> None:
    """Whoever records these requests holds off those who cancel one that is not there yet; see `absence`."""
    places = sorted({_place(request_id) for request_id in request_ids})
    if places and _has_many_writers(connection):
        connection.execute(_TOGETHER, {"space": _ARRIVALS, "places": places}).all()


def absence(connection: Connection, request_id: UUID) -> None:
    """From here to the end of the transaction, nobody records this request: it is there already, or it meets a tombstone."""
    _take(connection, _ARRIVALS, _place(request_id))


def directory(connection: Connection) -> None:
    """One transaction at a time gives out ids."""
    _take(connection, _DIRECTORY, 0)


def schema(connection: Connection) -> None:
    """One transaction at a time changes tables."""
    _take(connection, _SCHEMA, 0)


def _take(connection: Connection, space: int, place: int) -> None:
    if _has_many_writers(connection):
        connection.execute(_ALONE, {"space": space, "place": place}).all()


def _place(request_id: UUID) -> int:
    # The last byte is random, or a hash's, in every version of UUID in use here.
    return request_id.bytes[-1] % _PLACES


def _has_many_writers(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
