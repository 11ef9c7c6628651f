"""Keeping the history: linking the segments of new records, folding them into months, removing what is too old.

A publication only commits its record to the catalog. All work on files happens here, afterwards and outside every lock
of the road: a full disk or a kill can cost answers, but never a publication. Each step can be repeated.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.history_records import HistoryKind, HistoryMonth, HistoryRecord
from syncd.errors import SegmentError, StoreError
from syncd.files import PRIVATE_FILE, install_file, link_files, make_folder, sha256_file, storage, temporary_path
from syncd.format.manifest import SegmentRef
from syncd.history.files import HistoryFolder, Kind, MonthFile
from syncd.history.rows import HistoryRows, OpenMonth, damaged, merge, write
from syncd.history.segments import find_segment, rows_of, segment_places
from syncd.locks import lock
from syncd.model import ListName

FOLD_AT: Final = 64
"""Records from which those of the current month are folded. Searches open each segment that is not."""
LARGE: Final = 1 << 18
"""Rows from which a delta is not folded: its segments stay, since to copy them would gain nothing."""
LONGEST: Final = 1 << 20
"""Rows that are folded at once, and the most in a file that is merged: all are in memory, some 300 bytes each."""
LIKE: Final = 4
"""An older file of the current month joins a fold if it has at most this many times the rows."""
LOADS: Final = 200_000
"""Changes of loaded versions that are kept of each matcher, about 100 bytes each."""
_PRIVATE: Final = 0o700
_SILENT: Final = timedelta(days=62)
"""A clock this far ahead of the newest record and verification may be wrong, and must not end the history."""
_PURPOSE: Final = "keeping the history"


@dataclass(frozen=True)
class Kept:
    """The result of one run: segments linked, records folded, records whose rows were lost before."""

    linked: int = 0
    folded: int = 0
    lost: int = 0

    def __add__(self, other: "Kept") -> "Kept":
        return Kept(self.linked + other.linked, self.folded + other.folded, self.lost + other.lost)


def is_large(record: HistoryRecord) -> bool:
    """Return True if a record is never folded, because it names a whole stack or very many rows."""
    return record.kind is not HistoryKind.DELTA or sum(ref.rows for ref in record.segments) >= LARGE


def keep(state: StateFolder, catalog: Catalog, now: datetime) -> Kept:
    """Link the segments of new records, and fold what is due. Raises `StoreError`, `RefusedError` if another runs."""
    folder = HistoryFolder(private_folder(state.history))
    done, faults = Kept(), list[StoreError]()
    with lock(folder.lock, _PURPOSE):
        state.bring_private(state.history)
        for name in catalog.history_lists():
            try:
                done += _ListHistory(state, catalog, folder, name, now).keep()
            except StoreError as error:  # a damaged file of one list must not stop the others
                faults.append(error)
        state.push_private(state.history)
    if faults:
        raise faults[0]
    return done


def unlinked(state: StateFolder, catalog: Catalog) -> Iterator[tuple[HistoryRecord, SegmentRef]]:
    """Yield the segments that the history needs and has no link to yet, each with its record. Raises `StoreError`."""
    for name in catalog.history_lists():
        for record in (*catalog.unfolded_history(name), *catalog.history_states(name)):
            for ref in record.segments if record.kind is not HistoryKind.LOST else ():
                link = segment_places(state, name, record.source, ref)[0]
                if not _has_length(link, ref.length):
                    yield record, ref


def private_folder(path: Path) -> Path:
    """Create the folder of the history, or make it private again: a backup may be unpacked with other modes."""
    make_folder(path, _PRIVATE)
    with storage(path, "make private"):
        if path.stat().st_mode & 0o077:
            path.chmod(_PRIVATE)
    return path


def prune(state: StateFolder, catalog: Catalog, now: datetime, retention: timedelta) -> int:
    """Forget months that ended ``retention`` ago; return how many records. Raises as `keep`."""
    # A clock far ahead verifies no partner, since its metadata would have expired. Such a time does not count.
    known = [origin.verified_at for origin in catalog.origins()]
    known += [newest] if (newest := catalog.newest_history()) else []
    until = min([now, *([max(known) + _SILENT] if known else [])])
    first = (until - retention).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    catalog.prune_loads(first, LOADS)
    if not state.history.exists():
        return 0
    folder = HistoryFolder(state.history)
    with lock(folder.lock, _PURPOSE):
        state.bring_private(state.history)
        forgotten = catalog.prune_history(first) if (catalog.oldest_history() or first) < first else 0
        for name in folder.lists():
            for file in folder.all_months(name):
                if file.month < month_of(first):
                    _remove(file.path)
            _remove_unnamed(folder, name, (*catalog.unfolded_history(name), *catalog.history_states(name)))
        state.push_private(state.history)
    return forgotten


def month_of(at: datetime) -> str:
    """Return the month of a time in UTC: ``2026-11``."""
    return f"{at.astimezone(UTC):%Y-%m}"


@dataclass(frozen=True)
class _ListHistory:
    state: StateFolder
    catalog: Catalog
    folder: HistoryFolder
    name: ListName
    now: datetime

    def keep(self) -> Kept:
        records, states = self.catalog.unfolded_history(self.name), self.catalog.history_states(self.name)
        _remove(*self.folder.leftovers(self.name))
        linked = self._link((*records, *states))
        folded, lost = self._fold([record for record in records if not is_large(record)])
        self._close_months()
        counted = set(self.folder.months(self.name))
        _remove(*(file.path for file in self.folder.all_months(self.name) if file not in counted))
        if folded or lost:
            records = self.catalog.unfolded_history(self.name)
        _remove_unnamed(self.folder, self.name, (*records, *states))
        return Kept(linked, folded, lost)

    def _link(self, records: Iterable[HistoryRecord]) -> int:
        """Link the segments that have no link yet and still lie in the source's folder or the feed."""
        links: dict[Path, Path] = {}
        for record in records:
            for ref in record.segments if record.kind is not HistoryKind.LOST else ():
                link, *places = segment_places(self.state, self.name, record.source, ref)
                if _has_length(link, ref.length):
                    continue
                found = next((path for path in places if _has_length(path, ref.length)), None)
                if found is None and self.state.bucket is not None:
                    found = find_segment(self.state, record, ref)
                if found is not None and _has_length(found, ref.length):
                    _remove(link)  # the disk cut it short: whoever needed it first has fetched it again
                    links[link] = found
        link_files(((found, link) for link, found in links.items()), _PRIVATE)
        return len(links)

    def _fold(self, records: Sequence[HistoryRecord]) -> tuple[int, int]:
        """Fold the records of each month that is over, or that has many. Returns how many, and how many were lost."""
        folded = lost = 0
        for month, group in groupby(records, lambda record: month_of(record.at)):
            some = tuple(group)
            if month != month_of(self.now) or len(some) >= FOLD_AT:
                for batch in _batches(some):
                    gone = self._fold_month(month, batch)
                    self.catalog.note_folded({record.number for record in batch} - gone, gone, self._months(month))
                    folded, lost = folded + len(batch) - len(gone), lost + len(gone)
        return folded, lost

    def _fold_month(self, month: str, records: Sequence[HistoryRecord]) -> set[int]:
        """Write the rows of records into the month's files; return the records whose rows were lost."""
        parts: dict[Kind, list[HistoryRows]] = {}
        gone: set[int] = set()
        for record in records:
            try:
                for rows in rows_of(self.state, record):
                    parts.setdefault((rows.rows.algorithm, rows.rows.width), []).append(rows)
            except (StoreError, SegmentError) as error:
                if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                    raise  # the disk fails: the rows may be there
                gone.add(record.number)
        for of, some in sorted(parts.items()):
            self._write_month(of, month, some)
        return gone

    def _months(self, month: str) -> list[HistoryMonth]:
        """Count the rows of a month's files, so that the loss of one is noticed."""
        files = [file for file in self.folder.months(self.name) if file.month == month]
        rows: Counter[Kind] = Counter()
        for file in files:
            rows[file.of] += len(OpenMonth(file))
        return [HistoryMonth(self.name, *of, month, count) for of, count in rows.items()]

    def _write_month(self, of: Kind, month: str, parts: Sequence[HistoryRows]) -> None:
        """Write new rows as a file of the month, together with the newest files there if they are of similar size."""
        files = self.folder.months(self.name, of)
        fresh = [part for part in parts if not any(part.first in file for file in files)]
        if not fresh:  # a run that was killed had written them
            return
        # Files whose records lie between the new ones join in any case: they would be superseded.
        between = [file for file in files if fresh[0].first < file.last]
        older = files[: len(files) - len(between)]
        self._merge(of, month, (*_like(older, month, sum(map(len, fresh))), *between), fresh)

    def _close_months(self) -> None:
        """Merge the files of months that are over into one."""
        for (of, month), group in groupby(self.folder.months(self.name), lambda file: (file.of, file.month)):
            files = tuple(group)
            if month != month_of(self.now) and len(files) > 1:
                for joined in _not_too_long(files):
                    self._merge(of, month, joined)

    def _merge(self, of: Kind, month: str, files: Sequence[MonthFile], fresh: Sequence[HistoryRows] = ()) -> None:
        for file in files:  # damaged rows would be under the new file's hash
            if sha256_file(file.path) != file.sha256:
                raise damaged(file)
        parts = sorted([*(OpenMonth(file).rows() for file in files), *fresh], key=lambda part: part.first)
        rows = merge(parts)
        covers = [(file.first, file.last) for file in files] + [(part.first, part.first) for part in fresh]
        first, last = min(low for low, _ in covers), max(high for _, high in covers)
        staged = temporary_path(make_folder(self.folder.root / self.name, _PRIVATE))
        try:
            sha256 = write(staged, rows)
            file = self.folder.month_file(self.name, of, month, (first, last, sha256))
            install_file(staged, file.path, PRIVATE_FILE)
        finally:
            staged.unlink(missing_ok=True)


def _batches(records: Sequence[HistoryRecord]) -> Iterator[tuple[HistoryRecord, ...]]:
    """Yield records in order, about `LONGEST` rows at a time."""
    batch: list[HistoryRecord] = []
    rows = 0
    for record in records:
        batch.append(record)
        rows += sum(ref.rows for ref in record.segments)
        if rows >= LONGEST:
            yield tuple(batch)
            batch, rows = [], 0
    if batch:
        yield tuple(batch)


def _like(files: Sequence[MonthFile], month: str, rows: int) -> tuple[MonthFile, ...]:
    """Return the newest files of a month to be merged with new rows: so that each row is rarely copied."""
    joining: list[MonthFile] = []
    for file in reversed(files):
        length = len(OpenMonth(file))
        if file.month != month or length > LIKE * rows or length + rows > LONGEST:
            break
        joining.insert(0, file)
        rows += length
    return tuple(joining)


def _not_too_long(files: Sequence[MonthFile]) -> Iterator[tuple[MonthFile, ...]]:
    """Yield neighbours among the files of a month that can be merged into one of at most `LONGEST` rows."""
    joined: list[MonthFile] = []
    rows = 0
    for file in files:
        length = len(OpenMonth(file))
        if joined and rows + length > LONGEST:
            if len(joined) > 1:
                yield tuple(joined)
            joined, rows = [], 0
        joined.append(file)
        rows += length
    if len(joined) > 1:
        yield tuple(joined)


def _remove_unnamed(folder: HistoryFolder, name: ListName, records: Iterable[HistoryRecord]) -> None:
    """Remove links that no record needs any longer."""
    named = {ref.sha256 for record in records if record.kind is not HistoryKind.LOST for ref in record.segments}
    _remove(*(path for sha256, path in folder.segments(name).items() if sha256 not in named))


def _has_length(path: Path, length: int) -> bool:
    with storage(path, "read"):
        try:
            return path.stat().st_size == length
        except FileNotFoundError:
            return False


def _remove(*paths: Path) -> None:
    for path in paths:
        with storage(path, "remove"), suppress(FileNotFoundError):
            path.unlink()
