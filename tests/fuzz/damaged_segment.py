"""Segments of 300 rows that were damaged after they were proved: look-ups open them without proving them again."""

from typing import Final

from fuzz.scratch import written
from syncd.format.manifest import SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.model import Algorithm

_ROWS: Final = 300


def one(content: bytes) -> None:
    """Look up every digest of a segment, one by one and all together."""
    ref = SegmentRef(
        sha256="0" * 64, length=len(content), algorithm=Algorithm.SHA256, kind="base", rows=_ROWS, removals=0
    )
    segment = Segment.open(written("damaged.arrow", content), ref)
    stack = Stack(ref.algorithm, [segment])
    stack.contains(segment.digests)
    for digest in segment.digests:
        stack.entries_of(digest.ljust(segment.width, b"\0"))
