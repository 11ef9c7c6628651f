"""New keys that are announced to several daemons before they are in force."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the table, empty."""
    op.create_table(
        "next_keys",
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("threshold", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("announced", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("role", name="pk_next_keys"),
    )
