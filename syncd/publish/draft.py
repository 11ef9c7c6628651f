"""A list's next delta: a batch compared with the version in force, and written as segments in staging."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from syncd.errors import StoreError, UsageError
from syncd.feed.snapshot import Snapshot
from syncd.format.batch import Batch, Changes, Removals, WholeList
from syncd.format.delta import difference, drop_empty, end_state_after, whole_state
from syncd.format.manifest import EndState, SegmentRef
from syncd.format.rows import Rows, concatenate, repeats, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.model import KNOWN_ALGORITHMS, Algorithm, Counts, ListName
from syncd.publish.change import ListChange
from syncd.units import count


class ListDraft:
    """The change that a `Batch` makes to the version in force. ``written``: new segments to install."""

    def __init__(self, staging: Path, current: Snapshot | None) -> None:
        self._staging, self._current = staging, current
        self._deltas: dict[Algorithm, Rows] = {}
        self._whole: Mapping[Algorithm, Segment] | None = None
        self.written: list[tuple[Path, SegmentRef]] = []
        self.needless = 0

    def apply(self, batch: Batch) -> None:
        """Compare a batch with the version in force. Raises `UsageError`."""
        match batch:
            case WholeList(segments=segments):
                self._replace(segments)
            case Changes(add=add, remove=remove):
                self._change(add, self._resolve(remove))

    def _replace(self, segments: Mapping[Algorithm, Segment]) -> None:
        if not segments:
            raise UsageError("the whole list would be empty", hint="to empty a list, remove its entries")
        self._whole = segments
        for algorithm in sorted({*segments, *self._current.stacks}) if self._current else ():
            given = [segments[algorithm]] if algorithm in segments else []
            self._deltas[algorithm] = difference(self._stack(algorithm), Stack(algorithm, given))

    def _change(self, adds: Mapping[Algorithm, Rows], removals: Mapping[Algorithm, Rows]) -> None:
        for algorithm in sorted({*adds, *removals}):
            parts = [rows[algorithm] for rows in (adds, removals) if algorithm in rows]
            self._deltas[algorithm] = self._needed(algorithm, _joined(parts))

    def _stack(self, algorithm: Algorithm) -> Stack:
        stacks = self._current.stacks if self._current else {}
        return stacks.get(algorithm) or Stack(algorithm, [])

    def _resolve(self, removals: Removals) -> dict[Algorithm, Rows]:
        """Return rows that remove: those named exactly, all entries of a digest, and entries under any algorithm."""
        rows: dict[Algorithm, Rows] = {}
        unmatched = set(removals.entries)
        held = self._current.stacks if self._current else {}
        for algorithm in sorted({*KNOWN_ALGORITHMS, *held}):  # an entry may be under any of them
            stack = self._stack(algorithm)
            parts = [removals.exact[algorithm]] if algorithm in removals.exact else []
            if algorithm in removals.digests:
                named = removals.digests[algorithm]
                found = stack.rows_of(named)
                self.needless += len(named) - len(np.unique(found.digests))
                parts.append(found.as_removals())
            under = removals.entries_under.get(algorithm, ())
            if removals.entries or under:
                found = stack.rows_with_entries([*removals.entries, *under])
                matched = set(found.entries.to_pylist())
                self.needless += len(set(under) - matched)
                unmatched -= matched
                parts.append(found.as_removals())
            if parts:
                rows[algorithm] = _unique(concatenate(parts))
        self.needless += len(unmatched)
        return rows

    def _needed(self, algorithm: Algorithm, rows: Rows) -> Rows:
        held = self._stack(algorithm).resolve(rows)
        needed = held.present == rows.removed
        same = rows.take(held.present).same_labels(held.current)
        needed[held.present] |= ~rows.removed[held.present] & ~same
        self.needless += int((~needed).sum())
        return rows.take(needed)

    def change(self, name: ListName) -> ListChange | None:
        """Write the delta's segments and return the change; None if nothing changes."""
        if self._current is None:
            return self._without_delta(name, self._whole if self._whole is not None else self._bases())
        states = dict(self._current.manifest.end_state)
        counts: dict[Algorithm, Counts] = {}
        segments: list[SegmentRef] = []
        for algorithm, rows in self._deltas.items():
            if len(rows):
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
            if len(rows):
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


def _joined(parts: list[Rows]) -> Rows:
    rows = concatenate(parts)
    rows = rows.take(sort_order(rows))
    both = repeats(rows.digests, rows.entries)
    if len(both):
        raise UsageError(
            f"{count(len(both), f'{rows.algorithm} row')} both added and removed",
            hint="add or remove each entry, not both; nothing was published",
        )
    return rows


def _unique(rows: Rows) -> Rows:
    rows = rows.take(sort_order(rows))
    keep = repeats(rows.digests, rows.entries)
    mask = rows.removed.copy()
    mask[keep] = False
    return rows.take(mask)
