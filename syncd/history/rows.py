"""The rows of the history: rows of deltas, each with the publication that it belongs to. Writing, reading, merging.

A month's file is an Arrow IPC file with one record batch, sorted by (digest, entry, number), and mapped to be read. Its
name has its SHA-256. The format is private: only this module knows it.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.errors import StoreError
from syncd.files import sha256_file, storage
from syncd.format.rows import Rows, concatenate, repeats, sort_order
from syncd.history.files import MonthFile

HEAD: Final = 1
"""The row is one of the head's delta."""
ORIGIN: Final = 2
"""The row is one of the partner's delta."""
_FORMAT: Final = b"syncd.history"
_VERSION: Final = b"1"


class HistoryRow(NamedTuple):
    """One row: what a publication said of one entry of one digest."""

    number: int
    """of the catalog's record"""
    version: int
    """of the head; 0 if it did not move"""
    serial: int
    """of the origin; 0 if there is none"""
    at: int
    """microseconds since 1970"""
    entry: str
    label: str
    removed: bool
    of: int
    """`HEAD`, `ORIGIN` or both"""


@dataclass(frozen=True)
class HistoryRows:
    """Rows of one algorithm with their publications, in memory."""

    rows: Rows
    number: NDArray[np.int64]
    version: NDArray[np.int64]
    serial: NDArray[np.int64]
    at: NDArray[np.int64]
    of: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def first(self) -> int:
        """The number of the oldest publication among the rows, which are not empty."""
        return int(self.number.min())

    @classmethod
    def of_record(cls, rows: Rows, publication: tuple[int, int, int, int], of: int) -> Self:
        """Return the rows of one publication: its number, version, serial and time."""
        number, version, serial, at = (np.full(len(rows), value, np.int64) for value in publication)
        side = np.full(len(rows), of, np.uint8)
        return cls(rows, number=number, version=version, serial=serial, at=at, of=side)

    def take(self, index: NDArray[np.int64]) -> Self:
        """Return the rows at these positions, in that order."""
        return type(self)(
            self.rows.take(index),
            number=self.number[index],
            version=self.version[index],
            serial=self.serial[index],
            at=self.at[index],
            of=self.of[index],
        )


def merge(parts: Sequence[HistoryRows]) -> HistoryRows:
    """Return all rows of ``parts``, which are ordered by number, as one: sorted by (digest, entry, number)."""
    joined = HistoryRows(
        concatenate([part.rows for part in parts]),
        number=np.concatenate([part.number for part in parts]),
        version=np.concatenate([part.version for part in parts]),
        serial=np.concatenate([part.serial for part in parts]),
        at=np.concatenate([part.at for part in parts]),
        of=np.concatenate([part.of for part in parts]),
    )
    return joined.take(sort_order(joined.rows))  # stable: rows of one entry stay ordered by number


def write(path: Path, rows: HistoryRows) -> str:
    """Write rows, which are sorted, to ``path``; return the file's SHA-256. Raises `StoreError`."""
    columns = {
        "digest": _digests(rows.rows),
        "entry": rows.rows.entries,
        "label": pa.DictionaryArray.from_arrays(pa.array(rows.rows.codes), pa.array(rows.rows.labels, pa.utf8())),
        "removed": pa.array(rows.rows.removed),
        **{name: pa.array(getattr(rows, name)) for name in ("number", "version", "serial", "at", "of")},
    }
    batch = pa.record_batch(columns)
    with storage(path, "write"):
        try:
            schema = batch.schema.with_metadata({_FORMAT: _VERSION})
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                writer.write_batch(batch.replace_schema_metadata({_FORMAT: _VERSION}))
        except pa.ArrowException as error:
            raise StoreError(f"cannot write {path}: {str(error).splitlines()[0][:120]}") from None
    return sha256_file(path)


def _digests(rows: Rows) -> Any:
    buffer = pa.py_buffer(np.ascontiguousarray(rows.digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.width), len(rows), [None, buffer])


class OpenMonth:
    """One month's file, mapped."""

    def __init__(self, file: MonthFile) -> None:
        """Map a file. Raises `StoreError` if it cannot be read as one."""
        self.file = file
        with storage(file.path, "map"), file.path.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        try:
            reader = pa.ipc.open_file(pa.py_buffer(mapped))
            batch = reader.get_batch(0)
            batch.validate()
            known = (reader.schema.metadata or {}).get(_FORMAT) == _VERSION
            width = batch.column(0).type.byte_width
        except (pa.ArrowException, OSError, ValueError, AttributeError, IndexError):
            raise damaged(file) from None
        if not known or width != file.of[1]:
            raise damaged(file)
        self._batch = batch
        self._digests = np.frombuffer(batch.column(0).buffers()[1], f"S{width}", len(batch))

    def __len__(self) -> int:
        return len(self._batch)

    def find(self, digest: bytes) -> Iterator[HistoryRow]:
        """Yield the rows of one digest, by entry and then oldest first."""
        start = int(self._digests.searchsorted(digest))
        stop = int(self._digests.searchsorted(digest, "right"))
        found = self._batch.slice(start, stop - start).to_pydict()
        names = ("number", "version", "serial", "at", "entry", "label", "removed", "of")
        for values in zip(*(found[name] for name in names), strict=True):
            yield HistoryRow(*values)

    def rows(self) -> HistoryRows:
        """Return all rows, to be merged with others."""
        label = self._batch.column(2)
        rows = Rows(
            self.file.of[0],
            self._digests,
            self._batch.column(1),
            np.asarray(label.indices.to_numpy(zero_copy_only=False), np.int32),
            tuple(label.dictionary.to_pylist()),
            np.asarray(self._column("removed"), bool),
        )
        return HistoryRows(
            rows,
            number=self._column("number"),
            version=self._column("version"),
            serial=self._column("serial"),
            at=self._column("at"),
            of=self._column("of"),
        )

    def _column(self, name: str) -> Any:
        return self._batch.column(name).to_numpy(zero_copy_only=False)

    def check(self) -> None:
        """Prove hash, order and range of the file. Raises `StoreError`."""
        if sha256_file(self.file.path) != self.file.sha256:
            raise damaged(self.file)
        rows = self.rows()
        same = repeats(rows.rows.digests, rows.rows.entries)
        disorder = [row for row in same.tolist() if not _follows(rows, row)]
        outside = (rows.number < self.file.first) | (rows.number > self.file.last)
        if disorder or outside.any():
            raise damaged(self.file)


def _follows(rows: HistoryRows, row: int) -> bool:
    """Return True if a row of the same digest and entry as the row before is of a later publication, or other kind."""
    before = row - 1
    if rows.rows.digests[before] != rows.rows.digests[row] or rows.rows.entries[before] != rows.rows.entries[row]:
        return False
    return bool((rows.number[before], rows.of[before]) < (rows.number[row], rows.of[row]))


def damaged(file: MonthFile) -> StoreError:
    """Return the error for a file that cannot be used."""
    return StoreError(
        f"the history file {file.path} is damaged",
        hint="restore it from a backup, or remove it: answers about that month are then incomplete; nothing served "
        "depends on it",
    )
