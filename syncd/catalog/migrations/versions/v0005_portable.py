"""Nothing that SQLite alone has: the order of the syncs is a column, no longer SQLite's own number of a row."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Number the syncs in the order in which they were begun."""
    op.drop_index("ix_syncs_source_started_at", "syncs")
    op.drop_index("ix_syncs_started_at", "syncs")
    op.rename_table("syncs", "syncs_before")
    op.create_table(
        "syncs",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("faults", sa.Text, nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("number", name="pk_syncs"),
        sa.UniqueConstraint("id", name="uq_syncs_id"),
        sqlite_autoincrement=True,
    )
    kept = "id, source, started_at, finished_at, outcome, reason, message, bytes, dry_run, faults"
    op.execute(f"INSERT INTO syncs (number, {kept}) SELECT rowid, {kept} FROM syncs_before ORDER BY rowid")  # noqa: S608 - no input
    op.drop_table("syncs_before")
    op.create_index("ix_syncs_source_number", "syncs", ["source", "number"])
