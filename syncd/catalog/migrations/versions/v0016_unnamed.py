"""The record of unnamed files, which lies beside them unless their store is shared."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0014"


def upgrade() -> None:
    """Add it empty."""
    op.create_table(
        "unnamed_files",
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("place", name="pk_unnamed_files"),
    )
