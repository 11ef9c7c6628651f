"""When the files of the state were last proved again, whether that is too long ago, and which files are damaged."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.catalog.records import HeadRecord
from syncd.errors import StoreError
from syncd.feed.layout import segment_path
from syncd.feed.proof_record import FoundFault, HistoryFault
from syncd.units import ago, span

LATE_AFTER: Final = timedelta(days=3)
"""If the last pass ended longer ago, a person should look: the daemon makes one a day."""


@dataclass(frozen=True)
class ProofView:
    """The last pass over the published files and the private history."""

    proved_at: datetime | None = None
    """when the last whole pass ended; None if none did"""
    watched_since: datetime | None = None
    """when a daemon first watched the files; None if none did"""
    begun: datetime | None = None
    """when the running pass began; None if none is running"""
    faults: tuple[FoundFault, ...] = ()
    """faults of current versions that are not repaired yet"""
    history: tuple[HistoryFault, ...] = ()
    """damaged files of the private history"""

    def why(self, now: datetime) -> str:
        """Return the warning about the age of the last pass; '' if it is recent enough."""
        since = self.proved_at or self.watched_since
        if since is None or now - since <= LATE_AFTER:
            return ""
        proved = f"last all proved {ago(now - since)}" if self.proved_at else f"never all proved in {span(now - since)}"
        running = f", and the pass that began {ago(now - self.begun)} has not ended" if self.begun else ""
        return f"the files of the state were {proved}{running}"

    @property
    def to_do(self) -> str:
        """The action to take if a person should look at the age of the pass."""
        return (
            "check that the daemon is running, and look for errors of the file proof in its log; a restarted daemon "
            "continues the pass"
        )


NOT_PROVED: Final = ProofView()


def read_proof(folder: StateFolder, heads: Iterable[HeadRecord]) -> ProofView:
    """Return the last pass, and the faults that are left: a damaged segment is missing until it is replaced."""
    try:
        record = folder.proof_record.read()
    except StoreError:
        return NOT_PROVED
    current = {(head.list, head.manifest_sha256) for head in heads}
    left = (fault for fault in record.faults if (fault.list, fault.manifest) in current)
    return ProofView(
        proved_at=record.finished,
        watched_since=record.watched_since,
        begun=record.begun,
        faults=tuple(fault for fault in left if not _is_repaired(folder, fault)),
        history=tuple(fault for fault in record.history if not fault.is_over),
    )


def _is_repaired(folder: StateFolder, fault: FoundFault) -> bool:
    return fault.segment is not None and folder.feed.path(segment_path(fault.list, fault.segment)).exists()
