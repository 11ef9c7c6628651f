"""Reading files of digests without entries and labels, such as a list of known-good files.

Such a file has one ``ALG:HEX`` a line, with comments after ``#``; or it is a list file (CSV with a header, or NDJSON):
only ``algorithm`` and ``digest`` of it count.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from syncd.files import storage
from syncd.format.segment import Segment
from syncd.listfile.collect import BadRows, Sorter, bad_rows
from syncd.listfile.detect import parsed
from syncd.listfile.parsers import CsvParser, Part, Report, Row, parse_lines
from syncd.listfile.text import WHOLE_LINE, Block, ListFile, open_list, row_error
from syncd.listfile.values import BadRow, Columns, character_fault, decode_digests, digest_fault
from syncd.model import Algorithm

_COMMENT: Final = b"#"
_PROBE: Final = 64 << 10
"""bytes at the beginning that show which kind of file it is"""
_LIST_FILES: Final = frozenset({".csv", ".ndjson", ".jsonl"})


def load_digests(path: Path, scratch: Path) -> Mapping[Algorithm, Segment]:
    """Read a file of digests into sorted segments in the folder ``scratch``, each digest once.

    Raises `RowError` for the first bad line, `UsageError` if the file cannot be read, `StoreError` if ``scratch``
    cannot be written.
    """
    with (
        open_list(path, scratch=scratch) as source,
        bad_rows(path, None, unit=source.unit) as bad,
        storage(scratch, "sort digests in"),
        Sorter(scratch) as sorter,
    ):
        for block, columns in _parts(source, bad):
            decoded = decode_digests(columns, sorter.label_code)
            bad.report_bad((block, columns), decoded, digest_fault)
            if bad.ended:
                break
            alone = Columns.build(columns.lines, {"algorithm": columns.algorithm, "digest": columns.digest})
            sorter.add(alone, decoded)
        source.check_unchanged()
        return sorter.write(source, bad)


def _parts(source: ListFile, bad: BadRows) -> Iterator[Part]:
    if not _has_pairs(source):
        yield from parsed(source, (frozenset({"algorithm", "digest"}),), bad.report)
        return
    parser = _PairParser()
    for block in source.blocks():
        yield from parser.parse(block, bad.report)


def _has_pairs(source: ListFile) -> bool:
    """Return True if the file has ``ALG:HEX`` lines. Raises `RowError` if it is empty."""
    if source.path.suffix.lower() in _LIST_FILES or source.is_ndjson():
        return False
    for block in source.blocks():
        for line in block.content[:_PROBE].split(b"\n"):
            if text := line.partition(_COMMENT)[0].strip():
                return b":" in text.partition(b",")[0]
        return True
    raise row_error(source.path, 1, WHOLE_LINE, "empty file")


class _PairParser(CsvParser):
    """``ALG:HEX`` lines. A block without comments is read at once."""

    def __init__(self) -> None:
        super().__init__(("algorithm", "digest"), ":")

    def parse_fast(self, block: Block) -> Columns | None:
        """Parse the whole block at once; return None if anything in it looks odd."""
        return None if _COMMENT in block.content or b'"' in block.content else super().parse_fast(block)

    def parse_lines(self, block: Block, report: Report) -> Columns:
        """Parse the block line by line."""
        return parse_lines(block, _pair, report)


def _pair(original: bytes) -> Row | BadRow | None:
    """Parse a line; None if it is empty, or has only a comment."""
    text = original.partition(_COMMENT)[0].strip().decode("utf-8", "surrogateescape")
    if not text:
        return None
    algorithm, colon, digest = text.partition(":")
    if not colon:
        return BadRow(WHOLE_LINE, "not of the form ALG:HEX")
    row = (algorithm, digest, "", "")
    return character_fault(row) or row
