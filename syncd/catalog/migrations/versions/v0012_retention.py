"""The first version of each list since which all are kept, and indexes for the last sync of each outcome."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Take the oldest version of each list as the first: older ones were forgotten without a mark."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "kept_versions",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("first", number, nullable=False),
        sa.PrimaryKeyConstraint("list", name="pk_kept_versions"),
    )
    versions = sa.table("versions", sa.column("list", sa.Text), sa.column("version", number))
    oldest = sa.select(versions.c.list, sa.func.min(versions.c.version)).group_by(versions.c.list)
    kept = sa.table("kept_versions", sa.column("list", sa.Text), sa.column("first", number))
    op.get_bind().execute(sa.insert(kept).from_select(["list", "first"], oldest))
    op.create_index("ix_syncs_outcome", "syncs", ["outcome"])
    op.create_index("ix_syncs_source_dry_run", "syncs", ["source", "dry_run", "outcome", "number"])
