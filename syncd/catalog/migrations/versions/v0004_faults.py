"""What became of each list in a sync, and whether it was a dry run."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add both to the syncs; of those that were made before, a dry run that would have published is known as one."""
    op.add_column("syncs", sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("syncs", sa.Column("faults", sa.Text, nullable=False, server_default="{}"))
    op.execute("UPDATE syncs SET dry_run = 1 WHERE outcome = 'staged'")
