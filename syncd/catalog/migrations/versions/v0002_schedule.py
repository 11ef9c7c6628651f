"""The daemon's schedule."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add next run, cool-down and failures to the table of sources."""
    op.add_column("sources", sa.Column("next_run_at", sa.Text))
    op.add_column("sources", sa.Column("cool_down_until", sa.Text))
    op.add_column("sources", sa.Column("failures", sa.Integer, nullable=False, server_default="0"))
