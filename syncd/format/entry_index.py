"""The index from entries to rows of one segment, so that removing rows by entry does not read the whole segment.

A derived index of kind ``entries``: a hash of each row's entry, sorted, the rows in that order, and a table of the
first bits of the hashes. A hit is compared with the entry in the segment. It is made when it is first needed; small
segments are read instead.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.errors import StoreError
from syncd.files import storage
from syncd.format.checksum import entry_hashes
from syncd.format.derived import DamagedIndexError, DerivedIndex, IndexOf, index_path, written
from syncd.format.rows import Entries, Index, Rows, concatenate
from syncd.format.segment import Segment

KIND: Final = "entries"
LEAST: Final = 1 << 17
"""rows from which a segment gets an index; a smaller one is read in some milliseconds"""
_VERSION: Final = 1
_CHUNK: Final = 1 << 18
_PART: Final = 1 << 21
"""rows that are sorted at once"""
_SMALL_ROWS: Final = 1 << 32
_BITS_LEFT: Final = 8
_AT_ONCE: Final = 1 << 12
"""entries that are looked up at once"""
_WORTH_READING: Final = 256
"""rows for each entry, below which reading a segment is faster"""


def rows_by_reading(segment: Segment, entries: Entries) -> Rows:
    """Return the rows of a segment that have one of ``entries``, removals too. Reads the whole segment."""
    found = [rows.take(_among(rows.entries, entries)) for rows in segment.chunks(_CHUNK)]
    return concatenate([Rows.empty(segment.algorithm), *found])


def _among(some: Entries, entries: Entries) -> NDArray[np.bool_]:
    return np.asarray(pc.is_in(some, entries), dtype=bool)


def as_entries(entries: Entries | Sequence[str]) -> Entries:
    """Return entries as a column."""
    return entries if isinstance(entries, pa.Array) else pa.array(entries, pa.large_utf8())


@dataclass(frozen=True)
class EntryIndexes:
    """The entry indexes of the segments in one folder. The caller holds its lock: a missing index is written."""

    root: Path
    least: int = LEAST

    def rows(self, segment: Segment, entries: Entries) -> Rows:
        """Return the rows of a segment that have one of ``entries``, removals too. Raises `StoreError`."""
        if len(segment) < self.least or len(segment) < _WORTH_READING * len(entries):
            return rows_by_reading(segment, entries)
        try:
            rows = _positions(self._made(segment), entries, len(segment))
        except DamagedIndexError:  # it costs time, never an answer
            index_path(self.root, segment.ref.sha256, KIND).unlink(missing_ok=True)
            return rows_by_reading(segment, entries)
        found = segment.take(rows)
        return found.take(_among(found.entries, entries))

    def _made(self, segment: Segment) -> DerivedIndex:
        found = self._open(segment)
        if found is None:
            write_entry_index(segment, self.root)
            found = self._open(segment)
        if found is None:
            raise StoreError(f"the index of segment {segment.path.name} cannot be read again", hint="check the disk")
        return found

    def _open(self, segment: Segment) -> DerivedIndex | None:
        return DerivedIndex.open(index_path(self.root, segment.ref.sha256, KIND), index_of(segment.ref.sha256))


def index_of(segment: str) -> IndexOf:
    """Return the identity of the entry index of a segment."""
    return IndexOf(KIND, _VERSION, segment)


def _positions(index: DerivedIndex, entries: Entries, count: int) -> Index:
    """Return the rows whose entry has the hash of one of ``entries``, sorted. Raises `DamagedIndexError`."""
    wanted = np.unique(entry_hashes(entries))
    found = [_some_positions(index, wanted[start : start + _AT_ONCE]) for start in range(0, len(wanted), _AT_ONCE)]
    rows = np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
    if len(rows) and rows[-1] >= count:
        raise DamagedIndexError("an index does not fit its segment")
    return rows


def _some_positions(index: DerivedIndex, wanted: NDArray[np.uint64]) -> Index:
    starts, hashes, rows = (index.columns[name] for name in ("starts", "hashes", "rows"))
    ranges = _ranges(wanted, _bits(len(hashes)))
    low, high = starts.take(ranges).astype(np.int64), starts.take(ranges + 1).astype(np.int64)
    lengths = high - low
    first = np.repeat(low - (np.cumsum(lengths) - lengths), lengths)
    places = first + np.arange(len(first))
    same = hashes.take(places) == np.repeat(wanted, lengths)
    return rows.take(places[same]).astype(np.int64)


def _bits(count: int) -> int:
    """Return the bits of a hash by which the table narrows the search, to some 256 of ``count`` rows."""
    return max(0, count.bit_length() - _BITS_LEFT)


def _ranges(hashes: NDArray[np.uint64], bits: int) -> Index:
    shifted = hashes >> np.uint64(64 - bits) if bits else np.zeros(len(hashes), np.uint64)
    return shifted.astype(np.int64)


def write_entry_index(segment: Segment, root: Path) -> None:
    """Write the index of a segment, durably. The caller holds a lock. Raises `StoreError`.

    Memory is that of `_PART` rows; the columns are on scratch until they are written.
    """
    path = index_path(root, segment.ref.sha256, KIND)
    kind = "<u4" if len(segment) < _SMALL_ROWS else "<u8"
    with written(path, index_of(segment.ref.sha256)) as writer, storage(path, "write"), contextlib.ExitStack() as files:
        unsorted, hashes, rows = (
            _column(files.enter_context(tempfile.TemporaryFile(dir=path.parent)), len(segment), dtype)
            for dtype in ("<u8", "<u8", kind)
        )
        at = 0
        for chunk in segment.chunks(_CHUNK):
            unsorted[at : at + len(chunk)] = entry_hashes(chunk.entries)
            at += len(chunk)
        _sort(unsorted, hashes, rows)
        for name, column in (("starts", _starts(hashes).astype(kind)), ("hashes", hashes), ("rows", rows)):
            writer.column(name, column.dtype, len(column)).append(column)


def _column(stream: IO[bytes], count: int, dtype: str) -> NDArray[Any]:
    return np.memmap(stream, dtype, "w+", shape=(max(count, 1),))[:count]


def _sort(unsorted: NDArray[Any], hashes: NDArray[Any], rows: NDArray[Any]) -> None:
    """Sort by hash and row, one range of hashes at a time."""
    bits = max(0, (len(unsorted) // _PART).bit_length())
    at = 0
    for part in range(1 << bits):
        some = _rows_in(unsorted, part, bits)
        values = unsorted[some]
        order = np.argsort(values, kind="stable")
        hashes[at : at + len(some)] = values[order]
        rows[at : at + len(some)] = some[order]
        at += len(some)


def _starts(hashes: NDArray[Any]) -> Index:
    """Return the place at which each range of the sorted hashes starts, and their number."""
    bits = _bits(len(hashes))
    counts = np.zeros(1 << bits, np.int64)
    for start in range(0, len(hashes), _PART):
        counts += np.bincount(_ranges(hashes[start : start + _PART], bits), minlength=1 << bits)
    return np.concatenate([[0], np.cumsum(counts)])


def _rows_in(unsorted: NDArray[Any], part: int, bits: int) -> Index:
    if not bits:
        return np.arange(len(unsorted))
    found = []
    for start in range(0, len(unsorted), _PART):
        ranges = unsorted[start : start + _PART] >> np.uint64(64 - bits)
        found.append(np.flatnonzero(ranges == part) + start)
    return np.concatenate(found)
