"""Tables of the ledger and the directory, the same on SQLite and PostgreSQL; made and changed by the migrations.

Times are kept in microseconds since the epoch: both databases order and compare them, and neither rounds them.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC time as microseconds since the epoch."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Shape: microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Shape: aware datetime."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Identity(TypeDecorator[UUID]):
    """A UUID as its 16 bytes, which order like the UUID."""

    impl = LargeBinary(16)
    cache_ok = True

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """Shape: 16 bytes."""
        return None if value is None else value.bytes

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> UUID | None:  # noqa: ARG002
        """Shape: UUID."""
        return None if value is None else UUID(bytes=bytes(value))


#: Where requests stand; `state` in numbers, so that indexes stay small.
QUEUED, PROCESSING, SUCCEEDED, FAILED, EXPIRED, CANCELLED = range(6)
#: States from here on are final.
FIRST_FINAL = SUCCEEDED

metadata = MetaData()

#: One row a request. `envelope` is the encoded Request, `response` the encoded Response.
requests = Table(
    "requests",
    metadata,
    Column("id", Identity, primary_key=True),
    Column("device_id", BigInteger, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("model", String(100), nullable=False),
    # 0 high, 1 normal, 2 low: workers' order.
    Column("priority", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("body_hash", LargeBinary(32), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("accepted_at", Instant, nullable=False),
    Column("deadline_at", Instant),
    # Null while it waits for the dispatcher.
    Column("dispatched_at", Instant),
    # Not to be dispatched or claimed before.
    Column("not_before", Instant, nullable=False),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # Attempts that ended without an answer, and attempts whose worker vanished: both are counted against the request.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("deaths", Integer, nullable=False, server_default=text("0")),
    Column("holder", String(200)),
    Column("claimed_until", Instant),
    Column("completed_at", Instant),
    Column("acknowledged_at", Instant),
    Column("response", LargeBinary),
    # The name of the dropped file; also tells folder answers apart.
    Column("file_name", Text),
)

Index("requests_by_device", requests.c.device_id, requests.c.accepted_at, requests.c.id)
Index("requests_by_time", requests.c.accepted_at, requests.c.id)
Index(
    "requests_waiting",
    requests.c.model,
    requests.c.priority,
    requests.c.device_id,
    requests.c.not_before,
    sqlite_where=text("state = 0 AND dispatched_at IS NULL"),
    postgresql_where=text("state = 0 AND dispatched_at IS NULL"),
)
Index(
    "requests_dispatched",
    requests.c.model,
    requests.c.priority,
    requests.c.dispatched_at,
    sqlite_where=text("state = 0 AND dispatched_at IS NOT NULL"),
    postgresql_where=text("state = 0 AND dispatched_at IS NOT NULL"),
)
Index(
    "requests_claimed",
    requests.c.claimed_until,
    sqlite_where=text("state = 1"),
    postgresql_where=text("state = 1"),
)
Index(
    "requests_deadline",
    requests.c.deadline_at,
    sqlite_where=text("state < 2 AND deadline_at IS NOT NULL"),
    postgresql_where=text("state < 2 AND deadline_at IS NOT NULL"),
)
Index(
    "requests_undelivered",
    requests.c.device_id,
    requests.c.completed_at,
    requests.c.id,
    sqlite_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
    postgresql_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
)
Index(
    "requests_undelivered_files",
    requests.c.completed_at,
    sqlite_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
    postgresql_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
)

Index(
    "requests_acknowledged",
    requests.c.acknowledged_at,
    sqlite_where=text("state >= 2 AND acknowledged_at IS NOT NULL"),
    postgresql_where=text("state >= 2 AND acknowledged_at IS NOT NULL"),
)
# Not over files, for which there is one: a database would take this one for them, and read what is no file.
Index(
    "requests_unacknowledged",
    requests.c.completed_at,
    sqlite_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
    postgresql_where=text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
)

#: Cancellations that came before their request.
tombstones = Table(
    "tombstones",
    metadata,
    Column("request_id", Identity, primary_key=True),
    Column("device_id", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)

#: Further files that want a request's answer, until they have it.
waiting_files = Table(
    "waiting_files",
    metadata,
    Column("request_id", Identity, primary_key=True),
    Column("file_name", Text, primary_key=True),
    Column("device_id", BigInteger, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("request_id", Identity),
    Column("device_id", BigInteger),
    sqlite_autoincrement=True,
)

#: What is said once for the whole installation, in the database that has the directory of devices.
installation = Table(
    "installation",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

#: Removed devices stay as rows, so that their ids are never used again.
devices = Table(
    "devices",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("key_hash", LargeBinary(32), nullable=False),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("created_at", Instant, nullable=False),
    Column("removed_at", Instant),
)
