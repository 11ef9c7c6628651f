"""Folding what the head lacks of the origin, so that it stays short: the work is that of the rows withheld, seldom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from syncd.feed import layout
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Mask, Rows
from syncd.format.segment import Segment
from syncd.format.stack import Stack, merge_deltas
from syncd.format.writer import write_segment
from syncd.pipeline.heads import ListState
from syncd.publish.compact import run_to_fold


@dataclass(frozen=True)
class FoldedOwed:
    """Runs of deltas that are owed, and what they were folded into; None: no row was left."""

    folded: tuple[tuple[tuple[SegmentRef, ...], SegmentRef | None], ...]

    def __bool__(self) -> bool:
        return bool(self.folded)

    def stack_of(self, owed: tuple[SegmentRef, ...]) -> tuple[SegmentRef, ...] | None:
        """Return ``owed`` with the folds in place of their runs; None if a run is no longer there. Pure.

        Deltas that came on top since stay there. Algorithms do not mix, so their order among one another is free.
        """
        found = list(owed)
        for run, output in self.folded:
            if not set(run) <= set(found):
                return None
            at = found.index(run[0])
            found = [ref for ref in found if ref not in run]
            if output is not None:
                found.insert(at, output)
        return tuple(found)


def fold_owed(state: ListState, scratch: Path) -> FoldedOwed:
    """Fold what is due, and put the results into the source's folder. Needs no lock."""
    folded = []
    owed = state.origin.owed if state.origin else ()
    for algorithm in dict.fromkeys(ref.algorithm for ref in owed):
        refs = [ref for ref in owed if ref.algorithm == algorithm]
        run = _due(refs)
        if run:
            rows = merge_deltas(algorithm, [Segment.open(state.path(ref), ref) for ref in run])
            if len(run) == len(refs):  # nothing lies below: rows that the head has already say nothing
                rows = rows.take(~_is_met(rows, state.head_basis.stacks.get(algorithm)))
            output = write_segment(scratch / f"owed-{algorithm}", algorithm, "delta", [rows])
            if output is not None:
                state.source.store.adopt(
                    scratch / f"owed-{algorithm}", layout.segment_path(state.own_name, output.sha256)
                )
            folded.append((run, output))
    return FoldedOwed(tuple(folded))


def _due(refs: Sequence[SegmentRef]) -> tuple[SegmentRef, ...]:
    """The run to fold, as of a stack: the oldest delta stands for the base."""
    run = run_to_fold([refs[0].model_copy(update={"kind": "base"}), *refs[1:]])
    return tuple(refs[len(refs) - len(run) :]) if run else ()


def _is_met(rows: Rows, head: Stack | None) -> Mask:
    """Which rows the head holds just so already."""
    if head is None:
        return rows.removed.copy()
    held = head.resolve(rows)
    met = ~held.present & rows.removed
    both = held.present & ~rows.removed
    met[both] = rows.take(both).same_labels(held.current.take(both[held.present]))
    return np.asarray(met)
