"""Writing segments: sorted rows in, one deterministic Arrow IPC file out.

The same rows always give the same bytes: the label dictionary is rebuilt as the sorted labels in use, there are no
validity bitmaps, and the metadata is fixed. Anybody who holds the inputs of a fold can therefore make its output.
"""

import contextlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

import numpy as np
import pyarrow as pa

from syncd.errors import StoreError, UsageError
from syncd.files import sha256_file, storage
from syncd.format.arrow import schema
from syncd.format.caps import DEFAULT_CAPS
from syncd.format.checksum import entry_bytes
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Rows
from syncd.format.segment import RowProgress, Segment, ignore_progress
from syncd.format.stack import Stack
from syncd.model import Algorithm

_REMAP_ROWS: Final = 1 << 20
_FOLD_ROWS: Final = 1 << 18
"""rows written at a time"""


class SegmentWriter:
    """A writer that collects sorted rows in file-backed columns beside ``path``, then writes one record batch.

    Memory is that of one chunk of rows, however long the segment is. Use it as a context manager; `close` returns the
    reference. Leaving without `close` removes everything.
    """

    def __init__(self, path: Path, algorithm: Algorithm, kind: Literal["base", "delta"]) -> None:
        self._path, self._algorithm, self._kind = path, algorithm, kind
        self._rows = self._removals = self._entry_length = 0
        self._codes: dict[str, int] = {}
        self._columns: dict[str, IO[bytes]] = {}
        self._width = 0

    def __enter__(self) -> Self:
        try:
            with storage(self._path, "write"):
                for column in ("digest", "offset", "entry", "code", "removed"):
                    self._columns[column] = tempfile.TemporaryFile(dir=self._path.parent)
                self._columns["offset"].write(np.zeros(1, np.int64).tobytes())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._columns.values():
            with contextlib.suppress(OSError):  # temporary files; a full disk was already reported by a write
                stream.close()

    def append(self, rows: Rows) -> None:
        """Add rows that sort after all rows before. The caller promises the order; `Segment.check` proves it."""
        if not len(rows):
            return
        self._width = self._width or rows.width
        if rows.width != self._width or rows.width != (self._algorithm.known_width or rows.width):
            raise UsageError(
                f"a {self._algorithm} digest has {rows.width} bytes; "
                f"{self._algorithm.known_width or self._width} are expected",
                hint="all digests of an algorithm in a list must have the same width; give digests of another width "
                "another algorithm name",
            )
        if self._kind == "base":
            rows = rows.take(~rows.removed) if rows.removed.any() else rows
        offsets, content = entry_bytes(rows.entries)
        mapping = np.array([self._codes.setdefault(label, len(self._codes)) for label in rows.labels], np.int32)
        with storage(self._path, "write"):
            self._columns["digest"].write(np.ascontiguousarray(rows.digests).data.cast("B"))
            self._columns["offset"].write((offsets[1:] - offsets[0] + self._entry_length).tobytes())
            self._columns["entry"].write(np.ascontiguousarray(content).data)
            self._columns["code"].write(mapping[rows.codes].tobytes())
            self._columns["removed"].write(rows.removed.tobytes())
        self._rows += len(rows)
        self._removals += int(rows.removed.sum())
        self._entry_length += len(content)

    def close(self) -> SegmentRef | None:
        """Write the file and return its reference; return None, and write no file, if there were no rows."""
        if not self._rows:
            return None
        if len(self._codes) > DEFAULT_CAPS.labels:
            raise UsageError(
                f"there are {len(self._codes)} distinct labels; a segment can have at most {DEFAULT_CAPS.labels}",
                hint="check that the label column is not free text",
            )
        if sum(len(label.encode()) for label in self._codes) > DEFAULT_CAPS.label_bytes:
            raise UsageError(
                f"the distinct labels have more than {DEFAULT_CAPS.label_bytes:,} bytes in all",
                hint="check that the label column is not free text",
            )
        with storage(self._path, "write"):
            batch = self._batch()
            try:
                with pa.OSFile(str(self._path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                    writer.write_batch(batch)
            except pa.ArrowException as error:
                raise StoreError(f"cannot write {self._path}: {str(error).splitlines()[0][:120]}") from None
            length = self._path.stat().st_size
        return SegmentRef(
            sha256=sha256_file(self._path),
            length=length,
            algorithm=self._algorithm,
            kind=self._kind,
            rows=self._rows,
            removals=self._removals,
        )

    def _batch(self) -> Any:
        columns = {name: _mapped(stream) for name, stream in self._columns.items()}
        digests = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(self._width), self._rows, [None, pa.py_buffer(columns["digest"])]
        )
        entries = pa.LargeStringArray.from_buffers(
            self._rows, pa.py_buffer(columns["offset"]), pa.py_buffer(columns["entry"])
        )
        arrays = [digests, entries, self._labels(np.frombuffer(columns["code"], np.int32))]
        if self._kind == "delta":
            arrays.append(pa.array(np.frombuffer(columns["removed"], bool)))
        return pa.RecordBatch.from_arrays(arrays, schema=schema(self._algorithm, self._kind, self._width))

    def _labels(self, codes: Any) -> Any:
        known = list(self._codes)
        used = np.zeros(len(known), bool)
        for start in range(0, len(codes), _REMAP_ROWS):
            used[codes[start : start + _REMAP_ROWS]] = True
        labels = sorted((known[code] for code in np.flatnonzero(used)), key=str.encode)
        rank = {label: number for number, label in enumerate(labels)}
        mapping = np.array([rank.get(label, -1) for label in known], np.int32)
        for start in range(0, len(codes), _REMAP_ROWS):
            codes[start : start + _REMAP_ROWS] = mapping[codes[start : start + _REMAP_ROWS]]
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(labels, pa.utf8()))


def _mapped(stream: IO[bytes]) -> Any:
    stream.flush()
    if not stream.tell():
        return bytearray()
    return mmap.mmap(stream.fileno(), 0)  # shared and writable: pages go back to the file, not to private memory


def write_segment(
    path: Path, algorithm: Algorithm, kind: Literal["base", "delta"], chunks: Iterable[Rows]
) -> SegmentRef | None:
    """Write sorted ``chunks`` as one segment at ``path``; return None, and write no file, if there are no rows."""
    with SegmentWriter(path, algorithm, kind) as writer:
        for rows in chunks:
            writer.append(rows)
        return writer.close()


def fold(inputs: Sequence[Segment], kind: str, path: Path, written: RowProgress = ignore_progress) -> SegmentRef | None:
    """Write the fold of ``inputs`` (oldest first) to ``path``; return None, and write no file, if no row is left.

    A fold is one segment that means the same as several of a stack. It is deterministic: a reader with the inputs
    makes the same bytes and need not download the output (`Fold` in a manifest). A base holds the entries in force,
    so its inputs are a stack from its bottom; a delta keeps the removals. ``written`` is called with the number of rows
    of each part.
    """
    stack = Stack(inputs[0].algorithm, inputs)

    def parts() -> Iterator[Rows]:
        for rows in stack.effective() if kind == "base" else _slices(stack.overlay):
            yield rows
            written(len(rows))

    return write_segment(path, stack.algorithm, "base" if kind == "base" else "delta", parts())


def _slices(rows: Rows) -> Iterator[Rows]:
    return (rows.slice(start, start + _FOLD_ROWS) for start in range(0, len(rows), _FOLD_ROWS))
