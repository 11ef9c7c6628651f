"""The history: every publication that changed a list, and the versions that matchers loaded."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COLUMNS = (
    *("number", "list", "source", "at", "plan", "kind", "version"),
    *("serial", "head", "origin", "keys", "upstream", "actor", "reason", "folded"),
)
_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Begin the history with the versions in force: older changes were not kept, and are answered "unknown"."""
    op.create_table(
        "history",
        sa.Column("number", _LONG, autoincrement=False, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", _LONG),
        sa.Column("serial", _LONG),
        sa.Column("head", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("over_head", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("upstream", sa.Text, nullable=False),
        sa.Column("sync_id", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("folded", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("number", name="pk_history"),
    )
    for columns in (["list", "number"], ["list", "at"], ["list", "kind"], ["folded", "list"]):
        op.create_index(f"ix_history_{'_'.join(columns)}", "history", columns)
    op.create_table(
        "history_months",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("width", _LONG, autoincrement=False, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("rows", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("list", "algorithm", "width", "month", name="pk_history_months"),
    )
    op.create_table(
        "loads",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("matcher", sa.Text, nullable=False),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("version", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("list", "matcher", "instance", "at", name="pk_loads"),
    )
    op.create_index("ix_loads_at", "loads", ["at"])
    op.create_index("ix_loads_matcher_at", "loads", ["matcher", "at"])
    # The versions that are loaded now are where the record of each instance begins.
    loaded = "SELECT list, matcher, instance, loaded_at, version FROM loaded"
    op.execute(f"INSERT INTO loads (list, matcher, instance, at, version) {loaded}")
    _begin(op.get_bind())


def _begin(connection: sa.Connection) -> None:
    """Record, without rows, which version of each list is in force."""
    names = ("list", "source", "version", "origin_serial", "published_at")
    heads = sa.table("heads", *map(sa.column, names))
    history = sa.table("history", *map(sa.column, _COLUMNS))
    number = 0
    for head in connection.execute(sa.select(heads).order_by(heads.c.published_at)).mappings().all():
        at = datetime.fromisoformat(head["published_at"])
        number = max(number + 1, int(at.timestamp() * 1_000_000))
        values = (
            *(number, head["list"], head["source"], head["published_at"], "", "delta", head["version"]),
            *(head["origin_serial"], "[]", "[]", "[]", "", "", "", True),
        )
        connection.execute(sa.insert(history).values(dict(zip(_COLUMNS, values, strict=True))))
