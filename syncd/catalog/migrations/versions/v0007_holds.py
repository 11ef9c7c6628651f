"""Head and origin as separate states: the origin is the head plus the owed rows. Waiting updates and their holds.

Heads record since when they are retired."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Set every list to nothing owed and nothing waiting: until now, head and origin held the same rows.

    An origin's ``stack`` repeated the head's. Labels of older versions were not counted and stay unknown.
    """
    op.drop_column("origins", "stack")
    for name, default in (("owed", "[]"), ("refused", "[]"), ("waiting", "{}"), ("discarded", "{}")):
        op.add_column("origins", sa.Column(name, sa.Text, nullable=False, server_default=default))
    op.add_column("origins", sa.Column("evidence", sa.LargeBinary))
    op.add_column("origins", sa.Column("fork", sa.Text))
    op.add_column("origins", sa.Column("revision", _LONG, nullable=False, server_default="1"))
    op.add_column("versions", sa.Column("labels", sa.Text))
    op.add_column("heads", sa.Column("retired_at", sa.Text))
    op.create_table(
        "updates",
        sa.Column("id", _LONG, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("serial", _LONG, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("staged", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_updates"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "holds",
        sa.Column("id", _LONG, nullable=False),
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("segments", sa.Text, nullable=False),
        sa.Column("rows", _LONG, nullable=False),
        sa.Column("update_id", _LONG, nullable=False),
        sa.Column("sync_id", sa.Text),
        sa.Column("opened_at", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ended_at", sa.Text),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("ended_reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.ForeignKeyConstraint(["update_id"], ["updates.id"], name="fk_holds_updates"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_holds_list_state", "holds", ["list", "state"])
