"""Mirrors: which tokens are those of mirrors, and which mirror passed a check-in on."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Count every matcher so far as one that is not a mirror, and every check-in as one that came straight here."""
    op.add_column("matchers", sa.Column("mirror", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("loaded", sa.Column("via", sa.Text, nullable=False, server_default=""))
