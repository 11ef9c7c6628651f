"""The lines of a list file as columns: CSV or NDJSON.

A block is read by vectorised code if nothing in it looks odd; otherwise line by line, to name line, column and reason.
Both read the same language: CSV is RFC 4180 without line breaks in values, so a value with a comma or a quotation mark
must be quoted; NDJSON is one JSON object (RFC 8259) per line.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from syncd.listfile.profile import suggested
from syncd.listfile.text import BLOCK, WHOLE_LINE, Block
from syncd.listfile.values import COLUMNS, NOT_UTF8, BadRow, Columns, character_fault

SMALL: Final = 8 << 10
"""bytes that are read line by line; a larger odd block is cut up first, so that one odd line slows down few others"""
_CUTS: Final = 8
_EMPTY: Final = BadRow(WHOLE_LINE, "empty line: rows may be missing; remove the line if none is")
_UNWRITTEN: Final = BadRow(WHOLE_LINE, "NUL bytes only: the file was not written or copied completely")
_UNPAIRED: Final = (
    "a quotation mark without its pair: a value has a line break or a single mark, or the file is cut off; a value "
    "cannot have line breaks, and a mark in it is doubled"
)
_MISPLACED: Final = "quotation marks inside a value that is not quoted: quote the value, and double each mark in it"
_ESCAPED: Final = "a backslash before a quotation mark: in CSV a mark in a value is doubled instead"
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


class CsvParser:
    """CSV under one header."""

    def __init__(self, header: Sequence[str], delimiter: str = ",") -> None:
        self._header, self._delimiter = tuple(header), delimiter
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
        if not is_plain(block, self._delimiter):
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

    def _parse_line(self, original: bytes) -> Row | BadRow | None:
        values = line_values(original, self._delimiter, len(self._header))
        if values is None or isinstance(values, BadRow):
            return values
        return checked(dict(zip(self._header, values, strict=True)))


def line_values(original: bytes, delimiter: str, width: int, *, spaced: bool = False) -> list[str] | BadRow | None:
    """Return the values of one line of CSV, which must be ``width``; None for a comment."""
    if not original.strip(b"\0"):
        return _UNWRITTEN if original else _EMPTY
    values = split(original.decode("utf-8", "surrogateescape"), delimiter, spaced=spaced)
    if values is not None and len(values) == width:
        return values
    if is_comment(original):
        return None
    return BadRow(WHOLE_LINE, _quote_fault(original, delimiter.encode()) if values is None else _width(values, width))


def _width(values: Sequence[str], width: int) -> str:
    reason = f"{len(values)} columns; the header has {width}"
    if len(values) == width + 1 and not values[-1]:
        return f"{reason}: the line ends in a delimiter"
    if len(values) < width:
        return f"{reason}: values are missing, or the line is cut off"
    return f"{reason}: a value with the delimiter in it must be quoted"


def is_comment(line: bytes) -> bool:
    """Return True for ``# text``, as programs write between and below rows. A value may begin with ``#`` alone."""
    return line.startswith(b"# ")


def _quote_fault(original: bytes, delimiter: bytes) -> str:
    if b'\\"' in original:
        return _ESCAPED
    opening = re.search(rb"(?:\A|" + re.escape(delimiter) + rb') ?"', original)
    return _UNPAIRED if opening and original.count(b'"') % 2 else _MISPLACED


def split(text: str, delimiter: str = ",", *, spaced: bool = False) -> list[str] | None:
    """Return the values of one line; None if its quotation marks are wrong. ``spaced``: without a space before each."""
    field = _FIELD if delimiter == "," and not spaced else _field(delimiter, " ?" if spaced else "")
    values, position = [], 0
    while match := field.match(text, position):
        quoted, bare, end = match.groups()
        values.append(bare if quoted is None else quoted.replace('""', '"'))
        if not end:
            return values
        position = match.end()
    return None


@cache
def _field(delimiter: str, before: str) -> re.Pattern[str]:
    end = re.escape(delimiter)
    return re.compile(rf'{before}(?:"((?:[^"]|"")*)"|([^"{end}]*))({end}|\Z)')


def is_plain(block: Block, delimiter: str = ",") -> bool:
    """Return True if a block has no control characters, empty lines or doubtful quotation marks."""
    content = block.content
    table = np.frombuffer(content, np.uint8)
    ends = block.lines - (not content.endswith(b"\n"))
    returns = content.count(b"\r\n") if b"\r" in content else 0
    tabs = np.count_nonzero(table == ord("\t")) if delimiter == "\t" else 0
    if np.count_nonzero(table < ord(" ")) != ends + returns + tabs or b"\x7f" in content:
        return False
    empty_line = content.startswith((b"\n", b"\r")) or _has_pair(table, ord("\n"), ord("\r") + 1)
    if empty_line or (not content.isascii() and _has_pair(table, _C1_LEAD, _C1_END)):
        return False
    return b'"' not in content or _is_well_quoted(content, delimiter.encode())


def _has_pair(table: NDArray[np.uint8], first: int, below: int) -> bool:
    """Return True if a byte ``first`` is anywhere followed by a byte below ``below``."""
    return bool(np.any((table[:-1] == first) & (table[1:] < below)))


def _is_well_quoted(content: bytes, delimiter: bytes) -> bool:
    """Return True if each pair of quotation marks encloses a value, or is a doubled mark inside one.

    A pair may enclose a line end here; then there are fewer rows than lines.
    """
    table = np.frombuffer(b"\n" + content + b"\n", np.uint8)
    quotes = np.flatnonzero(table == ord('"'))
    if len(quotes) % 2:
        return False
    before, after = table[quotes[0::2] - 1], table[quotes[1::2] + 1]
    return bool(_is_one_of(before, b'\n"' + delimiter).all() and _is_one_of(after, b'\r\n"' + delimiter).all())


def _is_one_of(values: NDArray[np.uint8], allowed: bytes) -> NDArray[np.bool_]:
    table = np.zeros(256, bool)
    table[list(allowed)] = True
    return table[values]


class Pairs(list[tuple[str, object]]):
    """The members of a JSON object, in order, with repeated names."""


_JSON: Final = json.JSONDecoder(object_pairs_hook=Pairs)


class NdjsonParser:
    """One JSON object per line, with texts or whole numbers as values (RFC 8259). ``null`` is as good as absent."""

    def __init__(self, read: Callable[[Pairs], "list[Row] | Row | BadRow | None"] | None = None) -> None:
        self._row = read or row_of

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        for part in block.parts(1 << 20):  # Python objects take ten times as many bytes
            yield part, parse_lines(part, self._parse_line, report)

    def _parse_line(self, original: bytes) -> "list[Row] | Row | BadRow | None":
        if not original:
            return _EMPTY
        try:
            pairs = _JSON.decode(original.decode())
        except UnicodeDecodeError:
            return BadRow(WHOLE_LINE, NOT_UTF8)
        except (ValueError, RecursionError):
            return BadRow(WHOLE_LINE, "not JSON")
        if not isinstance(pairs, Pairs):
            return BadRow(WHOLE_LINE, "not a JSON object")
        return self._row(pairs)


def row_of(pairs: Pairs, algorithm: str = "") -> Row | BadRow:
    """Return the row of an object whose keys are columns; ``algorithm`` is that of rows that do not state it."""
    values: dict[str, str] = {}
    for written, value in pairs:
        name = written.strip().lower()
        if name not in COLUMNS:
            return BadRow(WHOLE_LINE, _unknown_key(pairs))
        text = json_text(name, value)
        if isinstance(text, BadRow):
            return text
        if name in values:
            return BadRow(name, "named twice")
        values[name] = text
    return checked({"algorithm": algorithm, **values} if algorithm else values)


def _unknown_key(pairs: Pairs) -> str:
    options = suggested(name for name, _ in pairs)
    advice = f"name those to read: {options}" if options else "with --map only the keys in it are read"
    return f"unknown key; known keys: {_KNOWN}; {advice}"


def json_text(name: str, value: object) -> str | BadRow:
    """Return a JSON value as text: a whole number only if it is not part of the digest."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return BadRow(name, "a number, not a string: digits may be lost") if name == "digest" else str(value)
    return BadRow(name, "not a string")


def checked(values: Mapping[str, str]) -> Row | BadRow:
    """Return the row of these values, by column, if they have no forbidden characters."""
    value = values.get
    row = (value("algorithm", ""), value("digest", ""), value("entry", ""), value("label", ""))
    return character_fault(row) or row


def parse_lines(block: Block, parse: Callable[[bytes], "list[Row] | Row | BadRow | None"], report: Report) -> Columns:
    """Parse a block line by line. ``parse``: returns None for a line to skip, and a list for a line of several rows."""
    rows: list[Row] = []
    lines: list[int] = []
    for line, original in enumerate(block.originals(), block.first):
        row = parse(original)
        if isinstance(row, BadRow):
            report(line, row, original)
        elif isinstance(row, list):
            rows += row
            lines += [line] * len(row)
        elif row is not None:
            rows.append(row)
            lines.append(line)
    return Columns.from_rows(rows, np.array(lines, np.int64))
