"""Segments: immutable Arrow IPC files of rows of one algorithm, sorted by (digest, entry).

`Segment.open` maps a file that was already proved; `Segment.check` proves one. ``docs/format.md`` is the specification.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.errors import SegmentError, SegmentFault
from syncd.files import sha256_file
from syncd.format.arrow import FileId, check_length, check_size, read_batch
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.checksum import entry_bytes
from syncd.format.gather import Gather
from syncd.format.guess import ABSENT, GUESSABLE, UNKNOWN, make_guess
from syncd.format.lazy import lazy
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Digests, Entries, Index, Mask, Rows, repeats
from syncd.format.search import RowSearch
from syncd.model import MAX_ENTRY_BYTES, MAX_LABEL_BYTES, Algorithm

DAMAGED_SINCE: Final = (
    "it was damaged or altered on this disk: in a copy, run the same `syncd pull` with `--check`; in a state, remove "
    "all files that `syncd verify` names below feed/ and sources/, then sync; elsewhere restore it from a backup or a "
    "mirror"
)
DAMAGE: Final = (ArithmeticError, LookupError, ValueError, struct.error)
"""The exceptions of Python, numpy and Arrow when they read columns that were damaged after they were proved."""
_LONGEST: Final = MAX_ENTRY_BYTES
_CHUNK: Final = 1 << 20

Lookup = Callable[[bytes], list[tuple[str, str]]]
"""Returns the (entry, label) pairs that support a digest. Raises `SegmentError` if the segment is damaged."""

RowProgress = Callable[[int], None]
"""Called during long work with the number of rows done since the last call."""


def ignore_progress(rows: int) -> None:
    """Do nothing: a `RowProgress` that reports to nobody."""
    del rows


class Segment:
    """One mapped segment. Its columns are views of the file, neither parsed nor copied."""

    def __init__(self, path: Path, ref: SegmentRef, mapped: mmap.mmap, batch: Any, file: FileId) -> None:
        self._file = file
        self.path, self.ref, self._mapped, self._batch = path, ref, mapped, batch
        self.width: int = batch.column(0).type.byte_width
        """bytes of one digest"""
        self.digests: Digests = np.frombuffer(batch.column(0).buffers()[1], f"S{self.width}", len(batch))
        self.entries: Entries = batch.column(1)
        label = batch.column(2)
        self._codes: NDArray[np.int32] = np.frombuffer(label.indices.buffers()[1], np.int32, len(batch))
        self._dictionary: Any = label.dictionary
        self.search = RowSearch(self.digests, self.entries)
        # The same columns again for single look-ups: a slice of the map costs a tenth of an Arrow scalar.
        offsets, content = self.entries.buffers()[1:]
        self._count = len(batch)
        self._digests_at = _place(path, mapped, batch.column(0).buffers()[1])
        self._bisect = partial(_bisect, self.digests, mapped, self._digests_at)
        evenly_spread = ref.algorithm.cryptographic and self._count in GUESSABLE
        self._guess = make_guess(mapped, self._digests_at, self._count, self.width) if evenly_spread else _no_guess
        self._entries_at = _place(path, mapped, content) if content else 0
        self._entry_offsets = memoryview(offsets).cast("q")
        self._label_codes = self._codes.data

    def __len__(self) -> int:
        return len(self.digests)

    def __repr__(self) -> str:
        return f"Segment({self.path.name[:12]}, {self.ref.kind}, {len(self)} rows)"

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of all its digests."""
        return self.ref.algorithm

    @lazy
    def labels(self) -> tuple[str, ...]:
        """The label dictionary, sorted. Raises `SegmentError` if it was damaged."""
        try:
            self._dictionary.validate(full=True)  # otherwise pyarrow would follow a damaged offset out of the file
            return tuple(self._dictionary.to_pylist())
        except DAMAGE:
            raise damaged(self.path) from None

    @lazy
    def named(self) -> frozenset[bytes]:
        """The digests of all its rows, in memory; meant for deltas."""
        content, width = self.digests.tobytes(), self.width
        return frozenset(content[start : start + width] for start in range(0, len(content), width))

    @classmethod
    def open(cls, path: Path, ref: SegmentRef) -> Self:
        """Map a segment whose hash was proved when it was installed. Raises `StoreError` and `SegmentError`."""
        try:
            return cls._of(path, ref)
        except SegmentError as error:
            error.hint = DAMAGED_SINCE  # it was sound when it was installed: the publisher is not to blame
            raise

    @classmethod
    def check(cls, path: Path, ref: SegmentRef, caps: Caps = DEFAULT_CAPS) -> Self:
        """Prove every property of format 1, the hash first. Raises `SegmentError` with the fault."""
        check_size(path, ref, caps)
        if sha256_file(path) != ref.sha256:
            raise SegmentError(path, SegmentFault.HASH, "its content does not match the SHA-256 in its name")
        return cls.check_all_but_hash(path, ref, caps)

    @classmethod
    def check_all_but_hash(
        cls, path: Path, ref: SegmentRef, caps: Caps = DEFAULT_CAPS, checked: RowProgress = ignore_progress
    ) -> Self:
        """Prove everything but the SHA-256. Only for a file whose hash was proved while it was written.

        `Peer.download` does that, and reading the file twice would cost as much as fetching it. ``checked`` reports
        progress. Raises as `check`.
        """
        check_size(path, ref, caps)
        segment = cls._of(path, ref, prove=True)
        segment._check_rows(caps, checked)
        return segment

    @classmethod
    def _of(cls, path: Path, ref: SegmentRef, *, prove: bool = False) -> Self:
        mapped, batch, file = read_batch(path, ref, prove=prove)
        try:
            return cls(path, ref, mapped, batch, file)
        except (TypeError, *DAMAGE):
            raise SegmentError(path, SegmentFault.NOT_ARROW, "its columns do not fit its rows") from None

    def maps_current_file(self) -> bool:
        """Return False if its path now holds another file, as after a repair.

        Raises `StoreError` if there is none, and `SegmentError` if its length is wrong.
        """
        return check_length(self.path, self.ref) == self._file

    def release_pages(self) -> None:
        """Release the pages read so far from this process; the system keeps them in its cache while there is room."""
        self._mapped.madvise(mmap.MADV_DONTNEED)

    def rows(self, start: int = 0, stop: int | None = None) -> Rows:
        """Return rows ``start`` to ``stop`` as views of the file."""
        stop = len(self) if stop is None else min(stop, len(self))
        return Rows(
            self.algorithm,
            self.digests[start:stop],
            self.entries.slice(start, stop - start),
            self._codes[start:stop],
            self.labels,
            self._removed(start, stop),
        )

    def _removed(self, start: int, stop: int) -> Mask:
        if self.ref.kind == "base":
            return np.zeros(stop - start, bool)
        column = self._batch.column(3).slice(start, stop - start)
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=bool)

    def chunks(self, size: int = _CHUNK) -> Iterator[Rows]:
        """Yield all rows in order, ``size`` at a time."""
        self._mapped.madvise(mmap.MADV_SEQUENTIAL)
        try:
            for start in range(0, len(self), size):
                yield self.rows(start, start + size)
        finally:
            self._mapped.madvise(mmap.MADV_RANDOM)

    def row_range(self, digest: bytes) -> tuple[int, int]:
        """Return the rows [start, stop) of one digest; an empty range if it is not in the segment."""
        try:
            row = self._guess(digest)
            return (row, row + 1) if row >= 0 else (0, 0) if row == ABSENT else self._bisect(digest)
        except DAMAGE:
            raise damaged(self.path) from None

    @lazy
    def entries_of(self) -> Lookup:
        """A function that returns the (entry, label) of every row of one digest.

        It is a single closure for speed, as in `make_guess`. It does not refer to the segment, which refers to it.
        """
        guess, bisect, mapped, at = self._guess, self._bisect, self._mapped, self._entries_at
        offsets, codes, labels, path, longest = self._entry_offsets, self._label_codes, self.labels, self.path, _LONGEST

        def entries_of(digest: bytes) -> list[tuple[str, str]]:
            found = []
            try:
                row = guess(digest)
                for place in (row,) if row >= 0 else () if row == ABSENT else range(*bisect(digest)):
                    start, stop = offsets[place], offsets[place + 1]
                    if not 0 <= stop - start <= longest:  # a damaged offset could ask for the whole file
                        raise damaged(path)
                    found.append((mapped[at + start : at + stop].decode(), labels[codes[place]]))
            except DAMAGE:
                raise damaged(path) from None
            return found

        return entries_of

    def take(self, rows: Index) -> Rows:
        """Return the rows at these positions, in that order."""
        if self.ref.kind == "base":
            removed = np.zeros(len(rows), bool)
        else:
            removed = np.asarray(self._batch.column(3).take(pa.array(rows)).to_numpy(zero_copy_only=False), dtype=bool)
        some = Gather(rows)
        entries = some.entries(self.entries)
        return Rows(self.algorithm, some.values(self.digests), entries, some.values(self._codes), self.labels, removed)

    def removes(self, row: int) -> bool:
        """Return True if the row is a removal."""
        return self.ref.kind == "delta" and bool(self._batch.column(3)[row].as_py())

    def entry_and_label(self, row: int) -> tuple[str, str]:
        """Return the entry and label of one row."""
        at, offsets = self._entries_at, self._entry_offsets
        try:
            start, stop = offsets[row], offsets[row + 1]
            if not 0 <= stop - start <= _LONGEST:
                raise damaged(self.path)
            return self._mapped[at + start : at + stop].decode(), self.labels[self._label_codes[row]]
        except DAMAGE:
            raise damaged(self.path) from None

    def holds(self, digests: Digests) -> Mask:
        """Return True for each digest that has a row."""
        try:
            return self.search.find(digests)[1]
        except DAMAGE:
            raise damaged(self.path) from None

    def ranges(self, digests: Digests) -> tuple[Index, Index]:
        """Return for each digest the rows [start, stop) that hold it. O(k log n)."""
        try:
            return self.search.ranges(digests)
        except DAMAGE:
            raise damaged(self.path) from None

    def positions(self, digests: Digests, entries: Entries) -> tuple[Index, Mask]:
        """Return for each (digest, entry) the first row not before it, and True if that row is it. O(k log n)."""
        try:
            return self.search.positions(digests, entries)
        except DAMAGE:
            raise damaged(self.path) from None

    def check_entries(self) -> None:
        """Prove that every entry lies in the file and is UTF-8: Arrow would follow a damaged offset out of it.

        Reads the whole column, so use it only for deltas. Raises `SegmentError`.
        """
        try:
            self.entries.validate(full=True)
        except DAMAGE:
            raise damaged(self.path) from None

    def _check_rows(self, caps: Caps, checked: RowProgress) -> None:
        if len(self._dictionary) > caps.labels:
            raise SegmentError(
                self.path,
                SegmentFault.CAP,
                f"{len(self._dictionary)} distinct labels; this reader accepts at most {caps.labels}",
            )
        label_bytes = pc.sum(pc.binary_length(self._dictionary)).as_py()
        if label_bytes > caps.label_bytes:
            raise SegmentError(
                self.path,
                SegmentFault.CAP,
                f"{label_bytes} bytes of labels; this reader accepts at most {caps.label_bytes}",
            )
        self._check_order(checked)
        self._check_entries()
        self._check_labels()
        self._check_removals()

    def _check_entries(self) -> None:
        for start in range(0, len(self), _CHUNK):
            offsets, _ = entry_bytes(self.entries.slice(start, _CHUNK))
            long = np.flatnonzero(np.diff(offsets) > MAX_ENTRY_BYTES)
            if len(long):
                raise SegmentError(
                    self.path,
                    SegmentFault.SCHEMA,
                    f"an entry is longer than {MAX_ENTRY_BYTES} bytes",
                    start + int(long[0]),
                )

    def _check_order(self, checked: RowProgress) -> None:
        for start in range(0, len(self), _CHUNK):
            first = max(0, start - 1)
            stop = min(len(self), start + _CHUNK)
            wrong = repeats(self.digests[first:stop], self.entries.slice(first, stop - first))
            if not len(wrong):
                checked(stop - start)
                continue
            row = first + int(wrong[0])
            pair = self.rows(row - 1, row + 1)
            same = pair.digests[0] == pair.digests[1] and pair.entries[0] == pair.entries[1]
            fault = SegmentFault.DUPLICATE_ROW if same else SegmentFault.UNSORTED
            raise SegmentError(
                self.path, fault, "repeats the (digest, entry) of the row before" if same else "out of order", row
            )

    def _check_labels(self) -> None:
        encoded = [label.encode() for label in self.labels]
        if encoded != sorted(set(encoded)):
            raise SegmentError(self.path, SegmentFault.SCHEMA, "the labels are not sorted and unique")
        used = np.zeros(len(encoded), bool)
        for start in range(0, len(self), _CHUNK):
            used[self._codes[start : start + _CHUNK]] = True
        if not used.all():
            raise SegmentError(self.path, SegmentFault.SCHEMA, "a label is not used by any row")
        long = [code for code, label in enumerate(encoded) if len(label) > MAX_LABEL_BYTES]
        if long:
            row = int(np.flatnonzero(np.isin(self._codes, long))[0])
            raise SegmentError(self.path, SegmentFault.SCHEMA, f"a label is longer than {MAX_LABEL_BYTES} bytes", row)

    def _check_removals(self) -> None:
        removed = self._removed(0, len(self))
        removals = int(removed.sum())
        if removals != self.ref.removals:
            raise SegmentError(
                self.path, SegmentFault.ROW_COUNT, f"{removals} removals; the manifest says {self.ref.removals}"
            )
        if removals:
            labelled = np.flatnonzero(removed & (self._codes != (self.labels.index("") if "" in self.labels else -1)))
            if len(labelled):
                raise SegmentError(
                    self.path, SegmentFault.SCHEMA, "a removal has a label other than ''", int(labelled[0])
                )


def damaged(path: Path) -> SegmentError:
    """Return the error for a segment that was proved and has been damaged since."""
    error = SegmentError(path, SegmentFault.HASH, "a look-up found damage in it")
    error.hint = DAMAGED_SINCE
    return error


def _no_guess(digest: bytes) -> int:  # noqa: ARG001 - the signature of `Guess`
    return UNKNOWN


def _bisect(digests: Digests, mapped: mmap.mmap, digests_at: int, digest: bytes) -> tuple[int, int]:
    """Return the rows [start, stop) of one digest in the column that begins at ``digests_at`` in the map."""
    start = stop = int(digests.searchsorted(digest))
    # Compared as raw bytes: numpy strips trailing NULs from a value taken out of an array.
    width, rows = len(digest), len(digests)
    at = digests_at + start * width
    while stop < rows and mapped[at : at + width] == digest:
        stop += 1
        at += width
    return start, stop


def _place(path: Path, mapped: mmap.mmap, buffer: Any) -> int:
    """Return the offset of a column's buffer in the map. A decompressed buffer is outside; proved files have none."""
    place = buffer.address - pa.py_buffer(mapped).address
    if not 0 <= place <= len(mapped) - buffer.size:
        raise SegmentError(path, SegmentFault.COMPRESSED, "a buffer is compressed, which format 1 does not allow")
    return int(place)
