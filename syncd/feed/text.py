"""A publisher's list file as text: CSV or NDJSON in, blocks of columns out, line numbers kept.

A row is a line: a value cannot hold a line break. So the file is cut at its line ends into blocks; a block is read by
vectorised code where nothing in it looks odd, and else line by line, to name the line, the column and the reason.

CSV is RFC 4180 without line breaks in values: a value that holds a comma or a quotation mark is quoted.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from syncd.errors import RowError, UsageError
from syncd.feed.values import COLUMNS, Columns, Fault, character_fault
from syncd.format.rows import Index

BLOCK: Final = 8 << 20
"""bytes of one block; also the longest line"""
SMALL: Final = 64 << 10
"""bytes of the parts that an odd block is cut into, so that one odd line does not slow the others down"""
WHOLE_LINE: Final = "-"
"""stands for the column where a fault is not in one column"""

_BOM: Final = b"\xef\xbb\xbf"
_KNOWN: Final = ", ".join(COLUMNS)
_FIELD: Final = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)')
_SUFFIXES: Final = {".csv": False, ".ndjson": True, ".jsonl": True}

Report = Callable[[int, Fault, bytes], None]
"""Takes a bad row: its number, what is wrong, and the line itself."""


@dataclass(frozen=True)
class Block:
    """Whole lines of a file; ``first`` is the number of the first, counted from 1."""

    content: bytes
    first: int

    @cached_property
    def lines(self) -> int:
        """How many."""
        return self.content.count(b"\n") + (not self.content.endswith(b"\n"))

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
            return self._stream.read(self._block)

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


Part = tuple[Block, Columns]
"""Some lines, and the rows in them."""


class Parser(Protocol):
    """Turns lines into columns; hands lines that are not rows to ``report``."""

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """The rows of ``block``, in their order."""
        ...


def parsed(source: ListFile, needed: Sequence[frozenset[str]], report: Report) -> Iterator[Part]:
    """All rows of a file. ``needed``: sets of columns of which a CSV header must hold one. Raises `RowError`."""
    parser: Parser | None = NdjsonParser() if source.is_ndjson() else None
    empty = True
    for block in source.blocks():
        empty, rows = False, block
        if parser is None:
            head, _, content = block.content.partition(b"\n")
            parser = CsvParser.from_header(source.path, head.removesuffix(b"\r"), needed)
            rows = Block(content, block.first + 1)
        if rows.content:
            yield from parser.parse(rows, report)
    if empty:
        raise row_error(source.path, 1, WHOLE_LINE, "empty file")


class CsvParser:
    """CSV under one header."""

    def __init__(self, header: Sequence[str]) -> None:
        self._header = tuple(header)
        self._options = _arrow_options(self._header)

    @classmethod
    def from_header(cls, path: Path, line: bytes, needed: Sequence[frozenset[str]]) -> Self:
        """Read the header; raises `RowError` for line 1."""
        names = _split(line.decode("utf-8", "replace")) or []
        if not set(names) & set(COLUMNS):  # its values may be a row of the list: say nothing of them
            raise row_error(path, 1, WHOLE_LINE, f"no header; the first line names the columns, of {_KNOWN}")
        for number, name in enumerate(names, 1):
            if name not in COLUMNS:
                raise row_error(path, 1, str(number), f"unknown column; known are {_KNOWN}")
            if name in names[: number - 1]:
                raise row_error(path, 1, name, "named twice")
        if not any(columns <= set(names) for columns in needed):
            wanted = " or ".join(" and ".join(name for name in COLUMNS if name in columns) for columns in needed)
            raise row_error(path, 1, WHOLE_LINE, f"the header must name {wanted}")
        return cls(names)

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """The rows of ``block``, in their order."""
        columns = self._parse_fast(block)
        if columns is not None:
            yield block, columns
        elif len(block.content) > SMALL:
            for part in block.parts(SMALL):
                yield from self.parse(part, report)
        else:
            yield block, _parse_lines(block, self._parse_line, report)

    def _parse_fast(self, block: Block) -> Columns | None:
        """The whole block at once; None where anything in it looks odd."""
        if not _is_plain(block):
            return None
        read, parse, convert = self._options
        try:
            table = arrow_csv.read_csv(pa.BufferReader(block.content), read, parse, convert)
        except pa.ArrowInvalid:  # its text quotes the row: never pass it on
            return None
        if len(table) != block.lines:
            return None
        found = {name: table[name].combine_chunks() for name in self._header}
        return Columns.build(np.arange(block.first, block.first + len(table), dtype=np.int64), found)

    def _parse_line(self, original: bytes) -> tuple[str, ...] | Fault:
        text = original.decode("utf-8", "surrogateescape")
        values = _split(text)
        if values is None:
            return Fault(
                WHOLE_LINE, "quotation marks do not pair up on this line, or stand inside a value that is not quoted"
            )
        if len(values) != len(self._header):
            return Fault(WHOLE_LINE, f"columns: the header has {len(self._header)}, this line {len(values)}")
        found = dict(zip(self._header, values, strict=True))
        row = tuple(found.get(name, "") for name in COLUMNS)
        return character_fault(row) or row


def _arrow_options(header: Sequence[str]) -> tuple[Any, Any, Any]:
    few = pa.dictionary(pa.int32(), pa.utf8())
    types = {"algorithm": few, "digest": pa.large_utf8(), "entry": pa.large_utf8(), "label": few}
    return (
        # a block is whole lines: read as one piece, so that its rows stay one array
        arrow_csv.ReadOptions(column_names=list(header), block_size=2 * BLOCK + 1),
        arrow_csv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False),
        arrow_csv.ConvertOptions(
            column_types={name: types[name] for name in header},
            null_values=[],
            strings_can_be_null=False,
            check_utf8=True,
        ),
    )


def _split(text: str) -> list[str] | None:
    """The values of one line; None where its quotation marks are wrong."""
    values, position = [], 0
    while match := _FIELD.match(text, position):
        quoted, bare, end = match.groups()
        values.append(bare if quoted is None else quoted.replace('""', '"'))
        if not end:
            return values
        position = match.end()
    return None


def _is_plain(block: Block) -> bool:
    """Whether a block has no control characters, empty lines or doubtful quotation marks."""
    content = block.content
    table = np.frombuffer(content, np.uint8)
    ends = block.lines - (not content.endswith(b"\n"))
    returns = content.count(b"\r\n") if b"\r" in content else 0
    if np.count_nonzero(table < ord(" ")) != ends + returns or b"\x7f" in content:
        return False
    if content.startswith((b"\n", b"\r")) or b"\n\n" in content or (returns and b"\n\r" in content):
        return False
    if not content.isascii() and bool(np.any((table[:-1] == 0xC2) & (table[1:] < 0xA0))):  # noqa: PLR2004 - as follows
        return False  # U+0080 to U+009F are control characters too: C2 80 to C2 9F
    return b'"' not in content or _is_well_quoted(content)


def _is_well_quoted(content: bytes) -> bool:
    """Whether the quotation marks of every line pair up, each pair around a value, or doubled inside one."""
    table = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(table == ord('"'))
    if np.any(np.searchsorted(quotes, np.flatnonzero(table == ord("\n"))) % 2):
        return False
    before, after = table[quotes[0::2] - 1], table[quotes[1::2] + 1]
    return bool(_is_one_of(before, b'\n,"').all() and _is_one_of(after, b'\r\n,"').all())


def _is_one_of(found: NDArray[np.uint8], allowed: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(allowed)] = True
    return table[found]


class NdjsonParser:
    """One JSON object a line, its values strings (RFC 8259)."""

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """The rows of ``block``, in their order."""
        for part in block.parts(1 << 20):  # Python objects take ten times the bytes
            yield part, _parse_lines(part, self._parse_line, report)

    def _parse_line(self, original: bytes) -> tuple[str, ...] | Fault:
        try:
            pairs = json.loads(original.decode(), object_pairs_hook=_Pairs)
        except UnicodeDecodeError:
            return Fault(WHOLE_LINE, "not valid UTF-8")
        except (ValueError, RecursionError):
            return Fault(WHOLE_LINE, "not JSON")
        if not isinstance(pairs, _Pairs):
            return Fault(WHOLE_LINE, "not a JSON object")
        found = dict(pairs)
        if not found.keys() <= set(COLUMNS):
            return Fault(WHOLE_LINE, f"unknown key; known are {_KNOWN}")
        for name, value in pairs:
            if not isinstance(value, str):
                return Fault(name, "not a string")
        if len(found) != len(pairs):
            return Fault(WHOLE_LINE, "a key named twice")
        row = tuple(found.get(name, "") for name in COLUMNS)
        return character_fault(row) or row


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, as read."""


def _parse_lines(block: Block, parse: Callable[[bytes], tuple[str, ...] | Fault], report: Report) -> Columns:
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    for line, original in enumerate(block.originals(), block.first):
        row = parse(original) if original else Fault(WHOLE_LINE, "empty line")
        if isinstance(row, Fault):
            report(line, row, original)
        else:
            rows.append(row)
            lines.append(line)
    return Columns.from_rows(rows, np.array(lines, np.int64))


def originals(source: ListFile, lines: Index) -> Iterator[bytes]:
    """The lines of these ascending numbers, read again."""
    for block in source.blocks():
        start, stop = np.searchsorted(lines, [block.first, block.first + block.lines])
        if start < stop:
            found = block.originals()
            yield from (found[line - block.first] for line in lines[start:stop].tolist())
