"""Tables that several daemons share: check-ins, sessions, wrong tokens; and when each publication was installed."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them empty."""
    op.add_column("publications", sa.Column("installed_at", _LONG))
    op.add_column("loaded", sa.Column("written", _LONG, nullable=False, server_default="0"))
    op.create_index("ix_loaded_written", "loaded", ["written"])
    op.create_table(
        "sessions",
        sa.Column("id_sha256", sa.Text, nullable=False),
        sa.Column("proof", sa.Text, nullable=False),
        sa.Column("until", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("id_sha256", name="pk_sessions"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", _LONG, nullable=False),
        sa.Column("daemon", sa.Text, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("at", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "form_keys",
        sa.Column("id", _LONG, nullable=False, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_form_keys"),
    )
