"""The size of each label that has limits of its own, in each version."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add it empty: the windows of labels begin with the next version of each list."""
    op.create_table(
        "label_sizes",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("version", _LONG, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("rows", _LONG, nullable=False),
        sa.Column("added", _LONG, nullable=False),
        sa.Column("removed", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("list", "version", "label", name="pk_label_sizes"),
    )
    op.create_index("ix_label_sizes_list_at", "label_sizes", ["list", "at"])
