"""The audit entries of what one commit changes: versions published, holds opened, holds that ended by themselves.

Written in the commit's own transaction, so that no caller can forget one.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from syncd.acts import AUTOMATIC, Act, EndedHold, OpenedHold, PublishedVersion
from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.catalog.records import AuditEntry
from syncd.publish.ledger import Commit

_DECIDED: Final = frozenset({HoldState.RELEASED, HoldState.DISCARDED})
"""The audit entry of the operator's act records how these ended."""


def effects(
    commit: Commit[Records], opened: Iterable[HoldRecord], ended: Iterable[HoldRecord]
) -> tuple[AuditEntry, ...]:
    """Return the entries, in the name of the operator whose act the commit records, if any."""
    records = commit.records or Records()
    actor = records.audit[-1].actor if records.audit else AUTOMATIC
    acts = (*_published(commit, records), *_opened(opened), *_ended(ended))
    return tuple(AuditEntry(commit.created_at, actor, act) for act in acts)


def _published(commit: Commit[Records], records: Records) -> Iterator[Act]:
    for move in commit.heads:
        manifest, note = move.manifest, records.notes[move.manifest.list]
        yield PublishedVersion(manifest.list, manifest.version, manifest.rows, note.plan, note.sync_id or "")


def _opened(holds: Iterable[HoldRecord]) -> Iterator[Act]:
    for hold in holds:
        reasons = tuple(map(str, hold.reasons))
        yield OpenedHold(str(hold.id), hold.list, str(hold.lane), hold.rows, reasons, hold.sha256)


def _ended(holds: Iterable[HoldRecord]) -> Iterator[Act]:
    for hold in holds:
        if hold.state not in _DECIDED:
            yield EndedHold(str(hold.id), hold.list, str(hold.lane), hold.rows, str(hold.state))
