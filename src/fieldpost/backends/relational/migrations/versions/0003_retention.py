"""What has been acknowledged is found by its age."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the index."""
    op.create_index(
        "requests_acknowledged",
        "requests",
        ["acknowledged_at"],
        unique=False,
        sqlite_where=sa.text("state >= 2 AND acknowledged_at IS NOT NULL"),
        postgresql_where=sa.text("state >= 2 AND acknowledged_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_index("requests_acknowledged", table_name="requests")
