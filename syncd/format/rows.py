"""Rows of one algorithm in memory: segments are read into them and written from them.

Columns are numpy and Arrow arrays of equal length, never one Python object a row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from syncd.format.gather import Gather
from syncd.model import Algorithm

Digests = NDArray[np.bytes_]
"""dtype ``S<width>``, compared as bytes. Since all widths are equal, numpy's NUL padding is harmless."""
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
_WORD: Final = 8
Entries = Any
"""``pyarrow.LargeStringArray``"""


@dataclass(frozen=True)
class Rows:
    """``n`` rows: digest, entry, label, and a flag for removals. Sorted by (digest, entry) if stated."""

    algorithm: Algorithm
    digests: Digests
    entries: Entries
    codes: NDArray[np.int32]
    """indices into ``labels``"""
    labels: tuple[str, ...]
    removed: Mask

    def __len__(self) -> int:
        return len(self.digests)

    def __repr__(self) -> str:
        return f"Rows({self.algorithm}, {len(self)} rows)"

    @classmethod
    def empty(cls, algorithm: Algorithm) -> Self:
        """Return no rows. Those of an unknown algorithm have width 1, until joined with rows of another width."""
        return cls.build(algorithm, [], [], [])

    @property
    def width(self) -> int:
        """Bytes of one digest; meaningless if there are no rows."""
        return self.digests.dtype.itemsize

    @classmethod
    def build(
        cls,
        algorithm: Algorithm,
        digests: Sequence[bytes],
        entries: Sequence[str],
        labels: Sequence[str],
        removed: Sequence[bool] | None = None,
    ) -> Self:
        """Make a small number of rows from Python values, in the order given."""
        dictionary = tuple(sorted(set(labels)))
        code = {label: number for number, label in enumerate(dictionary)}
        return cls(
            algorithm,
            np.frombuffer(b"".join(digests), dtype=f"S{len(digests[0]) if digests else algorithm.known_width or 1}"),
            pa.array(entries, pa.large_utf8()),
            np.array([code[label] for label in labels], dtype=np.int32),
            dictionary,
            np.zeros(len(digests), bool) if removed is None else np.array(removed, dtype=bool),
        )

    def take(self, index: Index | Mask) -> Self:
        """Return the rows at ``index`` (positions or a mask), in that order."""
        some = Gather(np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64, copy=False))
        return type(self)(
            self.algorithm,
            some.values(self.digests),
            some.entries(self.entries),
            some.values(self.codes),
            self.labels,
            some.values(self.removed),
        )

    def slice(self, start: int, stop: int) -> Self:
        """Return rows ``start`` to ``stop``, without a copy."""
        return type(self)(
            self.algorithm,
            self.digests[start:stop],
            self.entries.slice(start, max(0, min(stop, len(self)) - start)),
            self.codes[start:stop],
            self.labels,
            self.removed[start:stop],
        )

    def as_removals(self) -> Self:
        """Return removals of the same entries; they have the label ''."""
        count = len(self)
        zeros = np.zeros(count, np.int32)
        return type(self)(self.algorithm, self.digests, self.entries, zeros, ("",), np.ones(count, bool))

    def label_counts(self, mask: Mask | None = None) -> dict[str, int]:
        """Count the rows (in ``mask``) by label."""
        codes = self.codes if mask is None else self.codes[mask]
        counts = np.bincount(codes, minlength=len(self.labels))
        return {label: int(count) for label, count in zip(self.labels, counts, strict=True) if count}

    def same_labels(self, other: "Rows") -> Mask:
        """Compare labels row by row; True if equal."""
        known = {label: code for code, label in enumerate(other.labels)}
        translate = np.array([known.get(label, -1) for label in self.labels], dtype=np.int32)
        if not len(self):
            return np.zeros(0, bool)
        return np.asarray(translate[self.codes] == other.codes)


def as_digests(digests: Iterable[bytes]) -> Digests:
    """Return digests of one width as a sorted array."""
    some = sorted(digests)
    return np.frombuffer(b"".join(some), dtype=f"S{len(some[0])}") if some else np.zeros(0, "S1")


def concatenate(parts: Sequence[Rows]) -> Rows:
    """Join rows. ``parts`` has at least one member, and all are of one algorithm."""
    labels = tuple(sorted({label for part in parts for label in part.labels}))
    code = {label: number for number, label in enumerate(labels)}
    codes = [
        np.array([code[label] for label in part.labels], dtype=np.int32)[part.codes] if len(part) else part.codes
        for part in parts
    ]
    return Rows(
        parts[0].algorithm,
        np.concatenate([part.digests for part in parts]),
        pa.concat_arrays([part.entries for part in parts]),
        np.concatenate(codes),
        labels,
        np.concatenate([part.removed for part in parts]),
    )


def prefixes(digests: Digests) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest, zero-padded, as numbers that sort like the bytes."""
    width = digests.dtype.itemsize
    table = np.ascontiguousarray(digests).view(np.uint8).reshape(-1, width)
    if width < _WORD:
        table = np.pad(table, ((0, 0), (0, _WORD - width)))
    return np.ascontiguousarray(table[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def sort_order(rows: Rows) -> Index:
    """Return the positions that sort ``rows`` by (digest, entry), stably."""
    prefix = prefixes(rows.digests)
    order = np.argsort(prefix, kind="stable").astype(np.int64)
    ranked = prefix[order]
    same = np.zeros(len(rows) + 1, bool)
    np.equal(ranked[1:], ranked[:-1], out=same[1:-1])
    tied = np.flatnonzero(same[1:] | same[:-1])
    if len(tied):  # equal prefixes are nearly always equal digests: sort these few rows by the whole key
        some = order[tied]
        columns = {"digest": _fixed_binary(rows.digests[some]), "entry": rows.entries.take(pa.array(some))}
        keys = pa.table({**columns, "position": pa.array(some)})  # the position makes it stable
        ranks = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
        order[tied] = some[ranks.to_numpy()]
    return order


def _fixed_binary(digests: Digests) -> Any:
    width = digests.dtype.itemsize
    buffer = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(digests), [None, buffer])


def repeats(digests: Digests, entries: Entries) -> Index:
    """Return the positions of rows that do not sort strictly after the row before: duplicates or disorder."""
    if len(digests) < 2:  # noqa: PLR2004 - two rows make a pair
        return np.zeros(0, np.int64)
    wrong = digests[1:] < digests[:-1]
    equal = np.flatnonzero(digests[1:] == digests[:-1])
    if len(equal):
        before, after = entries.take(pa.array(equal)), entries.take(pa.array(equal + 1))
        wrong[equal] = ~np.asarray(pc.less(before, after))
    return np.flatnonzero(wrong) + 1


def equal_entries(left: Entries, right: Entries) -> Mask:
    """Compare entries row by row; True if equal."""
    return np.asarray(pc.equal(left, right), dtype=bool)


def less_entries(left: Entries, right: Entries) -> Mask:
    """Compare entries row by row; True if the left one sorts before the right one, as UTF-8 bytes."""
    return np.asarray(pc.less(left, right), dtype=bool)
