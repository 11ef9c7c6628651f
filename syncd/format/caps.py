"""How much of a segment a reader accepts, whatever is signed."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Caps:
    """What a reader accepts of one segment, at most."""

    rows: int = 500_000_000
    length: int = 64 << 30
    """bytes"""
    labels: int = 1 << 16
    """different labels: readers hold these in memory"""
    label_bytes: int = 64 << 20
    """bytes of all different labels together"""


DEFAULT_CAPS: Final = Caps()
NO_CAPS: Final = Caps(rows=1 << 62, length=1 << 62, labels=1 << 62)
"""For segments that were accepted before."""
