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

BLOCK: Final = 4 << 20
"""bytes of one block; also the longest line"""
WHOLE_LINE: Final = "-"
"""in place of a column, if the fault is not in a single column"""

_BOM: Final = b"\xef\xbb\xbf"
_SUFFIXES: Final = {".csv": False, ".ndjson": True, ".jsonl": True}


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

    def __init__(self, path: Path, stream: IO[bytes], block: int) -> None:
        self.path, self._stream, self._block = path, stream, block
        self._state = os.fstat(stream.fileno())

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._state.st_size

    @property
    def position(self) -> int:
        """The number of bytes read so far."""
        return self._stream.tell()

    def is_ndjson(self) -> bool:
        """Return True if the file is NDJSON, by its suffix or, if that is unknown, by its first byte."""
        known = _SUFFIXES.get(self.path.suffix.lower())
        if known is not None:
            return known
        with self.readable():
            self._stream.seek(0)
            return self._stream.read(len(_BOM) + 1).removeprefix(_BOM).startswith(b"{")

    def blocks(self) -> Iterator[Block]:
        """Yield the file from its beginning, without a byte order mark. Raises `RowError` if a line is too long."""
        with self.readable():
            self._stream.seek(0)
            if self._stream.read(len(_BOM)) != _BOM:
                self._stream.seek(0)
        first = 1
        while content := self._read():
            start = content.rfind(b"\n") + 1
            rest = b"" if start == len(content) else self._read_line(BLOCK - (len(content) - start))
            block = Block(content[:start] if rest is None else content + rest, first)
            if block.content:
                yield block
                first += block.lines
            if rest is None:
                raise row_error(self.path, first, WHOLE_LINE, f"longer than {BLOCK} bytes; it may not be a list file")

    def _read(self) -> bytes:
        with self.readable():
            left = self.size - self._stream.tell()  # not what was appended since: `check_unchanged` refuses that
            return self._stream.read(max(0, min(self._block, left)))

    def _read_line(self, limit: int) -> bytes | None:
        """Return the rest of a line; None if it is longer than ``limit``."""
        with self.readable():
            rest = self._stream.readline(limit + 1)
        return None if len(rest) > limit else rest

    def check_unchanged(self) -> None:
        """Raise `UsageError` if the file changed while it was read: half a list must not be published."""
        now = os.fstat(self._stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise UsageError(f"{self.path} changed while it was read", hint="publish it when it is completely written")

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Turn the `OSError` of a read into a `UsageError`."""
        try:
            yield
        except OSError as error:
            raise _unreadable(self.path, error) from error


@contextlib.contextmanager
def open_list(path: Path, block: int = BLOCK) -> Iterator[ListFile]:
    """Open a list file. Raises `UsageError` if it cannot be read or is not a regular file."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise UsageError(f"{path} is not a regular file", hint="write the list to a file first")
        yield ListFile(path, stream, block)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror or error}", hint="name a CSV or NDJSON file of rows")


def row_error(path: Path, line: int, column: str, reason: str) -> RowError:
    """Return the error for one bad row."""
    error = RowError(path.name, line, column, reason)
    error.hint = "correct the file and publish it again; nothing was published"
    return error


def originals(source: ListFile, lines: Index) -> Iterator[bytes]:
    """Read the file again, and yield the lines with these numbers, which must ascend."""
    for block in source.blocks():
        start, stop = np.searchsorted(lines, [block.first, block.first + block.lines])
        if start < stop:
            texts = block.originals()
            yield from (texts[line - block.first] for line in lines[start:stop].tolist())
