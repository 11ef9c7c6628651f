"""Derived indexes: files of columns computed from one segment, ``indexes/<segment sha256>.<kind>``.

They are never signed. Whoever has the segment can make the same bytes again, so losing one costs speed, never an
answer. A damaged one could hide rows, so each block of a column is proved before its first use (`Column.take`).

The file is a header of one page, the columns, each at the start of a page, and a CRC-32 of each page of the columns
(uint32). The header is canonical JSON, padded with spaces: ``format``, ``kind``, ``version`` (of the kind), ``segment``
(its SHA-256), ``settings`` of the kind, ``columns`` (name, type, offset and count of each), ``blocks`` (offset of the
checksums, and the SHA-256 of all of them), and ``check``, the SHA-256 of the header without it.
"""

import contextlib
import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from syncd.errors import StoreError
from syncd.files import FEED_FILE, make_folder, new_file, open_regular, storage
from syncd.format.canonical import canonical

FOLDER: Final = "indexes"
"""The folder of derived indexes, in a copy or a state."""
MADE_AGAIN: Final = "it is made again from its segment; until then look-ups take longer and miss nothing"
"""The hint for a damaged index."""
_FORMAT: Final = 1
_PAGE: Final = 4096
_CHUNK: Final = 256 * _PAGE
_FEW: Final = 256
"""When only one block of so many is left to prove, the rest is proved at once, so that no look-up asks any more."""
_ACCEPTED: Final = frozenset({"<u4", "<u8"})

Pause = Callable[[int], None]
"""Called during long work with the number of bytes done; may wait, or raise to end the work."""


def unpaused(done: int) -> None:
    """Go on at once."""
    del done


class DamagedIndexError(StoreError):
    """An index was damaged after it was made. It can be removed and made again."""


def index_path(root: Path, segment_sha256: str, kind: str) -> Path:
    """Return the path of a derived index in the copy or state at ``root``."""
    return root / FOLDER / f"{segment_sha256}.{kind}"


@dataclass(frozen=True)
class IndexOf:
    """The kind of a derived index, and the segment that it is computed from."""

    kind: str
    """a word, the suffix of its file"""
    version: int
    """of the kind; an index of another version is not used, and is made again"""
    segment: str
    """SHA-256 of the segment"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """numbers or texts of the kind, as JSON"""


class ColumnWriter:
    """Writes one column of a new index, in order, in as many pieces as it is computed."""

    def __init__(self, stream: BinaryIO, offset: int, count: int, dtype: np.dtype[Any]) -> None:
        self._stream, self._at, self._end = stream, offset, offset + count * dtype.itemsize
        self._dtype, self._crc = dtype, 0
        self.checks: list[int] = []

    def append(self, piece: NDArray[Any], pause: Pause = unpaused) -> None:
        """Write the next values."""
        if piece.dtype != self._dtype or self._at + piece.nbytes > self._end:
            raise ValueError("a piece of a column is of another type, or too long")
        content = np.ascontiguousarray(piece).data.cast("B")
        self._stream.seek(self._at)
        self._stream.write(content)
        done = 0
        while done < len(content):
            part = content[done : done + _PAGE - self._at % _PAGE]
            self._crc = zlib.crc32(part, self._crc)
            self._at += len(part)
            done += len(part)
            if self._at % _PAGE == 0 or self._at == self._end:
                self.checks.append(self._crc)
                self._crc = 0
        pause(piece.nbytes)

    def finish(self) -> None:
        """Check that the column is complete."""
        if self._at != self._end:
            raise ValueError("a column of an index is too short")


class IndexWriter:
    """Writes a new index; see `written`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._end = stream, _PAGE
        self._described: list[dict[str, Any]] = []
        self._columns: list[ColumnWriter] = []

    def column(self, name: str, dtype: Any, count: int) -> ColumnWriter:
        """Return the writer of a column of ``count`` little-endian uint32 or uint64."""
        kind = np.dtype(dtype)
        self._described.append({"name": name, "type": kind.str, "offset": self._end, "count": count})
        self._columns.append(ColumnWriter(self._stream, self._end, count, kind))
        self._end += -(-count * kind.itemsize // _PAGE) * _PAGE
        return self._columns[-1]

    def finish(self, of: IndexOf) -> None:
        """Write the checksums and the header."""
        for column in self._columns:
            column.finish()
        checks = np.array([check for column in self._columns for check in column.checks], "<u4").tobytes()
        self._stream.seek(self._end)
        self._stream.write(checks)
        described = {
            "format": _FORMAT,
            "kind": of.kind,
            "version": of.version,
            "segment": of.segment,
            "settings": dict(of.settings),
            "columns": self._described,
            "blocks": {"offset": self._end, "sha256": hashlib.sha256(checks).hexdigest()},
        }
        header = canonical(described | {"check": _check_of(described)})
        if len(header) > _PAGE:
            raise ValueError(f"the header of an index has {len(header)} bytes")
        self._stream.seek(0)
        self._stream.write(header.ljust(_PAGE))


def _check_of(described: object) -> str:
    return hashlib.sha256(canonical(described)).hexdigest()


def remove_indexes(root: Path, segments: Collection[str]) -> int:
    """Remove the indexes of other segments than those with these hashes; return how many. Raises `StoreError`.

    A process that has mapped one keeps it.
    """
    removed = 0
    for path in root.glob(f"{FOLDER}/*"):
        if path.name.partition(".")[0] not in segments:
            with storage(path, "remove"):
                path.unlink(missing_ok=True)
            removed += 1
    return removed


@contextlib.contextmanager
def written(path: Path, of: IndexOf) -> Iterator[IndexWriter]:
    """Yield a writer of a new index, which gets its name, durably, if the block succeeds. Raises `StoreError`.

    One that is there is removed. The caller holds a lock, so that nobody else writes it.
    """
    make_folder(path.parent)
    with storage(path, "replace"):
        path.unlink(missing_ok=True)
    with new_file(path, FEED_FILE) as stream:
        writer = IndexWriter(stream)
        yield writer
        writer.finish(of)


class Column:
    """A mapped column of an index, whose blocks are proved before their first use."""

    def __init__(self, path: Path, values: NDArray[Any], checks: NDArray[np.uint32]) -> None:
        self._path, self._values, self._checks = path, values, checks
        self._descriptor, self._at = -1, 0
        self._proved = np.zeros(len(checks), bool)
        self._left = len(checks)
        self._shift = (_PAGE // values.dtype.itemsize).bit_length() - 1

    def __len__(self) -> int:
        return len(self._values)

    def take(self, places: NDArray[Any]) -> NDArray[Any]:
        """Return the values at ``places``. Raises `DamagedIndexError`."""
        if self._left:
            blocks = places >> self._shift
            known = self._proved.take(blocks)
            if not known.all():
                some = np.sort(blocks[~known])
                self._prove(some[np.diff(some, prepend=-1) > 0])  # np.unique imports a library: 8 ms in a new process
                if 0 < self._left <= len(self._proved) // _FEW:
                    self._prove(np.flatnonzero(~self._proved))
        return self._values.take(places)

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        """Return the values from ``start`` to ``stop``, as a view. Raises `DamagedIndexError`."""
        if self._left and start < stop:
            some = np.arange(start >> self._shift, ((stop - 1) >> self._shift) + 1)
            self._prove(some[~self._proved[some]])
        return self._values[start:stop]

    def read(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[Any]:
        """Return the values of ranges, one range after the other, each block proved. Raises `DamagedIndexError`.

        They are read from the file: for few ranges all over a large column that costs a third of the page faults of a
        map. Only within `DerivedIndex.opened`.
        """
        size, length = self._values.dtype.itemsize, self._values.nbytes
        checks, parts = self._checks, []
        for start, stop in zip((starts * size).tolist(), (stops * size).tolist(), strict=True):
            if start >= stop:
                continue
            first, end = start & -_PAGE, min((stop + _PAGE - 1) & -_PAGE, length)
            content = os.pread(self._descriptor, end - first, self._at + first)
            for at in range(0, end - first, _PAGE):
                if zlib.crc32(content[at : at + _PAGE]) != checks[(first + at) // _PAGE]:
                    raise self._damaged()
            parts.append(content[start - first : stop - first])
        return np.frombuffer(b"".join(parts), self._values.dtype)

    def prove(self, pause: Pause = unpaused) -> None:
        """Prove every block, whether or not it was proved before. Raises `DamagedIndexError`."""
        for start in range(0, len(self._checks), _CHUNK // _PAGE):
            blocks = np.arange(start, min(start + _CHUNK // _PAGE, len(self._checks)))
            self._prove(blocks)
            pause(len(blocks) * _PAGE)

    def _prove(self, blocks: NDArray[np.int64]) -> None:
        content = self._values.data.cast("B")
        for block in blocks.tolist():
            if zlib.crc32(content[block * _PAGE : (block + 1) * _PAGE]) != self._checks[block]:
                raise self._damaged()
        self._proved[blocks] = True
        self._left = len(self._proved) - int(np.count_nonzero(self._proved))

    def _damaged(self) -> DamagedIndexError:
        return DamagedIndexError(f"{self._path} was damaged on this disk", hint=MADE_AGAIN)

    def read_from(self, descriptor: int, offset: int) -> None:
        """Use an open file for `read`, in which the column begins at ``offset``; -1: none any more."""
        self._descriptor, self._at = descriptor, offset


class DerivedIndex:
    """A mapped index. Its columns are views of the file."""

    def __init__(self, path: Path, settings: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        self.path, self.settings, self.columns = path, settings, columns

    @classmethod
    def open(cls, path: Path, of: IndexOf) -> Self | None:
        """Map the index at ``path``; None if there is none, or if the file is not a whole index of this.

        ``of.settings`` is not compared. Reads the header and the checksums of the blocks.
        """
        with cls.opened(path, of) as index:
            return index

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path, of: IndexOf) -> Iterator[Self | None]:
        """Map the index as `open` does, and keep the file open for `Column.read` until the end of the block."""
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open_regular(path))
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                header = json.loads(mapped[:_PAGE])
                check = header.pop("check")
                named = [header[field] for field in ("format", "kind", "version", "segment")]
                whole = check == _check_of(header) and named == [_FORMAT, of.kind, of.version, of.segment]
                index = cls(path, header["settings"], _columns_of(path, header, mapped)) if whole else None
                offsets = {column["name"]: column["offset"] for column in header["columns"]}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                index = None  # missing, cut, or overwritten: it is made again
            for name, column in index.columns.items() if index else ():
                column.read_from(file.fileno(), offsets[name])
                stack.callback(column.read_from, -1, 0)
            yield index

    def prove(self, pause: Pause = unpaused) -> None:
        """Prove all columns: reads the whole file once. Raises `DamagedIndexError`."""
        for column in self.columns.values():
            column.prove(pause)


def _columns_of(path: Path, header: Mapping[str, Any], mapped: mmap.mmap) -> dict[str, Column]:
    """Return the columns. Raises `ValueError` if the file was cut, or its checksums were damaged."""
    described = header["columns"]
    if any(column["type"] not in _ACCEPTED for column in described):
        raise ValueError("a column of an index has another type")
    values = {
        column["name"]: np.frombuffer(mapped, column["type"], column["count"], column["offset"]) for column in described
    }
    checks = np.frombuffer(mapped, "<u4", offset=header["blocks"]["offset"])
    if hashlib.sha256(checks.data).hexdigest() != header["blocks"]["sha256"]:
        raise ValueError("the checksums of an index do not match")
    columns, first = {}, 0
    for name, column in values.items():
        blocks = -(-column.nbytes // _PAGE)
        columns[name] = Column(path, column, checks[first : first + blocks])
        first += blocks
    return columns
