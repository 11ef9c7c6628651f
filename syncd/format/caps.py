"""Limits on the segments that a reader accepts, even if more is signed."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Caps:
    """The largest segment that a reader accepts."""

    rows: int = 500_000_000
    length: int = 64 << 30
    """bytes"""
    labels: int = 1 << 16
    """distinct labels, which readers hold in memory"""
    label_bytes: int = 64 << 20
    """total bytes of the distinct labels"""


DEFAULT_CAPS: Final = Caps()
NO_CAPS: Final = Caps(rows=1 << 62, length=1 << 62, labels=1 << 62)
"""For segments that were already accepted."""
