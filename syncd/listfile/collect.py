"""The destination of a list file's rows: good ones are sorted into segments, bad ones are reported."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
import pyarrow as pa

from syncd.errors import RowError, UsageError
from syncd.files import PRIVATE_FILE, storage, temporary_path
from syncd.format.buckets import Buckets, Conflicts
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.format.writer import SegmentWriter
from syncd.listfile.parsers import Part
from syncd.listfile.text import ListFile, originals, row_error
from syncd.listfile.unpack import shown
from syncd.listfile.values import LEFT_OUT, BadRow, Columns, Decoded
from syncd.model import Algorithm

_HEADER: Final = b"file,line,column,reason,original\n"


class BadRows:
    """Bad rows: written to a file if one is given; otherwise the first one of the list file is kept."""

    def __init__(self, source: Path, target: Path | None, sink: IO[bytes] | None, unit: str = "line") -> None:
        self._unit = unit
        self._source, self._target, self._sink = source, target, sink
        self._first: RowError | None = None
        self.count = 0
        self.left_out = 0
        """the number of rows that the profile leaves out"""

    @property
    def kept(self) -> bool:
        """True if bad rows are written to a file, and reading goes on."""
        return self._sink is not None

    @property
    def ended(self) -> bool:
        """True if a bad row was found that ends the reading."""
        return self._first is not None

    def report(self, line: int, fault: BadRow, original: bytes) -> None:
        """Add a bad row."""
        if fault is LEFT_OUT:
            self.left_out += 1
            return
        self.count += 1
        if self._sink is None or self._target is None:
            if self._first is None or line < self._first.line:
                self._first = row_error(self._source, line, *fault, self._unit)
            return
        with storage(self._target, "write"):
            self._sink.write(_quoted(os.fsencode(shown(self._source))))
            self._sink.write(b",%d,%s,%s," % (line, fault.column.encode(), _quoted(fault.reason.encode())))
            self._sink.write(_quoted(original) + b"\n")

    def report_bad(self, part: Part, decoded: Decoded, explain: Callable[[str, str, str, str], BadRow]) -> None:
        """Report the rows that are not good; ``explain`` returns the fault of a row's values."""
        block, columns = part
        flagged = np.flatnonzero(~decoded.good)
        if not len(flagged):
            return
        lines = block.originals()
        for row in flagged.tolist():
            line = int(columns.lines[row])
            self.report(line, explain(*columns.row(row)), lines[line - block.first])
            if self.ended:
                return

    def finish(self) -> None:
        """Raise the `RowError` of the first bad line if it ends the reading; otherwise flush the file of bad rows."""
        if self._first is not None:
            raise self._first
        if self._sink is not None and self._target is not None:
            with storage(self._target, "write"):
                self._sink.flush()


def _quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b'"', b'""') + b'"'


@contextlib.contextmanager
def bad_rows(source: Path, target: Path | None, *, append: bool = False, unit: str = "line") -> Iterator[BadRows]:
    """Collect the bad rows of ``source`` in ``target``, which is replaced; without a target, keep only the first.

    ``append``: add them to the bad rows of another list file. Raises `UsageError` if ``target`` is another kind of
    file, such as a list file or a key, and `StoreError` if it cannot be written.
    """
    if target is None:
        yield BadRows(source, None, None, unit)
        return
    with storage(target, "write"):
        _check_replaceable(target)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        sink = open(os.open(target, flags, PRIVATE_FILE), "wb")  # noqa: PTH123, SIM115 - opened for its mode, closed below
    try:
        with storage(target, "write"):
            if target.is_file():  # not /dev/null; a file that existed before may have another mode
                os.fchmod(sink.fileno(), PRIVATE_FILE)
            if not append:
                sink.write(_HEADER)
        yield BadRows(source, target, sink, unit)
    finally:
        with storage(target, "write"):
            sink.close()


def _check_replaceable(target: Path) -> None:
    """Refuse to overwrite a list file or a key that was named by mistake."""
    if not target.is_file():
        return
    with target.open("rb") as existing:
        beginning = existing.read(len(_HEADER))
    if beginning not in {b"", _HEADER}:
        raise UsageError(
            f"{target} exists, and is not a file of bad rows", hint="name another file for bad rows, or remove it"
        )


class Sorter:
    """Rows of all algorithms on their way to sorted segments. Use as a context manager."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._codes: dict[str, int] = {}
        self._buckets: dict[Algorithm, Buckets] = {}
        self._conflicts: list[Conflicts] = []
        self.duplicates = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for buckets in self._buckets.values():
            buckets.close()

    def label_code(self, label: str) -> int:
        """Return the number of a label; new labels get the next one."""
        return self._codes.setdefault(label, len(self._codes))

    def add(self, columns: Columns, decoded: Decoded) -> None:
        """Add the good rows that have a digest."""
        for algorithm, (index, digests) in decoded.digests.items():
            if not len(index):
                continue
            if algorithm not in self._buckets:
                self._buckets[algorithm] = Buckets(self._scratch, algorithm)
            entries = columns.entry if len(index) == len(columns) else columns.entry.take(pa.array(index))
            self._buckets[algorithm].add(digests, entries, decoded.codes[index], columns.lines[index])

    def write(self, source: ListFile, bad: BadRows) -> dict[Algorithm, Segment]:
        """Write and open the segments; if a bad row ends the reading, raise its `RowError` instead.

        Rows that give an entry another label than an earlier row are only known now. So the first bad line may come
        before the one found while reading.
        """
        files = {algorithm: temporary_path(self._scratch) for algorithm in sorted(self._buckets)}
        try:
            refs = {algorithm: self._write(file, algorithm) for algorithm, file in files.items()}
            self._report_conflicts(source, bad)
            bad.finish()
            return {algorithm: Segment.open(files[algorithm], ref) for algorithm, ref in refs.items() if ref}
        except BaseException:
            for file in files.values():
                file.unlink(missing_ok=True)
            raise

    def _write(self, file: Path, algorithm: Algorithm) -> SegmentRef | None:
        with SegmentWriter(file, algorithm, "base") as writer:
            for part in self._buckets[algorithm].sorted_rows(tuple(self._codes) or ("",)):
                writer.append(part.rows)
                self.duplicates += part.duplicates
                self._conflicts.append(part.conflicts)
            return writer.close()

    def _report_conflicts(self, source: ListFile, bad: BadRows) -> None:
        lines = np.concatenate([np.zeros(0, np.int64), *(conflicts.lines for conflicts in self._conflicts)])
        firsts = np.concatenate([np.zeros(0, np.int64), *(conflicts.firsts for conflicts in self._conflicts)])
        order = np.argsort(lines)
        if not bad.kept:
            order = order[:1]
        lines, firsts = lines[order], firsts[order]
        texts = originals(source, lines) if len(lines) else ()
        for line, first, text in zip(lines.tolist(), firsts.tolist(), texts, strict=False):
            bad.report(line, BadRow("label", f"also on line {first} with another label"), text)
        source.check_unchanged()  # lines were read again: they may differ in a file that changed
