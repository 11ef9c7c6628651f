"""Finding one digest where digests are spread evenly, as those of a cryptographic algorithm are.

A halving of a large file waits for memory at each step. Where digests are spread evenly, the place of one follows from
its value, but for a drift that changes slowly along the file. It is measured where it is first needed, and remembered.
"""

import mmap
from array import array
from collections.abc import Callable
from struct import Struct
from typing import Final

ABSENT: Final = -1
UNKNOWN: Final = -2
GUESSABLE: Final = range(1 << 16, 1 << 29)
"""Numbers of rows: from where guessing is quicker than halving, up to where drifts take more than 32 bits."""

_AROUND: Final = 16
"""rows on each side of a guess that are looked at"""
_REGION_ROWS: Final = 7
"""bits of the number of rows that share a region, for which one drift is remembered: fewer stray less from it"""
_MAX_REGIONS: Final = 18
"""bits of the number of regions: 1 MB in all at the most"""
_HEAD: Final = Struct(">I")

Guess = Callable[[bytes], int]
"""The row of a digest, or `ABSENT`; `UNKNOWN` where a look nearby does not tell, or there are several."""


def make_guess(mapped: mmap.mmap, base: int, rows: int, width: int, measured: "array[int] | None" = None) -> Guess:
    """Return what guesses in the ``rows`` sorted digests of ``width`` bytes that begin at ``base`` in the map.

    One function that holds all it needs: calls and attributes would cost as much as the search itself. But not itself,
    or the map would stay until a cycle of garbage is noticed. ``measured``: drifts that are as good as they get.
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
    """About where a digest lies: a look at the row guessed so far tells how far off that is, the second time better."""
    key = int.from_bytes(digest[:8], "big")
    for _ in range(2):
        there = base + at * width
        at += (key - int.from_bytes(mapped[there : there + 8], "big")) * rows >> 64
    return at
