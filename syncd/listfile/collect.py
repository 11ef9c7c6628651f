"""What becomes of the rows of a list file: the good ones are sorted into segments, the bad ones reported."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
import pyarrow as pa

from syncd.errors import RowError, UsageError
from syncd.files import PRIVATE_FILE, storage, temporary_path
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.format.writer import SegmentWriter
from syncd.listfile.buckets import Buckets, Conflicts
from syncd.listfile.parsers import Part
from syncd.listfile.text import ListFile, originals, row_error
from syncd.listfile.values import BadRow, Columns, Decoded
from syncd.model import Algorithm

_HEADER: Final = b"file,line,column,reason,original\n"


class BadRows:
    """Bad rows: written to a file, or, where there is none, remembered as the first of the list file."""

    def __init__(self, source: Path, target: Path | None, sink: IO[bytes] | None) -> None:
        self._source, self._target, self._sink = source, target, sink
        self._first: RowError | None = None
        self.count = 0

    @property
    def kept(self) -> bool:
        """Whether they are written to a file, and reading goes on."""
        return self._sink is not None

    @property
    def ended(self) -> bool:
        """Whether one was found that ends the reading."""
        return self._first is not None

    def report(self, line: int, fault: BadRow, original: bytes) -> None:
        """Take a bad row."""
        self.count += 1
        if self._sink is None or self._target is None:
            if self._first is None or line < self._first.line:
                self._first = row_error(self._source, line, *fault)
            return
        with storage(self._target, "write"):
            self._sink.write(_quoted(os.fsencode(self._source.name)))
            self._sink.write(b",%d,%s,%s," % (line, fault.column.encode(), _quoted(fault.reason.encode())))
            self._sink.write(_quoted(original) + b"\n")

    def judge(self, part: Part, found: Decoded, words: Callable[[str, str, str, str], BadRow]) -> None:
        """Report the rows that are not good; ``words`` says what is wrong with the values of one."""
        block, columns = part
        flagged = np.flatnonzero(~found.good)
        if not len(flagged):
            return
        lines = block.originals()
        for row in flagged.tolist():
            line = int(columns.lines[row])
            self.report(line, words(*columns.row(row)), lines[line - block.first])
            if self.ended:
                return

    def finish(self) -> None:
        """Raise the `RowError` of the first bad line, where that ends the reading; else have all rows written."""
        if self._first is not None:
            raise self._first
        if self._sink is not None and self._target is not None:
            with storage(self._target, "write"):
                self._sink.flush()


def _quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b'"', b'""') + b'"'


@contextlib.contextmanager
def bad_rows(source: Path, target: Path | None, *, append: bool = False) -> Iterator[BadRows]:
    """Collect the bad rows of ``source`` in ``target``, which is replaced; without it the first one will be raised.

    ``append``: add them to those of another list file instead. Raises `UsageError` where ``target`` is something else
    than bad rows, such as a list file or a key, and `StoreError` where it cannot be written.
    """
    if target is None:
        yield BadRows(source, None, None)
        return
    with storage(target, "write"):
        _check_replaceable(target)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        sink = open(os.open(target, flags, PRIVATE_FILE), "wb")  # noqa: PTH123, SIM115 - opened for its mode, closed below
    try:
        with storage(target, "write"):
            if target.is_file():  # not /dev/null; a file may have been there, with another mode
                os.fchmod(sink.fileno(), PRIVATE_FILE)
            if not append:
                sink.write(_HEADER)
        yield BadRows(source, target, sink)
    finally:
        with storage(target, "write"):
            sink.close()


def _check_replaceable(target: Path) -> None:
    """A slip of the hand must not cost a list file or a key."""
    if not target.is_file():
        return
    with target.open("rb") as found:
        begins = found.read(len(_HEADER))
    if begins not in {b"", _HEADER}:
        raise UsageError(f"{target} is there, and holds no bad rows", hint="name another file for them, or remove it")


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
        """The number of a label."""
        return self._codes.setdefault(label, len(self._codes))

    def add(self, columns: Columns, found: Decoded) -> None:
        """Add the good rows that have a digest."""
        for algorithm, (index, digests) in found.digests.items():
            if not len(index):
                continue
            if algorithm not in self._buckets:
                self._buckets[algorithm] = Buckets(self._scratch, algorithm)
            entries = columns.entry if len(index) == len(columns) else columns.entry.take(pa.array(index))
            self._buckets[algorithm].add(digests, entries, found.codes[index], columns.lines[index])

    def write(self, source: ListFile, bad: BadRows) -> dict[Algorithm, Segment]:
        """Write and open the segments, unless a bad row ends the reading: then raise its `RowError`.

        Rows that give an entry another label than an earlier row are known only now, so a first bad line found while
        reading need not be the first of the file.
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
            for settled in self._buckets[algorithm].settled(tuple(self._codes) or ("",)):
                writer.append(settled.rows)
                self.duplicates += settled.duplicates
                self._conflicts.append(settled.conflicts)
            return writer.close()

    def _report_conflicts(self, source: ListFile, bad: BadRows) -> None:
        lines = np.concatenate([np.zeros(0, np.int64), *(found.lines for found in self._conflicts)])
        firsts = np.concatenate([np.zeros(0, np.int64), *(found.firsts for found in self._conflicts)])
        order = np.argsort(lines)
        if not bad.kept:
            order = order[:1]
        lines, firsts = lines[order], firsts[order]
        texts = originals(source, lines) if len(lines) else ()
        for line, first, text in zip(lines.tolist(), firsts.tolist(), texts, strict=False):
            bad.report(line, BadRow("label", f"also on line {first} with another label"), text)
        source.check_unchanged()  # else a line may not have been there to be read again
