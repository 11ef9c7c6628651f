"""The page of the audit log. Pure: turns records into markup. No record holds a digest."""

from collections.abc import Sequence
from datetime import datetime

from syncd.catalog.records import AuditRecord
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import moment, past, prose, table_section


def audit_page(records: Sequence[AuditRecord], now: datetime) -> Html:
    """Return the newest records of the audit log, newest first."""
    columns = ("When (UTC)", "Who", "What", "How long ago", "Record")
    after = h(
        "p", prose("`syncd audit` shows older records, and `syncd audit verify` checks them all."), class_="faint"
    )
    rows = [_row(record, now) for record in records]
    return join(heading("Audit log"), table_section("audit", "Newest records", columns, rows, after=after))


def _row(record: AuditRecord, now: datetime) -> Sequence[Child]:
    entry = record.entry
    return moment(entry.at), entry.actor, entry.act.words, past(entry.at, now), str(record.number)
