"""Sources that sign nothing: how far each list was read, and the raw answers that are kept as evidence."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them empty."""
    op.add_column("origins", sa.Column("position", sa.Text))
    op.add_column("origins", sa.Column("answers", sa.Text))
    op.create_table(
        "answers",
        sa.Column("id", _LONG, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_answers_source", "answers", ["source"])
    op.create_index("ix_answers_at", "answers", ["at"])
