"""Permitted matchers, and the version that each has loaded."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables of matchers and of the versions they have loaded."""
    op.create_table(
        "matchers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token_sha256", sa.Text, nullable=False),
        sa.Column("lists", sa.Text),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
        sa.PrimaryKeyConstraint("name", name="pk_matchers"),
    )
    op.create_table(
        "loaded",
        sa.Column("matcher", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("loaded_at", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("matcher", "instance", "list", name="pk_loaded"),
        sa.ForeignKeyConstraint(["matcher"], ["matchers.name"], name="fk_loaded_matchers"),
    )
