"""The lines of a list file as columns: CSV or NDJSON.

A block is read by vectorised code if nothing in it looks odd; otherwise line by line, to name line, column and reason.
Both read the same language: CSV is RFC 4180 without line breaks in values, so a value with a comma or a quotation mark
must be quoted; NDJSON is one JSON object (RFC 8259) per line.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from syncd.listfile.text import BLOCK, WHOLE_LINE, Block, ListFile, row_error
from syncd.listfile.values import COLUMNS, BadRow, Columns, character_fault

SMALL: Final = 8 << 10
"""bytes that are read line by line; a larger odd block is cut up first, so that one odd line slows down few others"""
_CUTS: Final = 8
_EMPTY: Final = BadRow(WHOLE_LINE, "empty line")
_QUOTES: Final = "quotation marks do not pair up on this line, or are inside a value that is not quoted"
_KNOWN: Final = ", ".join(COLUMNS)
_C1_LEAD, _C1_END = 0xC2, 0xA0  # the control characters U+0080 to U+009F are C2 80 to C2 9F
_FIELD: Final = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(,|\Z)')

Row = tuple[str, ...]
"""The values of one row in the order of `COLUMNS`."""
Report = Callable[[int, BadRow, bytes], None]
"""Receives a bad row: its line number, its fault, and the line itself."""
Part = tuple[Block, Columns]
"""Some lines, and the rows in them."""


class Parser(Protocol):
    """A parser that turns lines into columns, and passes lines that are not rows to ``report``."""

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        ...


def parsed(source: ListFile, needed: Sequence[frozenset[str]], report: Report) -> Iterator[Part]:
    """Yield all rows of a file. A CSV header must have at least one of the sets of columns in ``needed``.

    Raises `RowError`.
    """
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

    def __init__(self, header: Sequence[str], delimiter: str = ",") -> None:
        self._header = tuple(header)
        few = pa.dictionary(pa.int32(), pa.utf8())
        types = {"algorithm": few, "digest": pa.large_utf8(), "entry": pa.large_utf8(), "label": few}
        self._options = (
            # a block consists of whole lines: read it as one piece, so that its rows stay one array
            arrow_csv.ReadOptions(column_names=list(self._header), block_size=2 * BLOCK + 1),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types={name: types[name] for name in self._header},
                null_values=[],
                strings_can_be_null=False,
                check_utf8=True,
            ),
        )

    @classmethod
    def from_header(cls, path: Path, line: bytes, needed: Sequence[frozenset[str]]) -> Self:
        """Read the header. Raises `RowError` for line 1."""
        names = _split(line.decode("utf-8", "replace")) or []
        if not set(names) & set(COLUMNS):  # it may be a row of the list: do not show its values
            raise row_error(path, 1, WHOLE_LINE, f"no header; the first line must name the columns, out of {_KNOWN}")
        for number, name in enumerate(names, 1):
            if name not in COLUMNS:
                raise row_error(path, 1, str(number), f"unknown column; known columns: {_KNOWN}")
            if name in names[: number - 1]:
                raise row_error(path, 1, name, "named twice")
        if not any(columns <= set(names) for columns in needed):
            wanted = " or ".join(" and ".join(name for name in COLUMNS if name in columns) for columns in needed)
            raise row_error(path, 1, WHOLE_LINE, f"the header must name {wanted}")
        return cls(names)

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        columns = self.parse_fast(block)
        if columns is not None:
            yield block, columns
            return
        parts = list(block.parts(max(SMALL, len(block.content) // _CUTS)))
        if len(parts) == 1:
            yield block, self.parse_lines(block, report)
            return
        for part in parts:
            yield from self.parse(part, report)

    def parse_fast(self, block: Block) -> Columns | None:
        """Parse the whole block at once; return None if anything in it looks odd."""
        if not _is_plain(block):
            return None
        read, parse, convert = self._options
        try:
            table = arrow_csv.read_csv(pa.BufferReader(block.content), read, parse, convert)
        except pa.ArrowInvalid:  # its text quotes the row: never pass it on
            return None
        if len(table) != block.lines:  # a value contains a line end
            return None
        present = {name: table[name].combine_chunks() for name in self._header}
        return Columns.build(np.arange(block.first, block.first + len(table), dtype=np.int64), present)

    def parse_lines(self, block: Block, report: Report) -> Columns:
        """Parse the block line by line."""
        return parse_lines(block, self._parse_line, report)

    def _parse_line(self, original: bytes) -> Row | BadRow:
        if not original:
            return _EMPTY
        text = original.decode("utf-8", "surrogateescape")
        values = _split(text)
        if values is None:
            return BadRow(WHOLE_LINE, _QUOTES)
        if len(values) != len(self._header):
            return BadRow(WHOLE_LINE, f"{len(values)} columns; the header has {len(self._header)}")
        return _checked(dict(zip(self._header, values, strict=True)))


def _split(text: str) -> list[str] | None:
    """Return the values of one line; None if its quotation marks are wrong."""
    values, position = [], 0
    while match := _FIELD.match(text, position):
        quoted, bare, end = match.groups()
        values.append(bare if quoted is None else quoted.replace('""', '"'))
        if not end:
            return values
        position = match.end()
    return None


def _is_plain(block: Block) -> bool:
    """Return True if a block has no control characters, empty lines or doubtful quotation marks."""
    content = block.content
    table = np.frombuffer(content, np.uint8)
    ends = block.lines - (not content.endswith(b"\n"))
    returns = content.count(b"\r\n") if b"\r" in content else 0
    if np.count_nonzero(table < ord(" ")) != ends + returns or b"\x7f" in content:
        return False
    empty_line = content.startswith((b"\n", b"\r")) or _has_pair(table, ord("\n"), ord("\r") + 1)
    if empty_line or (not content.isascii() and _has_pair(table, _C1_LEAD, _C1_END)):
        return False
    return b'"' not in content or _is_well_quoted(content)


def _has_pair(table: NDArray[np.uint8], first: int, below: int) -> bool:
    """Return True if a byte ``first`` is anywhere followed by a byte below ``below``."""
    return bool(np.any((table[:-1] == first) & (table[1:] < below)))


def _is_well_quoted(content: bytes) -> bool:
    """Return True if each pair of quotation marks encloses a value, or is a doubled mark inside one.

    A pair may enclose a line end here; then there are fewer rows than lines.
    """
    table = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(table == ord('"'))
    if len(quotes) % 2:
        return False
    before, after = table[quotes[0::2] - 1], table[quotes[1::2] + 1]
    return bool(_is_one_of(before, b'\n,"').all() and _is_one_of(after, b'\r\n,"').all())


def _is_one_of(values: NDArray[np.uint8], allowed: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(allowed)] = True
    return table[values]


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object, in order, with repeated names."""


_JSON: Final = json.JSONDecoder(object_pairs_hook=_Pairs)


class NdjsonParser:
    """One JSON object per line, with strings as values (RFC 8259)."""

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        for part in block.parts(1 << 20):  # Python objects take ten times as many bytes
            yield part, parse_lines(part, self._parse_line, report)

    def _parse_line(self, original: bytes) -> Row | BadRow:
        if not original:
            return _EMPTY
        try:
            pairs = _JSON.decode(original.decode())
        except UnicodeDecodeError:
            return BadRow(WHOLE_LINE, "not valid UTF-8")
        except (ValueError, RecursionError):
            return BadRow(WHOLE_LINE, "not JSON")
        if not isinstance(pairs, _Pairs):
            return BadRow(WHOLE_LINE, "not a JSON object")
        return _row_of(pairs)


def _row_of(pairs: _Pairs) -> Row | BadRow:
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in COLUMNS:
            return BadRow(WHOLE_LINE, f"unknown key; known keys: {_KNOWN}")
        if not isinstance(value, str):
            return BadRow(name, "not a string")
        if name in values:
            return BadRow(name, "named twice")
        values[name] = value
    return _checked(values)


def _checked(values: dict[str, str]) -> Row | BadRow:
    value = values.get
    row = (value("algorithm", ""), value("digest", ""), value("entry", ""), value("label", ""))
    return character_fault(row) or row


def parse_lines(block: Block, parse: Callable[[bytes], Row | BadRow | None], report: Report) -> Columns:
    """Parse a block line by line. ``parse``: returns None for a line to skip."""
    rows: list[Row] = []
    lines: list[int] = []
    for line, original in enumerate(block.originals(), block.first):
        row = parse(original)
        if isinstance(row, BadRow):
            report(line, row, original)
        elif row is not None:
            rows.append(row)
            lines.append(line)
    return Columns.from_rows(rows, np.array(lines, np.int64))
