"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table. The types are spelt out: this file must not change when `syncd.catalog.tables` does."""
    _make_sources_and_syncs()
    _make_lists()
    _make_publications()
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )


def _make_sources_and_syncs() -> None:
    op.create_table(
        "sources",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("floors", sa.Text, nullable=False),
        sa.Column("root_sha256", sa.Text),
        sa.Column("last_attempt_at", sa.Text),
        sa.Column("last_verified_at", sa.Text),
        sa.PrimaryKeyConstraint("name", name="pk_sources"),
    )
    op.create_table(
        "syncs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_syncs"),
    )
    op.create_index("ix_syncs_source_started_at", "syncs", ["source", "started_at"])
    op.create_index("ix_syncs_started_at", "syncs", ["started_at"])


def _make_lists() -> None:
    op.create_table(
        "origins",
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("serial", sa.Integer, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("stack", sa.Text, nullable=False),
        sa.Column("end_state", sa.Text, nullable=False),
        sa.Column("verified_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("source", "list", name="pk_origins"),
    )
    op.create_table(
        "versions",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("sync_id", sa.Text),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("list", "version", name="pk_versions"),
    )
    op.create_table(
        "heads",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("origin_serial", sa.Integer),
        sa.Column("published_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("list", name="pk_heads"),
        sa.ForeignKeyConstraint(["list", "version"], ["versions.list", "versions.version"], name="fk_heads_versions"),
    )


def _make_publications() -> None:
    op.create_table(
        "publications",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("installed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_publications"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "signed_files",
        sa.Column("publication_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("publication_id", "position", name="pk_signed_files"),
        sa.ForeignKeyConstraint(
            ["publication_id"], ["publications.id"], name="fk_signed_files_publications", ondelete="CASCADE"
        ),
    )
