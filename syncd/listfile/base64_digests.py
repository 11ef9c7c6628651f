"""Digests in base64, as tools write PhotoDNA and MD5: read if all rows of the algorithm have them."""

import binascii
import re
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from syncd.format.checksum import entry_bytes
from syncd.listfile.names import find_algorithm
from syncd.listfile.parsers import Part, Report
from syncd.listfile.values import BadRow, Columns
from syncd.model import Algorithm

_PATTERNS: Final = {
    Algorithm.MD5: (24, re.compile("[0-9A-Za-z+/]{22}==")),
    Algorithm.PHOTODNA: (192, re.compile("[0-9A-Za-z+/]{192}")),
}
_LENGTHS: Final = frozenset(length for length, _ in _PATTERNS.values())
_HEX: Final = re.compile("[0-9a-fA-F]*")
_MIXED: Final = "base64 in some rows and hexadecimal in others: one of them may be damaged"


@dataclass
class Base64Digests:
    """The form of the digests of each algorithm, as its first row has it."""

    _forms: dict[Algorithm, bool] = field(default_factory=dict)
    """True: base64"""

    def as_hexadecimal(self, part: Part, report: Report) -> Part:
        """Return the rows with hexadecimal digests; report those whose form differs from that of earlier rows."""
        block, columns = part
        lengths = np.diff(entry_bytes(columns.digest)[0])
        suspect = np.logical_or.reduce([lengths == length for length in _LENGTHS])
        if not suspect.any() and not any(self._forms.values()):
            self._note_hexadecimal(columns, lengths)
            return part
        return block, self._converted(part, report)

    def _note_hexadecimal(self, columns: Columns, lengths: NDArray[np.int64]) -> None:
        if len(self._forms) == len(_PATTERNS):
            return
        for name in columns.algorithm.dictionary.to_pylist():
            algorithm = find_algorithm(name)
            if algorithm in _PATTERNS and bool(np.any(lengths == 2 * algorithm.width)):
                self._forms.setdefault(algorithm, False)

    def _converted(self, part: Part, report: Report) -> Columns:
        block, columns = part
        digests, kept = columns.digest.to_pylist(), np.ones(len(columns), bool)
        algorithms = [find_algorithm(name) for name in columns.algorithm.dictionary.to_pylist()]
        codes = np.asarray(columns.algorithm.indices)
        for row in range(len(columns)):
            algorithm = algorithms[codes[row]]
            if algorithm not in _PATTERNS:
                continue
            form = _form(algorithm, digests[row])
            if form is None:
                continue
            if self._forms.setdefault(algorithm, form) != form:
                line = int(columns.lines[row])
                report(line, BadRow("digest", _MIXED), block.originals()[line - block.first])
                kept[row] = False
            elif form:
                digests[row] = binascii.a2b_base64(digests[row]).hex()
        found = replace(columns, digest=pa.array(digests, pa.large_utf8()))
        return found if kept.all() else found.only(kept)


def _form(algorithm: Algorithm, digest: str) -> bool | None:
    """Return True for base64 of the right width, False for hexadecimal digits, None for anything else."""
    length, pattern = _PATTERNS[algorithm]
    if len(digest) == 2 * algorithm.width and _HEX.fullmatch(digest):
        return False
    good = len(digest) == length and pattern.fullmatch(digest) and not _HEX.fullmatch(digest)
    return True if good and _is_canonical(digest) else None


def _is_canonical(digest: str) -> bool:
    """Return True if encoding the value gives the same text: no stray bits at the end."""
    return binascii.b2a_base64(binascii.a2b_base64(digest), newline=False).decode() == digest
