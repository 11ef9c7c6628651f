"""Questions about the audit log."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from syncd.ask.question import Answers, AskedState, Question
from syncd.catalog.chain import AuditCheck, ChainFault, ChainGap, StatedHead
from syncd.catalog.records import AuditFilter, AuditRecord
from syncd.catalog.tables import time_text
from syncd.feed.signed import load_repository
from syncd.operate.audit import stated_heads
from syncd.outcomes import Outcome


class AuditQuestion(Question):
    """The newest ``limit`` records (None: all) that meet every condition."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    act: str | None = None
    list: str | None = None
    limit: int | None = None

    def answers(self, state: AskedState) -> Answers:
        """See `Question`. Answers with ``records``, several at a time."""
        wanted = AuditFilter(self.since, self.until, self.actor, self.act, self.list)
        for page in state.catalog.audit_pages(wanted, self.limit):
            yield {"records": [_record_document(record) for record in page]}
        return 0


class AuditCheckQuestion(Question):
    """The check of the audit log for changes."""

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        feed = state.folder.feed
        stated = stated_heads(feed, load_repository(feed))  # before the chain, which grows meanwhile
        result = state.catalog.check_audit(stated)
        yield {"document": _check_document(result, stated)}
        return Outcome.REJECTED.exit_code if result.faults else 0


def _record_document(record: AuditRecord) -> dict[str, Any]:
    entry = record.entry
    return {
        "number": record.number,
        "at": time_text(entry.at),
        "actor": entry.actor,
        "act": entry.act.name(),
        "fields": entry.act.document(),
        "words": entry.act.words,
        "sha256": record.sha256,
    }


def _check_document(result: AuditCheck, stated: Sequence[StatedHead]) -> dict[str, Any]:
    def listed(findings: Sequence[ChainFault | ChainGap]) -> list[dict[str, Any]]:
        return [{"number": finding.number, "message": finding.message} for finding in findings]

    return {
        "unbroken": not result.faults,
        "records": result.head.records,
        "head": result.head.head,
        "removed": result.removed,
        "since": result.since or None,
        "compared_with": [head.where for head in stated],
        "faults": listed(result.faults),
        "gaps": listed(result.gaps),
    }
