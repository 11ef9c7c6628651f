"""A source's memory as JSON that only its own kind reads; for a signed feed: floors and pinned root."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Move both into one column. A source that was never verified has an empty memory."""
    op.add_column("sources", sa.Column("memory", sa.Text, nullable=False, server_default="{}"))
    connection = op.get_bind()
    sources = sa.table("sources", *(sa.column(name, sa.Text) for name in ("name", "floors", "root_sha256", "memory")))
    wanted = sa.select(sources.c.name, sources.c.floors, sources.c.root_sha256)
    for name, floors, root in connection.execute(wanted).all():
        if root is not None:
            memory = {"floors": json.loads(floors), "root_sha256": root, "type": "feed"}
            statement = sources.update().where(sources.c.name == name)
            connection.execute(statement.values(memory=json.dumps(memory, separators=(",", ":"))))
    op.drop_column("sources", "floors")
    op.drop_column("sources", "root_sha256")
