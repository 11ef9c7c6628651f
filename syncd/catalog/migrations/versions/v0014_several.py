"""Several daemons on one catalog: who leads, who runs, and the orders that reach the leader through the catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them empty: a state with one daemon needs none of them."""
    op.create_table("usable", sa.Column("since", sa.Text, nullable=False, primary_key=True))
    op.execute("INSERT INTO usable (since) VALUES ('0014')")
    op.create_table(
        "leader",
        sa.Column("id", _LONG, nullable=False, autoincrement=False),
        sa.Column("epoch", _LONG, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("since", _LONG, nullable=False),
        sa.Column("until", _LONG, nullable=False),
        sa.Column("store", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_leader"),
    )
    op.create_table(
        "daemons",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", _LONG, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("seen", _LONG, nullable=False),
        sa.Column("unable", sa.Text, nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("claims", _LONG, nullable=False),
        sa.Column("serves", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_daemons"),
    )
    op.create_table(
        "orders",
        sa.Column("id", _LONG, nullable=False),
        sa.Column("daemon", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("placed", _LONG, nullable=False),
        sa.Column("epoch", _LONG, nullable=False),
        sa.Column("ended", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_orders_ended", "orders", ["ended"])
    op.create_table(
        "order_answers",
        sa.Column("order_id", _LONG, nullable=False),
        sa.Column("position", _LONG, nullable=False, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_answers_orders", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("order_id", "position", name="pk_order_answers"),
    )
