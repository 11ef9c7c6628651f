"""Proving the private history: month files, linked segments, and that the catalog's records have their rows."""

from collections import Counter, defaultdict
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryKind
from syncd.errors import MismatchError, StoreError
from syncd.files import sha256_file
from syncd.history.files import HistoryFolder, Kind
from syncd.history.rows import OpenMonth
from syncd.history.search import missing_months
from syncd.history.segments import segment_places
from syncd.model import ListName
from syncd.verify.tally import Tally

_LOST: Final = (
    "restore it from a backup; without it `syncd explain` says what it does not know, and nothing served depends on it"
)
_PRIVATE: Final = 0o077


def prove_history(state: StateFolder, catalog: Catalog, tally: Tally) -> None:
    """Prove the files of ``history/`` into ``tally``."""
    folder = HistoryFolder(state.history)
    if folder.root.exists():
        if folder.root.stat().st_mode & _PRIVATE:  # a backup that was unpacked with other modes
            tally.notes.append("history/ may be read by others, until the next sync makes it private (0700)")
        for name in folder.lists():
            _segments(folder, name, tally)
    for name in catalog.history_lists():
        _months(folder, catalog, name, tally)
        _records(state, catalog, name, tally)


def _months(folder: HistoryFolder, catalog: Catalog, name: ListName, tally: Tally) -> None:
    """Check each month's file, and that the files have all rows that were written."""
    have: dict[Kind, Counter[str]] = defaultdict(Counter)
    counted, before = folder.months(name), len(tally.faults)
    for file in folder.all_months(name):
        with tally.attempt(f"history/{name}/{file.path.name}"):
            opened = OpenMonth(file)
            opened.check()
            tally.count(file.path.stat().st_size)
            have[file.of][file.month] += len(opened) if file in counted else 0
    if len(tally.faults) > before:
        return
    for of in {(month.algorithm, month.width) for month in catalog.history_months(name)}:
        for gap in missing_months(catalog, name, of, have[of]):
            with tally.attempt(f"history/{name}"):
                raise StoreError(gap.message, hint=_LOST)


def _segments(folder: HistoryFolder, name: ListName, tally: Tally) -> None:
    for sha256, path in folder.segments(name).items():
        with tally.attempt(f"history/{name}/segments/{path.name}"):
            status = path.stat()
            known = tally.checked.get((status.st_dev, status.st_ino))  # a link to a segment that was read already
            if known is None and sha256_file(path) != sha256:
                raise MismatchError(f"{path} does not have the SHA-256 in its name", hint=_LOST)
            tally.count(status.st_size)
    for path in folder.leftovers(name):
        tally.notes.append(f"history/{name}/{path.name}: left over from an interrupted write")


def _records(state: StateFolder, catalog: Catalog, name: ListName, tally: Tally) -> None:
    """Check that the segments of every record that is not folded are there."""
    for record in (*catalog.unfolded_history(name), *catalog.history_states(name)):
        version = f"version {record.version}" if record.version else f"serial {record.serial}"
        if record.kind is HistoryKind.LOST:
            tally.notes.append(f"history/{name}: the rows of {version} were lost")
            continue
        for ref in record.segments:
            with tally.attempt(f"history/{name}/segments/{ref.sha256}.arrow"):
                if not any(path.exists() for path in segment_places(state, name, record.source, ref)):
                    raise StoreError(f"the rows of {name} {version} are missing from the history", hint=_LOST)
