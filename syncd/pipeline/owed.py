"""Folding the deltas in ``owed`` so that they stay few. This is rare, and costs time for the withheld rows only."""

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
    """Runs of ``owed`` deltas, each with the segment that replaces it, or None if no row is left."""

    folded: tuple[tuple[tuple[SegmentRef, ...], SegmentRef | None], ...]

    def __bool__(self) -> bool:
        return bool(self.folded)

    def stack_of(self, owed: tuple[SegmentRef, ...]) -> tuple[SegmentRef, ...] | None:
        """Return ``owed`` with each run replaced by its fold; None if a run is no longer there. Pure.

        Deltas that were added on top in the meantime stay. The order of segments of different algorithms is free.
        """
        result = list(owed)
        for run, output in self.folded:
            if not set(run) <= set(result):
                return None
            at = result.index(run[0])
            result = [ref for ref in result if ref not in run]
            if output is not None:
                result.insert(at, output)
        return tuple(result)


def fold_owed(state: ListState, scratch: Path) -> FoldedOwed:
    """Fold the runs that are due and install the results in the source's folder. Needs no lock."""
    folded = []
    owed = state.origin.owed if state.origin else ()
    for algorithm in dict.fromkeys(ref.algorithm for ref in owed):
        refs = [ref for ref in owed if ref.algorithm == algorithm]
        run = _due(refs)
        if run:
            rows = merge_deltas(algorithm, [Segment.open(state.path(ref), ref) for ref in run])
            if len(run) == len(refs):  # no other delta lies below: rows that the head already has are superfluous
                rows = rows.take(~_is_met(rows, state.head_basis.stacks.get(algorithm)))
            output = write_segment(scratch / f"owed-{algorithm}", algorithm, "delta", [rows])
            if output is not None:
                state.source.store.adopt(
                    scratch / f"owed-{algorithm}", layout.segment_path(state.own_name, output.sha256)
                )
            folded.append((run, output))
    return FoldedOwed(tuple(folded))


def _due(refs: Sequence[SegmentRef]) -> tuple[SegmentRef, ...]:
    """Return the run to fold, chosen as for a stack whose base is the oldest delta."""
    run = run_to_fold([refs[0].model_copy(update={"kind": "base"}), *refs[1:]])
    return tuple(refs[len(refs) - len(run) :]) if run else ()


def _is_met(rows: Rows, head: Stack | None) -> Mask:
    """Mark the rows that the head already agrees with."""
    if head is None:
        return rows.removed.copy()
    held = head.resolve(rows)
    met = ~held.present & rows.removed
    both = held.present & ~rows.removed
    met[both] = rows.take(both).same_labels(held.current.take(both[held.present]))
    return np.asarray(met)
