"""Tables whose columns or delimiter differ from those of syncd's own CSV: read at once too, if nothing looks odd."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from syncd.format.checksum import entry_bytes
from syncd.format.rows import Entries, Index
from syncd.listfile.parsers import SMALL, Part, Report, is_plain, line_values, parse_lines
from syncd.listfile.selection import Rows, Selection
from syncd.listfile.text import BLOCK, Block
from syncd.listfile.values import BadRow, Columns

_CUTS: Final = 8


class TableParser:
    """CSV with any delimiter; only the columns of a `Selection` are read."""

    def __init__(self, width: int, selection: Selection, delimiter: str = ",", *, spaced: bool = False) -> None:
        self._width, self._selection, self._delimiter, self._spaced = width, selection, delimiter, spaced
        few = pa.dictionary(pa.int32(), pa.utf8())
        types = {str(at): pa.large_utf8() for at in selection.positions}
        types.update({str(at): few for at in (selection.algorithm, selection.label) if at is not None})
        self._options = (
            arrow_csv.ReadOptions(column_names=[str(at) for at in range(width)], block_size=2 * BLOCK + 1),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=False, ignore_empty_lines=False),
            arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=[str(at) for at in selection.positions],
                null_values=[],
                strings_can_be_null=False,
                check_utf8=True,
            ),
        )

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block``, by column of digests."""
        found = self._parse_fast(block)
        if found is not None:
            yield from ((block, columns) for columns in found)
            return
        parts = list(block.parts(max(SMALL, len(block.content) // _CUTS)))
        if len(parts) == 1:
            yield block, parse_lines(block, self._parse_line, report)
            return
        for part in parts:
            yield from self.parse(part, report)

    def _parse_fast(self, block: Block) -> list[Columns] | None:
        selection = self._selection
        if self._spaced or selection.others or not is_plain(block, self._delimiter):
            return None
        try:
            table = arrow_csv.read_csv(pa.BufferReader(block.content), *self._options)
        except pa.ArrowInvalid:  # its text quotes the row: never pass it on
            return None
        if len(table) != block.lines:
            return None
        columns = {int(name): table[name].combine_chunks() for name in table.column_names}
        if any(np.any(np.diff(entry_bytes(columns[at])[0])) for at in selection.blank):
            return None
        lines = np.arange(block.first, block.first + len(table), dtype=np.int64)
        places = {"algorithm": selection.algorithm, "entry": selection.entry, "label": selection.label}
        shared = {column: columns[at] for column, at in places.items() if at is not None}
        if not selection.digests:
            return [Columns.build(lines, shared)]
        return _without_empty([_rows(lines, shared, columns[at], name) for name, at in selection.digests])

    def _parse_line(self, original: bytes) -> Rows | None:
        values = line_values(original, self._delimiter, self._width, spaced=self._spaced)
        return values if values is None or isinstance(values, BadRow) else self._selection.rows(values)


def _rows(lines: Index, shared: Mapping[str, Any], digest: Entries, algorithm: str) -> Columns:
    columns = Columns.build(lines, {**shared, "digest": digest})
    return columns.under(algorithm) if algorithm else columns


def _without_empty(present: Sequence[Columns]) -> list[Columns] | None:
    """Leave out the empty values of several columns of digests; None if a row has no digest at all."""
    if len(present) == 1:
        return list(present)
    filled = [np.diff(entry_bytes(columns.digest)[0]) > 0 for columns in present]
    if not np.logical_or.reduce(filled).all():
        return None
    return [columns if kept.all() else columns.only(kept) for columns, kept in zip(present, filled, strict=True)]
