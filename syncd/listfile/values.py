"""The values of list rows: finding the bad ones, and the exact fault of each.

The same rules are stated twice: vectorised over columns to find the bad rows, and value by value to explain each of
them. A reason never contains a value.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.format.checksum import entry_bytes
from syncd.format.meaningless import OF_EMPTY_FILE, is_meaningless
from syncd.format.rows import Digests, Entries, Index, Mask
from syncd.listfile.causes import text_fault, width_fault
from syncd.listfile.names import find_algorithm, name_fault
from syncd.model import KNOWN_ALGORITHMS, MAX_ENTRY_BYTES, MAX_LABEL_BYTES, Algorithm

COLUMNS: Final = ("algorithm", "digest", "entry", "label")


class BadRow(NamedTuple):
    """The fault of a row, without any of its values."""

    column: str
    reason: str


LEFT_OUT: Final = BadRow("-", "not a digest, or revoked: left out by the profile")
"""Reported in place of a fault for a row that a profile leaves out, which is counted."""
NOT_UTF8: Final = "not valid UTF-8; export the file as UTF-8, other encodings are not guessed"
_ALGORITHMS: Final = KNOWN_ALGORITHMS
_UNKNOWN, _NONE = -1, -2
_SPACES: Final = " \t"
_HEX: Final = re.compile("[0-9a-fA-F]*")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Columns:
    """Rows of a list file as text, with their line numbers in ``lines``. No nulls; absent columns hold ''."""

    lines: Index
    algorithm: Any
    """``pyarrow.DictionaryArray``, as ``label``"""
    digest: Entries
    entry: Entries
    label: Any

    def __len__(self) -> int:
        return len(self.lines)

    def __repr__(self) -> str:
        return f"Columns({len(self)} rows)"

    @classmethod
    def build(cls, lines: Index, present: Mapping[str, Any]) -> Self:
        """Make rows of the columns ``present`` in a file, and fill in the others."""
        columns = dict(present)
        for name in COLUMNS:
            if name not in columns:
                if name in {"algorithm", "label"}:
                    codes = pa.array(np.zeros(len(lines), np.int32))
                    columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array([""]))
                else:
                    columns[name] = pa.array([""] * len(lines), pa.large_utf8())
        return cls(lines, **columns)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, ...]], lines: Index) -> Self:
        """Make rows of Python values in the order of `COLUMNS`."""
        values = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        algorithm, digest, entry, label = (pa.array(column, pa.large_utf8()) for column in values)
        return cls(lines, algorithm.dictionary_encode(), digest, entry, label.dictionary_encode())

    def under(self, algorithm: str) -> Self:
        """Return the rows with this algorithm in every row."""
        codes = pa.array(np.zeros(len(self), np.int32))
        column = pa.DictionaryArray.from_arrays(codes, pa.array([algorithm]))
        return type(self)(self.lines, column, self.digest, self.entry, self.label)

    def only(self, kept: Mask) -> Self:
        """Return the rows of a mask."""
        mask = pa.array(kept)
        columns = (column.filter(mask) for column in (self.algorithm, self.digest, self.entry, self.label))
        return type(self)(self.lines[kept], *columns)

    def row(self, number: int) -> tuple[str, str, str, str]:
        """Return the values of one row."""
        columns = (self.algorithm, self.digest, self.entry, self.label)
        algorithm, digest, entry, label = (column[number].as_py() for column in columns)
        return algorithm, digest, entry, label


@dataclass(frozen=True)
class Decoded:
    """The decoded columns of some rows, and the mask of good rows."""

    good: Mask
    digests: Mapping[Algorithm, tuple[Index, Digests]]
    """by algorithm: the numbers of the good rows that have a digest, ascending, and their digests"""
    codes: NDArray[np.int32]
    """the numbers of the labels, as assigned by the caller's ``code``"""
    ordinals: NDArray[np.int64]
    """positions in `KNOWN_ALGORITHMS`; negative if the row names no known algorithm"""


def decode_additions(columns: Columns, code: Callable[[str], int]) -> Decoded:
    """Judge rows to add. ``code`` numbers the labels."""
    ordinals = _ordinals(columns.algorithm)
    found, good = _digests(columns, ordinals)
    for algorithm, (index, digests) in found.items():
        good[index] = ~is_meaningless(algorithm, digests)
    long_labels, codes = _labels(columns.label, code)
    good &= (_lengths(columns.entry) <= MAX_ENTRY_BYTES) & ~long_labels
    return Decoded(good, _only(found, good), codes, ordinals)


def decode_removals(columns: Columns, code: Callable[[str], int]) -> Decoded:
    """Judge rows to remove: a digest under its algorithm, an entry, or both. Their label is ''."""
    ordinals, entries = _ordinals(columns.algorithm), _lengths(columns.entry)
    found, good = _digests(columns, ordinals)
    good |= (_lengths(columns.digest) == 0) & (entries > 0) & (ordinals != _UNKNOWN)
    good &= entries <= MAX_ENTRY_BYTES
    return Decoded(good, _only(found, good), np.full(len(columns), code(""), np.int32), ordinals)


def decode_digests(columns: Columns, code: Callable[[str], int]) -> Decoded:
    """Judge rows with a digest under any algorithm. Their label is ''."""
    ordinals = _ordinals(columns.algorithm)
    found, good = _digests(columns, ordinals)
    return Decoded(good, found, np.full(len(columns), code(""), np.int32), ordinals)


def algorithm_of(ordinal: int) -> Algorithm | None:
    """Return the algorithm of one of `Decoded.ordinals`; None if it is negative."""
    return _ALGORITHMS[ordinal] if ordinal >= 0 else None


def _ordinals(column: Any) -> NDArray[np.int64]:
    names = [_ordinal(name) for name in column.dictionary.to_pylist()]
    return np.asarray(np.array([*names, _NONE], np.int64)[np.asarray(column.indices)])


def _ordinal(name: str) -> int:
    algorithm = find_algorithm(name)
    if algorithm is None:
        return _UNKNOWN if name else _NONE
    return _ALGORITHMS.index(algorithm)


def _lengths(column: Any) -> NDArray[np.int64]:
    return np.diff(entry_bytes(column)[0])


def _labels(column: Any, code: Callable[[str], int]) -> tuple[Mask, NDArray[np.int32]]:
    """Return the mask of labels that are too long, and the codes of the others."""
    names = column.dictionary.to_pylist()
    long = [len(name.encode()) > MAX_LABEL_BYTES for name in names]
    codes = [0 if bad else code(name) for name, bad in zip(names, long, strict=True)]
    indices = np.asarray(column.indices)
    return np.array([*long, False])[indices], np.array([*codes, 0], np.int32)[indices]


DigestRows = dict[Algorithm, tuple[Index, Digests]]
"""By algorithm: row numbers, ascending, and their digests."""


def _digests(columns: Columns, ordinals: NDArray[np.int64]) -> tuple[DigestRows, Mask]:
    """Return the valid digests by algorithm, and the mask of their rows."""
    column = columns.digest
    lengths = _lengths(column)
    if _any_odd_length(lengths, ordinals):
        column = pc.utf8_trim(column, _SPACES)
        lengths = _lengths(column)
    found, good = {}, np.zeros(len(columns), bool)
    for ordinal in np.unique(ordinals[ordinals >= 0]).tolist():
        algorithm = _ALGORITHMS[ordinal]
        index = np.flatnonzero((ordinals == ordinal) & (lengths == 2 * algorithm.width))
        text = column if len(index) == len(columns) else column.take(pa.array(index))
        digests, hexadecimal = _unhex(text, algorithm.width)
        index = index[hexadecimal]
        found[algorithm] = index, digests
        good[index] = True
    return found, good


def _any_odd_length(lengths: NDArray[np.int64], ordinals: NDArray[np.int64]) -> bool:
    """Return True if a digest is not as long as its algorithm has it: there may be spaces around it."""
    expected = np.array([*(2 * algorithm.width for algorithm in _ALGORITHMS), 0, 0], np.int64)
    return bool(np.any(lengths != expected[ordinals]))


def _unhex(text: Entries, width: int) -> tuple[Digests, Mask]:
    """Return digests from texts of twice their width, and the mask of hexadecimal texts; others are left out."""
    _, content = entry_bytes(text)
    dtype = f"S{width}"
    try:
        return np.frombuffer(binascii.unhexlify(content.data), dtype), np.ones(len(text), bool)
    except binascii.Error:
        good = [_HEX.fullmatch(value) is not None for value in text.to_pylist()]
        mask = np.array(good, bool)
        _, content = entry_bytes(text.filter(pa.array(mask)))
        return np.frombuffer(binascii.unhexlify(content.data), dtype), mask


def _only(found: DigestRows, good: Mask) -> DigestRows:
    """Leave out the digests of rows that are bad for another reason."""
    if good.all():
        return found
    return {algorithm: (index[good[index]], digests[good[index]]) for algorithm, (index, digests) in found.items()}


def addition_fault(algorithm: str, digest: str, entry: str, label: str) -> BadRow:
    """Return the fault of a row to add that `decode_additions` found bad."""
    return next(_addition_faults(algorithm, digest, entry, label))


def _addition_faults(algorithm: str, digest: str, entry: str, label: str) -> Iterator[BadRow]:
    digest = digest.strip(_SPACES)
    yield from _digest_faults(algorithm, digest)
    known = find_algorithm(algorithm)
    value = bytes.fromhex(digest)
    if not any(value):
        yield BadRow("digest", "all zero")
    if not value.strip(b"\xff"):
        yield BadRow("digest", "all bits one")
    if known in OF_EMPTY_FILE and value == OF_EMPTY_FILE[known]:
        yield BadRow("digest", "digest of an empty file")
    yield from _length_faults("entry", entry, MAX_ENTRY_BYTES)
    yield from _length_faults("label", label, MAX_LABEL_BYTES)


def digest_fault(algorithm: str, digest: str, _entry: str, _label: str) -> BadRow:
    """Return the fault of a row that `decode_digests` found bad."""
    return next(_digest_faults(algorithm, digest))


def removal_fault(algorithm: str, digest: str, entry: str, _label: str) -> BadRow:
    """Return the fault of a row to remove that `decode_removals` found bad."""
    return next(_removal_faults(algorithm, digest, entry))


def _removal_faults(algorithm: str, digest: str, entry: str) -> Iterator[BadRow]:
    if not digest and not entry:
        yield BadRow("digest", "missing, and so is the entry")
    if digest or algorithm:
        faults = _digest_faults(algorithm, digest)
        yield from (fault for fault in faults if digest or fault.column == "algorithm")
    yield from _length_faults("entry", entry, MAX_ENTRY_BYTES)


def _digest_faults(algorithm: str, digest: str) -> Iterator[BadRow]:
    known = find_algorithm(algorithm)
    if known is None:
        yield BadRow("algorithm", name_fault(algorithm))
    digest = digest.strip(_SPACES)
    if not digest:
        yield BadRow("digest", "missing")
    elif fault := text_fault(digest):
        yield BadRow("digest", fault)
    elif known is not None and len(digest) != 2 * known.width:
        yield BadRow("digest", width_fault(digest, known))


def _length_faults(column: str, value: str, most: int) -> Iterator[BadRow]:
    length = len(value.encode())
    if length > most:
        yield BadRow(column, f"{length} bytes of UTF-8; at most {most}")


def character_fault(row: Sequence[str]) -> BadRow | None:
    """Return the fault of a row with a forbidden character, or None. Bytes that are not UTF-8 come as surrogates."""
    if "".join(row).isprintable():
        return None
    for column, value in zip(COLUMNS, row, strict=True):
        if _SURROGATE.search(value):
            return BadRow(column, NOT_UTF8)
        if "\0" in value:
            return BadRow(column, "a NUL byte")
        if found := _CONTROL.search(value):
            return BadRow(column, f"the control character U+{ord(found[0]):04X}")
    return None
