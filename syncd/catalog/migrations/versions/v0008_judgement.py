"""Judgement: the size of each version, the findings of each hold, the labels of an origin, and suppressions."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them empty: the windows of the gate begin with the next version of each list."""
    op.add_column("origins", sa.Column("labels", sa.Text))
    op.add_column("origins", sa.Column("pin", sa.Text))
    op.add_column("holds", sa.Column("findings", sa.Text, nullable=False, server_default="[]"))
    op.create_table(
        "sizes",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("version", _LONG, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("rows", _LONG, nullable=False),
        sa.Column("added", _LONG, nullable=False),
        sa.Column("removed", _LONG, nullable=False),
        sa.Column("reference", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("list", "version", "algorithm", name="pk_sizes"),
    )
    op.create_index("ix_sizes_list_at", "sizes", ["list", "at"])
    op.create_table(
        "suppressions",
        sa.Column("id", _LONG, autoincrement=False, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("entry", sa.Text),
        sa.Column("list", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text),
        sa.Column("salt", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("rows", _LONG, nullable=False),
        sa.Column("second", sa.Text, nullable=False),
        sa.Column("hold_id", _LONG),
        sa.Column("ended_at", sa.Text),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("ended_reason", sa.Text, nullable=False),
        sa.Column("announced_at", sa.Text),
        sa.Column("others_at", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_suppressions"),
    )
    op.create_index("ix_suppressions_state", "suppressions", ["state"])
    op.create_index("ix_suppressions_algorithm_digest", "suppressions", ["algorithm", "digest"])
