"""Proving the private history again, as a part of the daily pass over the files of a state.

The content of a damaged file is lost unless a backup has it, because the partner offers current rows, not past ones.
Answers of `syncd explain` are then incomplete; nothing that is served depends on the history.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryKind, HistoryRecord
from syncd.errors import StoreError
from syncd.feed.proof_record import HistoryFault, RecordStore, identity_of
from syncd.feed.reproof import Pause, hash_in_pieces
from syncd.files import link_file
from syncd.history.files import HistoryFolder, MonthFile
from syncd.history.segments import segment_places
from syncd.model import ListName

_RESTORE: Final = (
    "restore this file from a backup; if none has it, remove it: `syncd explain` then says what it does not know, and "
    "nothing served depends on it; check the disk and the memory of this machine"
)


@dataclass(frozen=True)
class HistoryProof:
    """Proves every file of ``history/`` by the SHA-256 in its name."""

    state: StateFolder
    catalog: Catalog
    records: RecordStore
    pause: Pause

    def run(self) -> tuple[HistoryFault, ...]:
        """Prove all files; record and return those that are damaged. Raises `StoreError`, and what ``pause`` does."""
        found = tuple(fault for name in self.catalog.history_lists() for fault in self._prove(name))
        self.records.write(self.records.read().with_history(found))
        return found

    def _prove(self, name: ListName) -> Iterator[HistoryFault]:
        folder = HistoryFolder(self.state.history)
        proved = set(self.records.read().proved)
        for file in folder.months(name):
            if file.sha256 in proved:
                continue
            if self._is_sound(file.path, file.sha256):
                self.records.write(self.records.read().with_proved(file.sha256))
            else:
                yield from _fault(name, file.path, self._lost_month(name, file))
        named = self._named(name)
        for sha256, path in folder.segments(name).items():
            if sha256 in named and not self._prove_segment(named[sha256], sha256, path):
                yield from _fault(name, path, _lost_record(named[sha256]))

    def _named(self, name: ListName) -> dict[str, HistoryRecord]:
        """Return the newest record that names each segment of a list's history, by SHA-256."""
        kept = (*self.catalog.unfolded_history(name), *self.catalog.history_states(name))
        whole = (record for record in kept if record.kind is not HistoryKind.LOST)
        return {ref.sha256: record for record in whole for ref in record.segments}

    def _prove_segment(self, record: HistoryRecord, sha256: str, path: Path) -> bool:
        """Prove a linked segment; if it is damaged, replace it with a sound copy. Return False if there is none."""
        ref = next(ref for ref in record.segments if ref.sha256 == sha256)
        others = [other for other in segment_places(self.state, record.list, record.source, ref)[1:] if other.exists()]
        if any(path.exists() and path.samefile(other) for other in others):
            return True  # it was proved there
        if self._is_sound(path, sha256):
            return True
        sound = next((other for other in others if self._is_sound(other, sha256)), None)
        if sound is not None:
            link_file(sound, path)
        return sound is not None

    def _is_sound(self, path: Path, sha256: str) -> bool:
        """Return True if a file has this hash, or is missing: it may have been folded into another file meanwhile."""
        try:
            return hash_in_pieces(path, self.pause) == sha256
        except StoreError:  # a file that cannot be read is as lost as one with another content
            return not path.exists()

    def _lost_month(self, name: ListName, file: MonthFile) -> str:
        records = self.catalog.history_records({file.first, file.last}).values()
        versions = sorted(record.version for record in records if record.version is not None)
        which = f", versions {versions[0]} to {versions[-1]}" if versions else ""
        return f"the {file.of[0]} changes of {name} in {file.month}{which}"


def _lost_record(record: HistoryRecord) -> str:
    at = f"version {record.version}" if record.version is not None else f"serial {record.serial} of its partner"
    return f"the rows of {record.list} at {at}, of {record.at:%Y-%m-%d}"


def _fault(name: ListName, path: Path, lost: str) -> Iterator[HistoryFault]:
    """Yield the fault of a damaged file; nothing if the file is gone."""
    identity = identity_of(path)
    if identity is not None:
        message = f"the history file {path} is damaged, which holds {lost}"
        yield HistoryFault(list=name, path=str(path), identity=identity, message=message, to_do=_RESTORE)
