"""A publisher's list file as numbered blocks of whole lines.

A row is one line, because a value cannot contain a line break. So the file can be cut at any line end.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Final

import numpy as np

from syncd.errors import RowError, UsageError
from syncd.format.rows import Index
from syncd.listfile.beside import check_digest
from syncd.listfile.documents import is_document, item_lines
from syncd.listfile.profile import Profile
from syncd.listfile.signature import check_signature
from syncd.listfile.unpack import BOM, PROBE, shown, spool, unpacked

BLOCK: Final = 4 << 20
"""bytes of one block; also the longest line"""
WHOLE_LINE: Final = "-"
"""in place of a column, if the fault is not in a single column"""

_BLANK: Final = b"\r\n\x1a \t,;"  # Ctrl-Z ends a file in DOS; spreadsheets write rows without values
_PLAIN: Final = Profile()
_NDJSON: Final = frozenset({".ndjson", ".jsonl"})


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; ``first`` is the number of the first, counted from 1."""

    content: bytes
    first: int

    @cached_property
    def lines(self) -> int:
        """The number of lines."""
        ends = np.count_nonzero(np.frombuffer(self.content, np.uint8) == ord("\n"))  # faster than bytes.count
        return int(ends) + (not self.content.endswith(b"\n"))

    def originals(self) -> list[bytes]:
        """Return the lines without their line ends."""
        parts = self.content.removesuffix(b"\n").split(b"\n")
        return [part.removesuffix(b"\r") for part in parts]

    def parts(self, size: int) -> Iterator["Block"]:
        """Yield the same lines in blocks of about ``size`` bytes."""
        start, first = 0, self.first
        while start < len(self.content):
            end = self.content.find(b"\n", start + size - 1) + 1 or len(self.content)
            part = Block(self.content[start:end], first)
            yield part
            start, first = end, first + part.lines


class ListFile:
    """An open list file. Use `open_list`."""

    def __init__(
        self, path: Path, stream: IO[bytes], block: int, state: os.stat_result, content: IO[bytes] | None = None
    ) -> None:
        self.path, self._original, self._block, self._state = path, stream, block, state
        self._stream = stream if content is None else content
        self.unit = "line"
        """the name of what is counted: lines, or the items of a JSON document"""
        with self.readable():
            self._start, self._first = self._after_marks(), 1
            self._end = self._content_end()

    @property
    def size(self) -> int:
        """The size of the content in bytes, without blank lines at the end."""
        return self._end

    @property
    def first(self) -> int:
        """The number of the first line that was not skipped."""
        return self._first

    @property
    def position(self) -> int:
        """The number of bytes read so far."""
        return self._stream.tell()

    @property
    def beginning(self) -> bytes:
        """Some bytes from the beginning, without a byte order mark and without lines that were skipped."""
        with self.readable():
            self._stream.seek(self._start)
            return self._stream.read(min(PROBE, max(0, self._end - self._start)))

    def skip(self, size: int, lines: int) -> None:
        """Leave out the next ``lines`` lines at the beginning, of ``size`` bytes."""
        self._start, self._first = self._start + size, self._first + lines

    def is_ndjson(self) -> bool:
        """Return True if the file is NDJSON, by its first byte; if that is not telling, by its suffix."""
        first = self.beginning.lstrip()[:1]
        return first == b"{" or (self.path.suffix.lower() in _NDJSON and not self._has_header())

    def _has_header(self) -> bool:
        line = self.beginning.partition(b"\n")[0].lower()
        return b"digest" in line and b'"' not in line and b"algorithm" in line

    def _after_marks(self) -> int:
        """Return the position after the byte order marks; programs that join files write several."""
        self._stream.seek(0)
        head = self._stream.read(4 * len(BOM))
        start = 0
        while head.startswith(BOM, start):
            start += len(BOM)
        return start

    def _content_end(self) -> int:
        """Return the end of the last line with a value."""
        end = self._stream.seek(0, os.SEEK_END)
        while end > self._start:
            begin = max(self._start, end - PROBE)
            self._stream.seek(begin)
            tail = self._stream.read(end - begin)
            kept = tail.rstrip(_BLANK)
            if kept or begin == self._start:
                line_end = tail.find(b"\n", len(kept)) + 1
                blank = not kept and begin == self._start
                return end if blank else begin + (line_end or len(tail.rstrip(b"\x1a")))
            end = begin
        return end

    def blocks(self) -> Iterator[Block]:
        """Yield the lines from the beginning. Raises `RowError` if a line is too long."""
        with self.readable():
            self._stream.seek(self._start)
        first = self._first
        while content := self._read():
            start = content.rfind(b"\n") + 1
            rest = b"" if start == len(content) else self._read_line(BLOCK - (len(content) - start))
            block = Block(content[:start] if rest is None else content + rest, first)
            if block.content:
                yield block
                first += block.lines
            if rest is None:
                raise self.row_error(first, WHOLE_LINE, f"longer than {BLOCK} bytes; it may not be a list file")

    def row_error(self, line: int, column: str, reason: str) -> RowError:
        """Return the error for one bad row of this file."""
        return row_error(self.path, line, column, reason, self.unit)

    def _read(self) -> bytes:
        with self.readable():
            left = self._end - self._stream.tell()  # not what was appended since: `check_unchanged` refuses that
            return self._stream.read(max(0, min(self._block, left)))

    def _read_line(self, limit: int) -> bytes | None:
        """Return the rest of a line; None if it is longer than ``limit``."""
        with self.readable():
            rest = self._stream.readline(min(limit + 1, max(0, self._end - self._stream.tell())))
        return None if len(rest) > limit else rest

    def check_unchanged(self) -> None:
        """Raise `UsageError` if the file changed while it was read: half a list must not be published."""
        now = os.fstat(self._original.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise UsageError(
                f"{shown(self.path)} changed while it was read", hint="publish it when it is completely written"
            )

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Turn the `OSError` of a read into a `UsageError`."""
        try:
            yield
        except OSError as error:
            raise _unreadable(self.path, error) from error


@contextlib.contextmanager
def open_list(
    path: Path, block: int = BLOCK, *, scratch: Path | None = None, profile: Profile = _PLAIN
) -> Iterator[ListFile]:
    """Open a list file, a pipe, or standard input (``-``).

    Compressed files, other encodings and JSON documents are written out in ``scratch`` first. Raises `UsageError` if
    the file cannot be read or is not a list, `StoreError` if ``scratch`` is full.
    """
    with _opened(path) as stream:
        state = os.fstat(stream.fileno())
        if stream.seekable():
            check_digest(path, stream)
        if profile.signer is not None:
            check_signature(path, stream, profile.signer)
        with contextlib.ExitStack() as opened:
            content = unpacked(path, stream, scratch)
            if content is not None:
                opened.enter_context(content)
            if not stream.seekable():  # a pipe is read to its end, and changes until then
                state = os.fstat(stream.fileno())
            source = ListFile(path, stream, block, state, content)
            if is_document(path, source.beginning, profile):
                lines = spool(path, item_lines(path, content or stream, profile), scratch)
                source = ListFile(path, stream, block, state, opened.enter_context(lines))
                source.unit = "item"
            yield source


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = os.fdopen(os.dup(0), "rb") if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        mode = os.fstat(stream.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise UsageError(f"{shown(path)} is not a regular file or a pipe", hint="write the list to a file first")
        yield stream


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror or error}", hint="name a CSV or NDJSON file of rows")


def row_error(path: Path, line: int, column: str, reason: str, unit: str = "line") -> RowError:
    """Return the error for one bad row."""
    error = RowError(shown(path), line, column, reason, unit)
    error.hint = "correct the file and publish it again; nothing was published"
    return error


def originals(source: ListFile, lines: Index) -> Iterator[bytes]:
    """Read the file again, and yield the lines with these numbers, which must ascend."""
    for block in source.blocks():
        start, stop = np.searchsorted(lines, [block.first, block.first + block.lines])
        if start < stop:
            texts = block.originals()
            yield from (texts[line - block.first] for line in lines[start:stop].tolist())
