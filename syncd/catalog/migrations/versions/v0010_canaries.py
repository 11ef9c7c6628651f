"""Canaries: what is never published on each list, and what must be."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table empty: the next sync of each source takes known-good digests off its lists."""
    op.create_table(
        "canaries",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("known_good", sa.Text, nullable=False, server_default=""),
        sa.Column("taken_off", sa.Text, nullable=False, server_default="[]"),
        sa.Column("must_have", _LONG, nullable=False, server_default="0"),
        sa.Column("missing", _LONG, nullable=False, server_default="0"),
        sa.Column("kept_out", sa.Text, nullable=False, server_default="{}"),
        sa.Column("fault", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("list", name="pk_canaries"),
    )
