"""Finding one digest among evenly spread digests, as those of a cryptographic algorithm are.

Bisecting a large file waits for memory at each step. If digests are spread evenly, the row of a digest follows from
its value, except for a drift that changes slowly along the file. The drift of a region is measured when first needed,
and remembered.
"""

import mmap
from array import array
from collections.abc import Callable
from struct import Struct
from typing import Final

ABSENT: Final = -1
UNKNOWN: Final = -2
GUESSABLE: Final = range(1 << 16, 1 << 29)
"""Numbers of rows for which guessing is faster than bisecting and drifts fit in 32 bits."""

_AROUND: Final = 16
"""rows examined on each side of a guess"""
_REGION_ROWS: Final = 7
"""log2 of the rows in a region, which share one remembered drift; smaller regions give better guesses"""
_MAX_REGIONS: Final = 18
"""log2 of the number of regions: at most 1 MB in all"""
_HEAD: Final = Struct(">I")

Guess = Callable[[bytes], int]
"""Returns the row of a digest; `ABSENT`; or `UNKNOWN` if the rows nearby do not decide it, or several rows have it."""


def make_guess(mapped: mmap.mmap, base: int, rows: int, width: int, measured: "array[int] | None" = None) -> Guess:
    """Return a function that guesses rows in the ``rows`` sorted digests of ``width`` bytes at ``base`` in the map.

    It is a single closure, because calls and attribute access would cost as much as the search itself. It does not
    refer to itself: such a cycle would keep the map open until garbage is collected. ``measured``: drifts to use as
    they are, without measuring again.
    """
    head, size, last, end = _HEAD.unpack_from, 2 * _AROUND * width, -width, base + rows * width
    before, highest = base - _AROUND * width, end - size
    regions = min(rows.bit_length() - _REGION_ROWS, _MAX_REGIONS)
    shift = 32 - regions
    drifts = array("i", bytes(4 << regions)) if measured is None else measured

    def guess(digest: bytes) -> int:
        (key,) = head(digest)
        even, region = key * rows >> 32, key >> shift
        at = even + drifts[region]
        there = before + at * width
        near = mapped[there : there + size]
        found = near.find(digest)
        if not base <= there <= highest:
            return UNKNOWN
        if found > 0 and not found % width:
            after = found + width
            alone = after < size and near[after : after + width] != digest
            return at - _AROUND + found // width if alone else UNKNOWN
        if found < 0 and near[:width] < digest < near[last:]:
            return ABSENT
        if measured is not None:
            return UNKNOWN
        drifts[region] = _measured(digest, even, mapped, base, rows, width) - even
        return make_guess(mapped, base, rows, width, drifts)(digest)

    return guess


def _measured(digest: bytes, at: int, mapped: mmap.mmap, base: int, rows: int, width: int) -> int:
    """Estimate the row of a digest: each of two looks at the row guessed so far corrects the guess."""
    key = int.from_bytes(digest[:8], "big")
    for _ in range(2):
        there = base + at * width
        at += (key - int.from_bytes(mapped[there : there + 8], "big")) * rows >> 64
    return at
