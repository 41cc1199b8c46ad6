"""The first schema: requests, tombstones, dead letters, devices."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables."""
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("device_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("dispatched_at", sa.BigInteger(), nullable=True),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("deaths", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("requests_by_device", "requests", ["device_id", "accepted_at", "id"], unique=False)
    op.create_index("requests_by_time", "requests", ["accepted_at", "id"], unique=False)
    op.create_index(
        "requests_claimed",
        "requests",
        ["claimed_until"],
        unique=False,
        sqlite_where=sa.text("state = 1"),
        postgresql_where=sa.text("state = 1"),
    )
    op.create_index(
        "requests_deadline",
        "requests",
        ["deadline_at"],
        unique=False,
        sqlite_where=sa.text("state < 2 AND deadline_at IS NOT NULL"),
        postgresql_where=sa.text("state < 2 AND deadline_at IS NOT NULL"),
    )
    op.create_index(
        "requests_dispatched",
        "requests",
        ["model", "priority", "dispatched_at"],
        unique=False,
        sqlite_where=sa.text("state = 0 AND dispatched_at IS NOT NULL"),
        postgresql_where=sa.text("state = 0 AND dispatched_at IS NOT NULL"),
    )
    op.create_index(
        "requests_undelivered",
        "requests",
        ["device_id", "completed_at", "id"],
        unique=False,
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
    )
    op.create_index(
        "requests_undelivered_files",
        "requests",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
    )
    op.create_index(
        "requests_waiting",
        "requests",
        ["model", "priority", "device_id", "not_before"],
        unique=False,
        sqlite_where=sa.text("state = 0 AND dispatched_at IS NULL"),
        postgresql_where=sa.text("state = 0 AND dispatched_at IS NULL"),
    )
    op.create_table(
        "tombstones",
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
    )


def downgrade() -> None:
    """Drops all tables."""
    op.drop_table("tombstones")
    op.drop_index(
        "requests_waiting",
        table_name="requests",
        sqlite_where=sa.text("state = 0 AND dispatched_at IS NULL"),
        postgresql_where=sa.text("state = 0 AND dispatched_at IS NULL"),
    )
    op.drop_index(
        "requests_undelivered_files",
        table_name="requests",
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NOT NULL"),
    )
    op.drop_index(
        "requests_undelivered",
        table_name="requests",
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
    )
    op.drop_index(
        "requests_dispatched",
        table_name="requests",
        sqlite_where=sa.text("state = 0 AND dispatched_at IS NOT NULL"),
        postgresql_where=sa.text("state = 0 AND dispatched_at IS NOT NULL"),
    )
    op.drop_index(
        "requests_deadline",
        table_name="requests",
        sqlite_where=sa.text("state < 2 AND deadline_at IS NOT NULL"),
        postgresql_where=sa.text("state < 2 AND deadline_at IS NOT NULL"),
    )
    op.drop_index(
        "requests_claimed",
        table_name="requests",
        sqlite_where=sa.text("state = 1"),
        postgresql_where=sa.text("state = 1"),
    )
    op.drop_index("requests_by_time", table_name="requests")
    op.drop_index("requests_by_device", table_name="requests")
    op.drop_table("requests")
    op.drop_table("devices")
    op.drop_table("dead_letters")
