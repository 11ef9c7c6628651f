"""Folding: several segments of a stack into one that means the same.

Deterministic: whoever holds the inputs makes the same bytes, and need not download the output (`Fold` in a manifest).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from syncd.format.manifest import SegmentRef
from syncd.format.rows import Rows
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment


def fold(inputs: Sequence[Segment], kind: str, path: Path) -> SegmentRef | None:
    """Write the fold of ``inputs`` (oldest first) to ``path``; None, and no file, where no row is left.

    A base holds what is in force, so its inputs are a stack from its bottom; a delta keeps the removals.
    """
    stack = Stack(inputs[0].algorithm, inputs)
    if kind == "base":
        return write_segment(path, stack.algorithm, "base", stack.effective())
    return write_segment(path, stack.algorithm, "delta", _slices(stack.overlay))


def _slices(rows: Rows, size: int = 1 << 18) -> Iterable[Rows]:
    return (rows.slice(start, start + size) for start in range(0, len(rows), size))
