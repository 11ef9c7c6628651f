"""Sorting more rows than fit in memory: split them by a digit of the digest on scratch, then sort each part.

Cryptographic digests spread evenly; others may share long beginnings. A bucket that is too large is split again at the
first digit in which its digests differ, so memory is bounded if the rows of any single digest fit.
"""

import mmap
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.format.rows import Digests, Entries, Index, Mask, Rows, repeats, sort_order
from syncd.model import Algorithm

IN_MEMORY: Final = 128 << 20
"""bytes of a bucket that is sorted in memory; sorting takes about three times as much"""
_BUCKETS: Final = 16
Counting = Callable[[Index], Mask | None]
"""Returns, for the lines of some rows, True for each row that counts; None if all do."""


def every_row(lines: Index) -> None:
    """Let every row count: a `Counting`."""
    del lines


@dataclass(frozen=True)
class Conflicts:
    """Rows that give an entry another label than an earlier row."""

    lines: Index
    """line numbers of these rows"""
    firsts: Index
    """line numbers of the earlier rows"""


@dataclass(frozen=True)
class SortedRows:
    """Sorted rows, each (digest, entry) once: the first by line. Further ones are counted or listed."""

    rows: Rows
    duplicates: int
    """number of rows equal to an earlier one"""
    conflicts: Conflicts


class _Bucket:
    """Rows in an unnamed file, which vanishes with the process."""

    def __init__(self, folder: Path, schema: Any) -> None:
        self._stream: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it
        self._writer = pa.ipc.new_stream(self._stream, schema)

    def add(self, batch: Any) -> None:
        self._writer.write_batch(batch)

    def finish(self) -> int:
        """Finish writing; return the number of bytes written."""
        self._writer.close()
        self._stream.flush()
        return self._stream.tell()

    def batches(self) -> Iterator[Any]:
        """Yield the batches in the order they were added, memory-mapped."""
        content = pa.py_buffer(mmap.mmap(self._stream.fileno(), 0, prot=mmap.PROT_READ))
        yield from pa.ipc.open_stream(content)

    def close(self) -> None:
        self._stream.close()


class Buckets:
    """Rows of one algorithm: add all of them, then read them sorted. Use as a context manager.

    ``width``: bytes of one digest, if the algorithm does not state it. Raises `OSError` if the scratch folder is full.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        *,
        width: int | None = None,
        in_memory: int = IN_MEMORY,
        digit: int = 0,
    ) -> None:
        self._folder, self._algorithm, self._in_memory, self._digit = folder, algorithm, in_memory, digit
        self._width = algorithm.width if width is None else width
        self._buckets: dict[int, _Bucket] = {}
        self._schema = pa.schema(
            {"digest": pa.binary(self._width), "entry": pa.large_utf8(), "code": pa.int32(), "line": pa.int64()}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the scratch space."""
        for bucket in self._buckets.values():
            bucket.close()

    def add(self, digests: Digests, entries: Entries, codes: NDArray[np.int32], lines: Index) -> None:
        """Add rows; those of the same (digest, entry) in order of lines. ``codes`` are the numbers of the labels."""
        column = pa.FixedSizeBinaryArray.from_buffers(
            self._schema.field(0).type, len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))]
        )
        columns = [column, entries, pa.array(codes), pa.array(lines)]
        self._distribute(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def _distribute(self, batch: Any) -> None:
        digests = _digests(batch)
        content = digests.view(np.uint8).reshape(len(digests), -1)[:, self._digit // 2]
        digits = np.bitwise_and(content, np.uint8(15)) if self._digit % 2 else np.right_shift(content, np.uint8(4))
        ordered = batch.take(pa.array(np.argsort(digits, kind="stable")))
        bounds = np.concatenate([[0], np.cumsum(np.bincount(digits, minlength=_BUCKETS))]).tolist()
        for number in range(_BUCKETS):
            start, stop = bounds[number], bounds[number + 1]
            if start < stop:
                if number not in self._buckets:
                    self._buckets[number] = _Bucket(self._folder, self._schema)
                self._buckets[number].add(ordered.slice(start, stop - start))

    def sorted_rows(self, labels: tuple[str, ...], counts: Counting = every_row) -> Iterator[SortedRows]:
        """Yield the rows that count in order of (digest, entry), one bucket at a time. Call once."""
        for number in sorted(self._buckets):
            bucket = self._buckets.pop(number)
            try:
                large = bucket.finish() > self._in_memory
                digit = _first_difference(bucket) if large else None
                if digit is None:
                    yield self._sort(bucket, labels, counts)
                else:
                    yield from self._split(bucket, digit, labels, counts)
            finally:
                bucket.close()

    def _split(self, bucket: _Bucket, digit: int, labels: tuple[str, ...], counts: Counting) -> Iterator[SortedRows]:
        with Buckets(
            self._folder, self._algorithm, width=self._width, in_memory=self._in_memory, digit=digit
        ) as smaller:
            for batch in bucket.batches():
                smaller._distribute(batch)
            yield from smaller.sorted_rows(labels, counts)

    def _sort(self, bucket: _Bucket, labels: tuple[str, ...], counts: Counting) -> SortedRows:
        table = pa.Table.from_batches(bucket.batches()).combine_chunks()
        digest, entry, code, line = (column.chunk(0) for column in table.columns)
        digests = np.frombuffer(digest.buffers()[1], f"S{self._width}", len(digest))
        rows = Rows(self._algorithm, digests, entry, code.to_numpy(), labels, np.zeros(len(digest), bool))
        lines = line.to_numpy()
        kept = counts(lines)
        return _sort(rows, lines) if kept is None else _sort(rows.take(kept), lines[kept])


def _digests(batch: Any) -> Digests:
    column = batch.column(0)
    width = column.type.byte_width
    digests: Digests = np.frombuffer(column.buffers()[1], f"S{width}", len(batch), column.offset * width)
    return digests


def _first_difference(bucket: _Bucket) -> int | None:
    """Return the index of the first hexadecimal digit in which the digests differ; None if all are equal."""
    edges: list[bytes] = []
    width = 0
    for batch in bucket.batches():
        ordered = np.sort(_digests(batch))
        width = ordered.dtype.itemsize
        edges += [bytes(ordered[0]), bytes(ordered[-1])]
    low, high = (edge.ljust(width, b"\0").hex() for edge in (min(edges), max(edges)))  # numpy strips NULs
    return next((digit for digit in range(2 * width) if low[digit] != high[digit]), None)


def _sort(unsorted: Rows, lines: Index) -> SortedRows:
    order = sort_order(unsorted)
    rows = unsorted.take(order)
    again = repeats(rows.digests, rows.entries)
    kept = np.ones(len(rows), bool)
    kept[again] = False
    first = np.maximum.accumulate(np.where(kept, np.arange(len(rows)), 0))[again]  # the order is stable: by line
    other = rows.codes[again] != rows.codes[first]
    conflicts = Conflicts(lines[order[again[other]]], lines[order[first[other]]])
    return SortedRows(rows.take(kept) if len(again) else rows, int(np.count_nonzero(~other)), conflicts)
