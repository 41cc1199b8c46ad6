"""What ended and was never acknowledged is found by its age."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    op.create_index(
        "requests_unacknowledged",
        "requests",
        ["completed_at"],
        unique=False,
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NULL AND file_name IS NULL"),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_index("requests_unacknowledged", table_name="requests")
