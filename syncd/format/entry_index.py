"""The index from entries to rows of one segment, so that removing rows by entry does not read the whole segment.

A derived index of kind ``entries``, of two columns. ``rows`` has a word for each row, in order of the 64-bit hash of
its entry and then of the row: 32 bits of the hash above the number of the row. ``starts`` is a table by the first bits
of the hashes, and the 32 bits are those that follow them. Hashes are spread evenly, so where one lies in its range of
the table is known to some dozens of words. A hit is compared with the entry in the segment. The index is made when it
is first needed; small segments are read instead, and those of 2^32 rows or more.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.errors import StoreError
from syncd.files import storage
from syncd.format.checksum import entry_hashes
from syncd.format.derived import Column, DamagedIndexError, DerivedIndex, IndexOf, index_path, written
from syncd.format.rows import Entries, Index, Rows, concatenate
from syncd.format.segment import Segment

KIND: Final = "entries"
LEAST: Final = 1 << 17
"""rows from which a segment gets an index; a smaller one is read in some milliseconds"""
_VERSION: Final = 2
_CHUNK: Final = 1 << 18
_PART: Final = 1 << 21
"""rows that are sorted at once"""
_MOST: Final = 1 << 32
_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64((1 << 32) - 1)
_BITS_LEFT: Final = 11
_NEAR: Final = 64
"""words on either side of the place of a hash that are read first: three times the usual error in 2^11"""
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
        if not self.least <= len(segment) < _MOST or len(segment) < _WORTH_READING * len(entries):
            return rows_by_reading(segment, entries)
        try:
            rows = self._positions(segment, entries)
        except DamagedIndexError:  # it costs time, never an answer
            index_path(self.root, segment.ref.sha256, KIND).unlink(missing_ok=True)
            return rows_by_reading(segment, entries)
        found = segment.take(rows)
        return found.take(_among(found.entries, entries))

    def _positions(self, segment: Segment, entries: Entries) -> Index:
        path, of = index_path(self.root, segment.ref.sha256, KIND), index_of(segment.ref.sha256)
        with DerivedIndex.opened(path, of) as index:
            if index is not None:
                return _positions(index, entries, len(segment))
        write_entry_index(segment, self.root)
        with DerivedIndex.opened(path, of) as index:
            if index is not None:
                return _positions(index, entries, len(segment))
        raise StoreError(f"the index of segment {segment.path.name} cannot be read again", hint="check the disk")


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
    starts, rows = index.columns["starts"], index.columns["rows"]
    bits = _bits(len(rows))
    ranges, halves = _ranges(wanted, bits), _halves(wanted, bits)
    low, high = starts.take(ranges).astype(np.int64), starts.take(ranges + 1).astype(np.int64)
    places = low + (halves.astype(np.int64) * (high - low) >> np.int64(32))
    found, whole = _read(rows, halves, np.maximum(low, places - _NEAR), np.minimum(high, places + _NEAR), low, high)
    if not whole.all():
        low, high = low[~whole], high[~whole]
        found = np.concatenate([found, _read(rows, halves[~whole], low, high, low, high)[0]])
    return found


def _read(
    rows: Column, halves: NDArray[np.uint64], start: Index, stop: Index, low: Index, high: Index
) -> tuple[Index, NDArray[np.bool_]]:
    """Return the rows with each half of a hash in the words from start to stop, which lie in its range of the table.

    And True for each half that cannot also occur outside these words; for the others no row is returned.
    """
    lengths = stop - start
    words = rows.read(start, stop)
    stated, of = words >> _HALF, np.repeat(np.arange(len(halves)), lengths)
    ends = np.cumsum(lengths)
    whole = (start == low) & (stop == high)
    some = np.flatnonzero(lengths > 0)
    first, last = stated[ends[some] - lengths[some]], stated[ends[some] - 1]
    begins, goes_on = (start == low)[some] | (first < halves[some]), (stop == high)[some] | (last > halves[some])
    whole[some] = begins & goes_on
    same = (stated == halves[of]) & whole[of]
    found: Index = (words[same] & _LOW).astype(np.int64)
    return found, whole


def _halves(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Return the 32 bits after the first ``bits`` of each hash."""
    return (hashes << np.uint64(bits)) >> _HALF


def _bits(count: int) -> int:
    """Return the bits of a hash by which the table narrows the search, to some 2,000 of ``count`` rows."""
    return max(0, count.bit_length() - _BITS_LEFT)


def _ranges(hashes: NDArray[np.uint64], bits: int) -> Index:
    shifted = hashes >> np.uint64(64 - bits) if bits else np.zeros(len(hashes), np.uint64)
    return shifted.astype(np.int64)


def write_entry_index(segment: Segment, root: Path) -> None:
    """Write the index of a segment, durably. The caller holds a lock. Raises `StoreError`.

    Memory is that of `_PART` rows; the hashes are on scratch until they are sorted.
    """
    path, count = index_path(root, segment.ref.sha256, KIND), len(segment)
    with (
        written(path, index_of(segment.ref.sha256)) as writer,
        storage(path, "write"),
        tempfile.TemporaryFile(dir=path.parent) as scratch,
    ):
        hashes = np.memmap(scratch, "<u8", "w+", shape=(count,))
        at = 0
        for chunk in segment.chunks(_CHUNK):
            hashes[at : at + len(chunk)] = entry_hashes(chunk.entries)
            at += len(chunk)
        table = _bits(count)
        lengths = np.zeros(1 << table, np.int64)
        column = writer.column("rows", "<u8", count)
        for values, rows in _sorted(hashes):
            column.append((_halves(values, table) << _HALF) | rows.astype(np.uint64))
            lengths += np.bincount(_ranges(values, table), minlength=1 << table)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype("<u4")
        writer.column("starts", starts.dtype, len(starts)).append(starts)


def _sorted(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.uint64], Index]]:
    """Yield the hashes in order with their rows, one range of hashes at a time."""
    bits = max(0, (len(hashes) // _PART).bit_length())
    for part in range(1 << bits):
        rows = _rows_in(hashes, part, bits)
        values = hashes[rows]
        order = np.argsort(values, kind="stable")
        yield values[order], rows[order]


def _rows_in(hashes: NDArray[np.uint64], part: int, bits: int) -> Index:
    if not bits:
        return np.arange(len(hashes))
    found = []
    for start in range(0, len(hashes), _PART):
        some = _ranges(hashes[start : start + _PART], bits)
        found.append(np.flatnonzero(some == part) + start)
    return np.concatenate(found)
