"""When the files of the published lists were last proved again, and what is damaged since."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.catalog.records import HeadRecord
from syncd.errors import StoreError
from syncd.feed.layout import segment_path
from syncd.feed.proof_record import FoundFault


@dataclass(frozen=True)
class ProofView:
    """The last pass over the published files."""

    proved_at: datetime | None = None
    """when the last whole pass ended; None if none did"""
    faults: tuple[FoundFault, ...] = ()
    """faults of current versions that were not repaired yet"""


NOT_PROVED: Final = ProofView()


def read_proof(folder: StateFolder, heads: Iterable[HeadRecord]) -> ProofView:
    """Return the last pass, and the faults that are left: a damaged segment was moved aside until it is replaced."""
    try:
        record = folder.proof_record.read()
    except StoreError:
        return NOT_PROVED
    current = {(head.list, head.manifest_sha256) for head in heads}
    left = (fault for fault in record.faults if (fault.list, fault.manifest) in current)
    return ProofView(record.finished, tuple(fault for fault in left if not _is_repaired(folder, fault)))


def _is_repaired(folder: StateFolder, fault: FoundFault) -> bool:
    return fault.segment is not None and folder.feed.path(segment_path(fault.list, fault.segment)).exists()
