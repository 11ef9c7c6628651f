"""The output of tools: one digest a line, and the lines of md5sum, BSD md5, openssl and hashdeep.

Names of files in them are not read: a list holds hashes only, and a path may name a person.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from syncd.listfile.names import find_algorithm
from syncd.listfile.parsers import CsvParser, Part, Report, Row, checked, is_comment, parse_lines
from syncd.listfile.selection import Rows, Selection
from syncd.listfile.text import WHOLE_LINE, Block
from syncd.listfile.values import BadRow, Columns

_SUM: Final = re.compile(r"\\?([0-9a-fA-F]{32,}) [ *]?(.+)")
_BSD: Final = re.compile(r"\\?([A-Za-z][A-Za-z0-9-]*) ?\((.*)\) ?= ([0-9a-fA-F]+)")
_LONE: Final = re.compile(r"[0-9a-fA-F]{32,}|[0-9a-zA-Z+/]{22}==|[0-9a-zA-Z+/]{192}")


def is_lone(line: str) -> bool:
    """Return True if a line is one digest."""
    return _LONE.fullmatch(line.strip()) is not None


def is_sum(line: str) -> bool:
    """Return True if a line is one of md5sum."""
    return _SUM.fullmatch(line) is not None


def is_bsd(line: str) -> bool:
    """Return True if a line is one of BSD md5, or of openssl."""
    found = _BSD.fullmatch(line)
    return found is not None and find_algorithm(found[1]) is not None


class LoneDigests:
    """One digest a line, all of one algorithm."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._column = _DigestColumn(("digest",))

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        for part, columns in self._column.parse(block, report):
            yield part, columns.under(self._algorithm)


class _DigestColumn(CsvParser):
    """A single column of digests. A comment is not one of its values."""

    def parse_fast(self, block: Block) -> Columns | None:
        """Parse the whole block at once; return None if anything in it looks odd."""
        commented = is_comment(block.content) or b"\n# " in block.content
        return None if commented else super().parse_fast(block)

    def _parse_line(self, original: bytes) -> Row | BadRow | None:
        return None if is_comment(original) else super()._parse_line(original)


@dataclass(frozen=True)
class SumLines:
    """Lines of md5sum and its kin: the digest, white space, the name of the file."""

    algorithm: str

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        yield block, parse_lines(block, self._row, report)

    def _row(self, original: bytes) -> Row | BadRow | None:
        found = _SUM.fullmatch(original.decode("utf-8", "replace"))
        if found is None and is_comment(original):
            return None
        if found is None:
            return BadRow(WHOLE_LINE, "not a digest, white space and the name of a file, as in the lines above")
        return checked({"algorithm": self.algorithm, "digest": found[1]})


@dataclass(frozen=True)
class BsdLines:
    """Lines of BSD md5, shasum --tag and openssl: ``MD5 (name) = digest``."""

    algorithm: str

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        yield block, parse_lines(block, self._row, report)

    def _row(self, original: bytes) -> Row | BadRow | None:
        found = _BSD.fullmatch(original.decode("utf-8", "replace"))
        if found is None and is_comment(original):
            return None
        if found is None:
            return BadRow(WHOLE_LINE, "not of the form ALGORITHM (FILE) = DIGEST, as in the lines above")
        if self.algorithm and find_algorithm(found[1]) != self.algorithm:
            return BadRow("algorithm", f"not {self.algorithm}, as the command states")
        return checked({"algorithm": found[1], "digest": found[3]})


class HashdeepLines:
    """Lines of hashdeep: values under the columns of its header; only the last, the file name, may have commas."""

    def __init__(self, header: Sequence[str]) -> None:
        known = [(name, at) for at, name in enumerate(header) if find_algorithm(name) is not None]
        self._width, self._selection = len(header), Selection(tuple(known))

    @property
    def has_digests(self) -> bool:
        """True if a column has digests of a known algorithm."""
        return bool(self._selection.digests)

    def parse(self, block: Block, report: Report) -> Iterator[Part]:
        """Yield the rows of ``block`` in order."""
        yield block, parse_lines(block, self._rows, report)

    def _rows(self, original: bytes) -> Rows | None:
        if original.startswith(b"#"):
            return None
        values = original.decode("utf-8", "replace").split(",", self._width - 1)
        if len(values) != self._width:
            return BadRow(WHOLE_LINE, f"{len(values)} values; the header of hashdeep has {self._width}")
        return self._selection.rows(values)
