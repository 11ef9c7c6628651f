"""A publisher's list file as blocks of whole lines, their numbers kept.

A row is a line: a value cannot hold a line break. So the file can be cut at any line end.
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
"""stands for the column where a fault is not in one column"""

_BOM: Final = b"\xef\xbb\xbf"
_SUFFIXES: Final = {".csv": False, ".ndjson": True, ".jsonl": True}


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; ``first`` is the number of the first, counted from 1."""

    content: bytes
    first: int

    @cached_property
    def lines(self) -> int:
        """How many."""
        ends = np.count_nonzero(np.frombuffer(self.content, np.uint8) == ord("\n"))  # faster than bytes.count
        return int(ends) + (not self.content.endswith(b"\n"))

    def originals(self) -> list[bytes]:
        """Each line, without its line end."""
        parts = self.content.removesuffix(b"\n").split(b"\n")
        return [part.removesuffix(b"\r") for part in parts]

    def parts(self, size: int) -> Iterator["Block"]:
        """The same lines in blocks of about ``size`` bytes."""
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
        """Bytes."""
        return self._state.st_size

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._stream.tell()

    def is_ndjson(self) -> bool:
        """By suffix, else by the first byte."""
        known = _SUFFIXES.get(self.path.suffix.lower())
        if known is not None:
            return known
        with self.readable():
            self._stream.seek(0)
            return self._stream.read(len(_BOM) + 1).removeprefix(_BOM).startswith(b"{")

    def blocks(self) -> Iterator[Block]:
        """The file from its beginning, without the byte order mark. Raises `RowError` where a line has no end."""
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
                raise row_error(self.path, first, WHOLE_LINE, f"longer than {BLOCK} bytes; is this a list file?")

    def _read(self) -> bytes:
        with self.readable():
            left = self.size - self._stream.tell()  # of a file that grows no more: `check_unchanged` refuses it
            return self._stream.read(max(0, min(self._block, left)))

    def _read_line(self, limit: int) -> bytes | None:
        """The rest of a line; None where it is longer than ``limit``."""
        with self.readable():
            rest = self._stream.readline(limit + 1)
        return None if len(rest) > limit else rest

    def check_unchanged(self) -> None:
        """Raise `UsageError` where somebody wrote to the file while it was read: half a list must not go out."""
        now = os.fstat(self._stream.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise UsageError(f"{self.path} changed while it was read", hint="publish it once it is completely written")

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Turn the `OSError` of a read into a `UsageError`."""
        try:
            yield
        except OSError as error:
            raise _unreadable(self.path, error) from error


@contextlib.contextmanager
def open_list(path: Path, block: int = BLOCK) -> Iterator[ListFile]:
    """Open a list file; raises `UsageError` where it cannot be read or is no regular file."""
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
    """The error of one bad row."""
    error = RowError(path.name, line, column, reason)
    error.hint = "correct the file and publish it again; nothing was published"
    return error


def originals(source: ListFile, lines: Index) -> Iterator[bytes]:
    """The lines of these ascending numbers, read again."""
    for block in source.blocks():
        start, stop = np.searchsorted(lines, [block.first, block.first + block.lines])
        if start < stop:
            found = block.originals()
            yield from (found[line - block.first] for line in lines[start:stop].tolist())
