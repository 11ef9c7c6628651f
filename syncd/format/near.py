"""Near look-ups in one stack: digests in force within a Hamming distance, exact to the bound."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from syncd.format.hamming import ChunkTable, Pairs, near_rows
from syncd.format.lazy import lazy
from syncd.format.rows import Digests
from syncd.format.stack import Stack

_WORTH_A_TABLE: Final = 1 << 14
"""Digests in the deltas from which a table in memory, of 50 bytes a digest, is faster than comparing all."""


class NearSearch:
    """A search in a stack. ``table``: the near index of its base; None: all rows of the base are compared."""

    def __init__(self, stack: Stack, table: ChunkTable | None = None) -> None:
        self._stack, self._table = stack, table

    @property
    def is_indexed(self) -> bool:
        """True if the base is searched by its index."""
        return self._table is not None

    def near(self, queries: Digests, distance: int) -> list[dict[bytes, int]]:
        """Return for each query the listed digests within ``distance``, each with its own, nearest first.

        ``queries`` have the width of the list's digests. A digest whose entries were all removed by deltas may be among
        the results: the entries in force decide, see `Stack.entries_of`.
        """
        found: list[dict[bytes, int]] = [{} for _ in range(len(queries))]
        if self._stack.base is not None:
            base = self._stack.base.digests
            _collect(
                found, base, self._table.near(queries, distance) if self._table else near_rows(base, queries, distance)
            )
        if len(self._added):
            table = self._added_table
            pairs = table.near(queries, distance) if table else near_rows(self._added, queries, distance)
            _collect(found, self._added, pairs)
        return [dict(sorted(some.items(), key=lambda item: (item[1], item[0]))) for some in found]

    @lazy
    def _added(self) -> Digests:
        """The digests that deltas add, sorted, each once."""
        overlay = self._stack.overlay
        digests = overlay.digests[~overlay.removed]
        new = np.ones(len(digests), bool)
        new[1:] = digests[1:] != digests[:-1]
        return np.ascontiguousarray(digests[new])

    @lazy
    def _added_table(self) -> ChunkTable | None:
        return ChunkTable.in_memory(self._added) if len(self._added) >= _WORTH_A_TABLE else None


def _collect(found: list[dict[bytes, int]], digests: Digests, pairs: Pairs) -> None:
    width = digests.dtype.itemsize
    content = _bytes_of(digests, pairs[1])
    for place, (number, apart) in enumerate(zip(pairs[0].tolist(), pairs[2].tolist(), strict=True)):
        found[number][content[place * width : (place + 1) * width]] = apart


def _bytes_of(digests: Digests, rows: NDArray[np.int64]) -> bytes:
    return digests.take(rows).tobytes()  # not by item: numpy strips zeros at the end
