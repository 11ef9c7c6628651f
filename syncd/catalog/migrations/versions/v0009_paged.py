"""The time at which a waiting hold was last reported again."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add it empty: a hold that has waited for a day is reported at the next start."""
    op.add_column("holds", sa.Column("paged_at", sa.Text))
