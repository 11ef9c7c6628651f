"""Derived indexes: files of columns computed from one segment, ``indexes/<segment sha256>.<kind>``.

They are never signed. Whoever has the segment can make the same bytes again, so losing one costs speed, never an
answer. A damaged one could hide rows: `DerivedIndex.is_whole` proves its checksum.

The file is a header of one page, and then the columns, each aligned to 64 bytes. The header is canonical JSON, padded
with spaces: ``format``, ``kind``, ``version`` (of the kind), ``segment`` (its SHA-256), ``settings`` of the kind,
``columns`` (name, type, offset and count of each), ``sha256`` of all bytes after the header, and ``check``, the SHA-256
of the header without it.
"""

import contextlib
import hashlib
import json
import mmap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from syncd.files import FEED_FILE, make_folder, new_file, open_regular, storage
from syncd.format.canonical import canonical

FOLDER: Final = "indexes"
"""The folder of derived indexes, in a copy or a state."""
_FORMAT: Final = 1
_HEADER: Final = 4096
_ALIGNED: Final = 64
_CHUNK: Final = 1 << 20
_ACCEPTED: Final = frozenset({"<u4", "<u8", "|u1"})

Pause = Callable[[int], None]
"""Called during long work with the number of bytes done; may wait, or raise to end the work."""


def unpaused(done: int) -> None:
    """Go on at once."""
    del done


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


class IndexWriter:
    """Adds columns to a new index; see `written`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._hash, self._at = stream, hashlib.sha256(), _HEADER
        self._columns: list[dict[str, Any]] = []
        stream.seek(_HEADER)

    def add(self, name: str, column: NDArray[Any], pause: Pause = unpaused) -> None:
        """Write one column: little-endian uint32 or uint64, or uint8, of shape (n,)."""
        self._write(bytes(-self._at % _ALIGNED))
        described = {"name": name, "type": column.dtype.str, "offset": self._at, "count": len(column)}
        content = memoryview(np.ascontiguousarray(column)).cast("B")
        for start in range(0, len(content), _CHUNK):
            self._write(content[start : start + _CHUNK])
            pause(min(_CHUNK, len(content) - start))
        self._columns.append(described)

    def _write(self, content: bytes | memoryview) -> None:
        self._stream.write(content)
        self._hash.update(content)
        self._at += len(content)

    def finish(self, of: IndexOf) -> None:
        """Write the header."""
        described = {
            "format": _FORMAT,
            "kind": of.kind,
            "version": of.version,
            "segment": of.segment,
            "settings": dict(of.settings),
            "columns": self._columns,
            "sha256": self._hash.hexdigest(),
        }
        header = canonical(described | {"check": _check_of(described)})
        if len(header) > _HEADER:
            raise ValueError(f"the header of an index has {len(header)} bytes")
        self._stream.seek(0)
        self._stream.write(header.ljust(_HEADER))


def _check_of(described: object) -> str:
    return hashlib.sha256(canonical(described)).hexdigest()


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


class DerivedIndex:
    """A mapped index. Its columns are views of the file."""

    def __init__(self, path: Path, header: Mapping[str, Any], mapped: mmap.mmap) -> None:
        self.path, self._mapped, self._sha256 = path, mapped, str(header["sha256"])
        self.settings: Mapping[str, Any] = header["settings"]
        self.columns: dict[str, NDArray[Any]] = {}
        for column in header["columns"]:
            if column["type"] not in _ACCEPTED:
                raise ValueError("a column of an index has another type")
            self.columns[column["name"]] = np.frombuffer(mapped, column["type"], column["count"], column["offset"])

    @classmethod
    def open(cls, path: Path, of: IndexOf) -> Self | None:
        """Map the index at ``path``; None if there is none, or if the file is not an index of this.

        ``of.settings`` is not compared. Reads the header only; see `is_whole`.
        """
        try:
            with open_regular(path) as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            header = json.loads(mapped[:_HEADER])
            check, named = header.pop("check"), [header[field] for field in ("format", "kind", "version", "segment")]
            if check != _check_of(header) or named != [_FORMAT, of.kind, of.version, of.segment]:
                return None
            return cls(path, header, mapped)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # missing, cut, or overwritten: it is made again

    def is_whole(self, pause: Pause = unpaused) -> bool:
        """Prove the checksum: reads the whole file once, in order."""
        found = hashlib.sha256()
        with memoryview(self._mapped) as content:
            for start in range(_HEADER, len(content), _CHUNK):
                part = content[start : start + _CHUNK]
                found.update(part)
                pause(len(part))
        return found.hexdigest() == self._sha256
