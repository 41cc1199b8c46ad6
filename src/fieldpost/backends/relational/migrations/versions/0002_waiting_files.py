"""Further files that want the answer of a request that came in before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "waiting_files",
        sa.Column("request_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("device_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "file_name"),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("waiting_files")
