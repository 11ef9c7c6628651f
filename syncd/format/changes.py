"""The rows by which a batch differs from the list that it goes into. Pure, but it reads mapped files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from syncd.errors import UsageError
from syncd.format.batch import Batch, Changes, Removals, WholeList
from syncd.format.delta import difference
from syncd.format.entry_index import rows_by_reading
from syncd.format.rows import Rows, concatenate, repeats, sort_order
from syncd.format.search import among
from syncd.format.segment import RowProgress, Segment, ignore_progress
from syncd.format.stack import EntrySearch, Resolved, Stack
from syncd.model import KNOWN_ALGORITHMS, Algorithm
from syncd.units import count


@dataclass(frozen=True)
class BatchDelta:
    """The delta of a batch over the stacks of a list."""

    rows: Mapping[Algorithm, Rows] = field(default_factory=dict)
    """sorted, each (digest, entry) once; algorithms without a change are left out"""
    needless: int = 0
    """rows of the batch that change nothing"""


def delta_of(
    batch: Batch,
    stacks: Mapping[Algorithm, Stack],
    read: RowProgress = ignore_progress,
    search: EntrySearch = rows_by_reading,
) -> BatchDelta:
    """Compare a batch with the list in force, which is ``stacks``. Raises `UsageError` if it contradicts itself.

    ``read`` reports progress over the rows of both, if all of them are compared. ``search`` finds rows by entry.
    """
    match batch:
        case WholeList(segments=segments):
            return BatchDelta(_without_empty(_replaced(segments, stacks, read)))
        case Changes():
            resolving = _Resolving(stacks, search)
            rows = resolving.delta(batch)
            return BatchDelta(_without_empty(rows), resolving.needless)


def _without_empty(rows: Mapping[Algorithm, Rows]) -> dict[Algorithm, Rows]:
    return {algorithm: some for algorithm, some in rows.items() if len(some)}


def _replaced(
    segments: Mapping[Algorithm, Segment], stacks: Mapping[Algorithm, Stack], read: RowProgress
) -> dict[Algorithm, Rows]:
    found = {}
    for algorithm in sorted({*segments, *stacks}):
        given = [segments[algorithm]] if algorithm in segments else []
        old = stacks.get(algorithm) or Stack(algorithm, [])
        found[algorithm] = difference(old, Stack(algorithm, given), read)
    return found


class _Resolving:
    """Looks the rows of one batch of changes up in the list."""

    def __init__(self, stacks: Mapping[Algorithm, Stack], search: EntrySearch) -> None:
        self._stacks, self._search = stacks, search
        self.needless = 0

    def delta(self, changes: Changes) -> dict[Algorithm, Rows]:
        """Return the rows that change the list, by algorithm."""
        removals = self._removals(changes.remove)
        replaced = self._replaced(changes)
        rows = {}
        for algorithm in sorted({*changes.add, *removals, *replaced}):
            parts = [found[algorithm] for found in (changes.add, removals) if algorithm in found]
            needed = self._needed(algorithm, _joined(parts)) if parts else Rows.empty(algorithm)
            gone = replaced.get(algorithm)
            rows[algorithm] = needed if gone is None else _unique(concatenate([needed, gone]) if len(needed) else gone)
        return rows

    def _stack(self, algorithm: Algorithm) -> Stack:
        return self._stacks.get(algorithm) or Stack(algorithm, [])

    def _replaced(self, changes: Changes) -> dict[Algorithm, Rows]:
        """Return removals of the rows of replaced entries that are not stated again."""
        rows = {}
        for algorithm, stack in self._stacks.items() if len(changes.replaced) else ():
            found = stack.rows_with_entries(changes.replaced, self._search)
            rows[algorithm] = found.take(~among(changes.add.get(algorithm), found)).as_removals()
        return rows

    def _removals(self, removals: Removals) -> dict[Algorithm, Rows]:
        """Return rows that remove: those named exactly, all entries of a digest, and entries under any algorithm."""
        rows: dict[Algorithm, Rows] = {}
        unmatched = set(removals.entries)
        for algorithm in sorted({*KNOWN_ALGORITHMS, *self._stacks}):  # an entry may be under any of them
            stack = self._stack(algorithm)
            parts = [removals.exact[algorithm]] if algorithm in removals.exact else []
            if algorithm in removals.digests:
                named = removals.digests[algorithm]
                found = stack.rows_of(named)
                self.needless += len(named) - len(np.unique(found.digests))
                parts.append(found.as_removals())
            under = removals.entries_under.get(algorithm, ())
            if removals.entries or under:
                found = stack.rows_with_entries([*removals.entries, *under], self._search)
                matched = set(found.entries.to_pylist())
                self.needless += len(set(under) - matched)
                unmatched -= matched
                parts.append(found.as_removals())
            if parts:
                rows[algorithm] = _unique(concatenate(parts))
        self.needless += len(unmatched)
        return rows

    def _needed(self, algorithm: Algorithm, rows: Rows) -> Rows:
        held: Resolved = self._stack(algorithm).resolve(rows)
        needed = held.present == rows.removed
        same = rows.take(held.present).same_labels(held.current)
        needed[held.present] |= ~rows.removed[held.present] & ~same
        self.needless += int((~needed).sum())
        return rows.take(needed)


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
    keep = np.ones(len(rows), bool)
    keep[repeats(rows.digests, rows.entries)] = False
    return rows.take(keep)
