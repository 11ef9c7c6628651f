"""The order of the syncs as a column, reasons as lists, and the audit log as a chain.

The order was SQLite's own row number until now, which other databases do not have.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Number the syncs in the order in which they began, split their reasons, chain the audit log."""
    _number_syncs()
    _take_reasons_apart()
    _chain_audit()


def _number_syncs() -> None:
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
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("faults", sa.Text, nullable=False, server_default="{}"),
        sa.PrimaryKeyConstraint("number", name="pk_syncs"),
        sa.UniqueConstraint("id", name="uq_syncs_id"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO syncs"
        " (number, id, source, started_at, finished_at, outcome, reasons, message, bytes, dry_run, faults)"
        " SELECT rowid, id, source, started_at, finished_at, outcome, reason, message, bytes, dry_run, faults"
        " FROM syncs_before ORDER BY rowid"
    )
    op.drop_table("syncs_before")
    op.create_index("ix_syncs_source_number", "syncs", ["source", "number"])


def _take_reasons_apart() -> None:
    connection = op.get_bind()
    change = sa.text("UPDATE syncs SET reasons = :reasons, faults = :faults WHERE number = :number")
    for number, reason, faults in connection.execute(sa.text("SELECT number, reasons, faults FROM syncs")).all():
        told = json.loads(faults)
        for fault in told.values():
            fault["reasons"] = _apart(fault.pop("reason"))
        values = {"number": number, "reasons": json.dumps(_apart(reason)), "faults": json.dumps(told)}
        connection.execute(change, values)


def _apart(reason: str) -> list[str]:
    return reason.split(", ") if reason else []


def _chain_audit() -> None:
    """Carry every entry over unchanged, as an act "earlier", and chain their hashes in order."""
    connection = op.get_bind()
    op.rename_table("audit", "audit_before")
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    add = sa.text(
        "INSERT INTO audit (number, at, actor, act, fields, sha256)"
        " VALUES (:number, :at, :actor, :act, :fields, :sha256)"
    )
    entries = sa.text("SELECT at, actor, action, subject, detail FROM audit_before ORDER BY id")
    sha256 = "0" * 64
    for number, (at, actor, action, subject, detail) in enumerate(connection.execute(entries).all(), 1):
        fields = {"action": action, "subject": subject, "detail": json.loads(detail)}
        sha256 = hashlib.sha256(_canonical([sha256, number, at, actor, "earlier", fields]).encode()).hexdigest()
        values = {"number": number, "at": at, "actor": actor, "act": "earlier", "fields": _canonical(fields)}
        connection.execute(add, {**values, "sha256": sha256})
    op.drop_table("audit_before")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
