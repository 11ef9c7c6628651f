"""The faults of each list in a sync, and dry runs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both columns to the syncs. Of older syncs, only those that ended as ``staged`` are known to be dry runs."""
    op.add_column("syncs", sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("syncs", sa.Column("faults", sa.Text, nullable=False, server_default="{}"))
    op.execute("UPDATE syncs SET dry_run = 1 WHERE outcome = 'staged'")
