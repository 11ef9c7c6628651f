"""A list's next delta: a batch compared with the version in force, and written as segments in staging."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from syncd.errors import StoreError, UsageError
from syncd.feed.snapshot import Snapshot
from syncd.format.batch import Batch, WholeList
from syncd.format.changes import delta_of
from syncd.format.delta import drop_empty, end_state_after, whole_state
from syncd.format.manifest import EndState, SegmentRef
from syncd.format.rows import Rows
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import Algorithm, Counts, ListName
from syncd.publish.change import ListChange


class ListDraft:
    """The change that a `Batch` makes to the version in force. ``written``: new segments to install."""

    def __init__(self, staging: Path, current: Snapshot | None) -> None:
        self._staging, self._current = staging, current
        self._deltas: Mapping[Algorithm, Rows] = {}
        self._whole: Mapping[Algorithm, Segment] | None = None
        self.written: list[tuple[Path, SegmentRef]] = []
        self.needless = 0

    def apply(self, batch: Batch) -> None:
        """Compare a batch with the version in force. Raises `UsageError`."""
        if isinstance(batch, WholeList):
            if not batch.segments:
                raise UsageError("the whole list would be empty", hint="to empty a list, remove its entries")
            self._whole = batch.segments
            if self._current is None:
                return
        delta = delta_of(batch, self._current.stacks if self._current else {})
        self._deltas, self.needless = delta.rows, delta.needless

    def _stack(self, algorithm: Algorithm) -> Stack:
        stacks = self._current.stacks if self._current else {}
        return stacks.get(algorithm) or Stack(algorithm, [])

    def change(self, name: ListName) -> ListChange | None:
        """Write the delta's segments and return the change; None if nothing changes."""
        if self._current is None:
            return self._without_delta(name, self._whole if self._whole is not None else self._bases())
        states = dict(self._current.manifest.end_state)
        counts: dict[Algorithm, Counts] = {}
        segments: list[SegmentRef] = []
        for algorithm, rows in self._deltas.items():
            effect = self._stack(algorithm).effect(rows)
            states[algorithm] = end_state_after(states.get(algorithm), effect)
            counts[algorithm] = effect.counts
            segments.append(self._write(algorithm, "delta", rows))
        states = drop_empty(states)
        if self._whole is not None and states != _states(self._whole)[0]:
            self.written.clear()  # the signed end state had drifted from the rows: publish the list itself
            return self._without_delta(name, self._whole)
        if not segments:
            return None
        return ListChange(name, tuple(segments), counts, states, (*self._current.manifest.stack, *segments))

    def _bases(self) -> dict[Algorithm, Segment]:
        """Write the rows to add as the bases of a new list."""
        bases = {}
        for algorithm, rows in self._deltas.items():
            ref = self._write(algorithm, "base", rows)
            bases[algorithm] = Segment.open(self.written[-1][0], ref)
        self.written.clear()
        return bases

    def _without_delta(self, name: ListName, whole: Mapping[Algorithm, Segment]) -> ListChange | None:
        """Return a version that no delta leads to: the first one, or one after a drift."""
        self.written += [(segment.path, segment.ref) for segment in whole.values()]
        if not whole:
            return None
        states, counts = _states(whole)
        return ListChange(
            name, (), counts, states, tuple(segment.ref for segment in whole.values()), whole=self._current is not None
        )

    def _write(self, algorithm: Algorithm, kind: Literal["base", "delta"], rows: Rows) -> SegmentRef:
        path = self._staging / f"{algorithm}.{kind}"
        ref = write_segment(path, algorithm, kind, [rows])
        if ref is None:
            raise StoreError(f"no rows to write at {path}")
        self.written.append((path, ref))
        return ref


def _states(whole: Mapping[Algorithm, Segment]) -> tuple[dict[Algorithm, EndState], dict[Algorithm, Counts]]:
    """Compute end states and counts from the rows themselves."""
    found = {algorithm: whole_state(Stack(algorithm, [segment])) for algorithm, segment in sorted(whole.items())}
    states = {algorithm: state for algorithm, (state, _) in found.items()}
    return states, {algorithm: count for algorithm, (_, count) in found.items()}
