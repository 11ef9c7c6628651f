"""Stacks: a base and the deltas over it, of one algorithm. The newest row for a (digest, entry) wins.

The cost is the size of the change times the logarithm of the size of the list. Only `Stack.effective`, `Stack.totals`,
and `Stack.rows_with_entries` without an index, read the whole list, in order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from syncd.errors import SegmentError, SegmentFault
from syncd.format.checksum import Checksum, checksum
from syncd.format.entry_index import as_entries, rows_by_reading
from syncd.format.lazy import lazy
from syncd.format.rows import Digests, Entries, Mask, Rows, concatenate, repeats, sort_order
from syncd.format.search import DigestSearch
from syncd.format.segment import Lookup, RowProgress, Segment, ignore_progress
from syncd.model import Algorithm, Counts

EntrySearch = Callable[[Segment, Entries], Rows]
"""Returns the rows of a segment that have one of some entries, removals too."""

_CHUNK: Final = 1 << 18
_TOUCHED_ROWS: Final = 1 << 17
"""Delta rows up to which single look-ups check a set first (about 120 bytes a row). Beyond, they search each delta."""


@dataclass(frozen=True)
class Resolved:
    """The result of looking up (digest, entry) pairs in a stack."""

    present: Mask
    """for each pair, True if it is in force"""
    current: Rows
    """the rows in force, in the order of the present pairs"""


@dataclass(frozen=True)
class Effect:
    """The effect of a delta on a stack."""

    counts: Counts = field(default_factory=Counts)
    by_label: dict[str, Counts] = field(default_factory=dict)
    change: Checksum = field(default_factory=Checksum)
    """the amount to add to the checksum of the end state"""
    growth: dict[str, int] = field(default_factory=dict)
    """by label, the change of the number of entries in force"""


@dataclass(frozen=True)
class Totals:
    """The number of entries in force of each label, and their checksum."""

    by_label: Mapping[str, int]
    checksum: Checksum

    @property
    def rows(self) -> int:
        """The number of entries in force."""
        return sum(self.by_label.values())


class Stack:
    """Segments of one algorithm, oldest first. Raises `SegmentError` if their digests differ in width."""

    def __init__(self, algorithm: Algorithm, segments: Sequence[Segment]) -> None:
        self.algorithm, self.segments = algorithm, tuple(segments)
        for segment in self.segments[1:]:
            if segment.width != self.segments[0].width:
                raise _other_width(segment.path, segment.width, self)
        has_base = bool(self.segments) and self.segments[0].ref.kind == "base"
        self.base: Segment | None = self.segments[0] if has_base else None
        self.deltas: tuple[Segment, ...] = self.segments[1:] if has_base else self.segments

    def __repr__(self) -> str:
        return f"Stack({self.algorithm}, {len(self.segments)} segments)"

    @property
    def width(self) -> int | None:
        """Bytes of one digest, the same in all segments; None for an unknown algorithm without segments."""
        return self.segments[0].width if self.segments else self.algorithm.known_width

    @lazy
    def entries_of(self) -> Lookup:
        """The single look-up: returns the (entry, label) pairs in force that support one digest, sorted by entry."""
        held = _nothing if self.base is None else self.base.entries_of
        touched, deltas = self._touched, self.deltas

        def entries_of(digest: bytes) -> list[tuple[str, str]]:
            if touched is not None and digest not in touched:
                return held(digest)
            return sorted(supporting(deltas, digest, held(digest)).items())

        return entries_of

    @lazy
    def _touched(self) -> frozenset[bytes] | None:
        """The digests in the deltas, with which most look-ups are done. None if it would take too much memory."""
        if sum(len(segment) for segment in self.deltas) > _TOUCHED_ROWS:
            return None
        return frozenset().union(*(segment.named for segment in self.deltas))  # mostly cached

    def contains(self, digests: Digests) -> Mask:
        """The batch look-up: return True for each digest that an entry in force supports. Shape (n,) in and out."""
        present = np.zeros(len(digests), bool) if self.base is None else self.base.holds(digests)
        if self.deltas:
            search, supported = self._changed
            position, changed = search.find(digests)
            present[changed] = supported[position[changed]]
        return present

    @lazy
    def _changed(self) -> tuple[DigestSearch, Mask]:
        """A search in the digests of the deltas, and for each digest True if an entry still supports it."""
        rows = self.overlay
        first = np.ones(len(rows), bool)
        first[1:] = rows.digests[1:] != rows.digests[:-1]
        digests, group = rows.digests[first], np.cumsum(first) - 1
        added = np.bincount(group, weights=~rows.removed, minlength=len(digests)) > 0
        if self.base is not None:
            _, replaced = self.base.positions(rows.digests, rows.entries)
            start, stop = self.base.ranges(digests)
            left = (stop - start) - np.bincount(group, weights=replaced, minlength=len(digests))
            added |= left > 0
        return DigestSearch(digests), added

    @lazy
    def overlay(self) -> Rows:
        """All deltas as one: sorted, with the newest row of each (digest, entry), including removals."""
        return merge_deltas(self.algorithm, self.deltas)

    def resolve(self, rows: Rows) -> Resolved:
        """Look up the (digest, entry) of each row. O(k log n). Raises `SegmentError` for rows of another width."""
        if self.segments and len(rows) and rows.width != self.width:
            raise _other_width(self.segments[0].path, rows.width, self)
        present = np.zeros(len(rows), bool)
        waiting = np.arange(len(rows))
        parts, places = [], [waiting[:0]]
        for segment in reversed(self.segments):
            asked = rows if len(waiting) == len(rows) else rows.take(waiting)
            position, found = segment.positions(asked.digests, asked.entries)
            current = segment.take(position[found])
            kept = ~current.removed
            hits = waiting[found][kept]
            present[hits] = True
            if len(hits):
                parts.append(current.take(kept))
                places.append(hits)
            waiting = waiting[~found]
        order = np.argsort(np.concatenate(places), kind="stable")
        joined = concatenate(parts) if len(parts) > 1 else [*parts, rows.slice(0, 0)][0]
        return Resolved(present, joined.take(order))

    def effect(self, delta: Rows, resolved: Resolved | None = None) -> Effect:
        """Count the changes that the rows of ``delta`` make to this stack and its checksum. O(k log n).

        ``resolved``: the result of `resolve` for ``delta``, if the caller already has it.
        """
        resolved = resolved or self.resolve(delta)
        present, current = resolved.present, resolved.current
        adds = ~delta.removed
        same = np.zeros(len(delta), bool)
        same[present] = delta.take(present).same_labels(current)
        kinds = {
            "added": adds & ~present,
            "relabelled": adds & present & ~same,
            "unchanged": adds & present & same,
            "removed": ~adds & present,
            "absent": ~adds & ~present,
        }
        gone = (kinds["relabelled"] | kinds["removed"])[present]
        change = checksum(delta.take(kinds["added"] | kinds["relabelled"])) - checksum(current.take(gone))
        counts = Counts(**{kind: int(mask.sum()) for kind, mask in kinds.items()})
        growth = Counter(delta.label_counts(kinds["added"] | kinds["relabelled"]))
        growth.subtract(current.label_counts(gone))
        return Effect(
            counts,
            _by_label(delta, current, present, kinds),
            change,
            {label: count for label, count in growth.items() if count},
        )

    def effective(self, size: int = _CHUNK) -> Iterator[Rows]:
        """Yield the entries in force, sorted, about ``size`` rows at a time."""
        if self.base is None:
            rows = self.overlay.take(~self.overlay.removed)
            yield from (rows.slice(start, start + size) for start in range(0, len(rows), size))
            return
        position, found = self.base.positions(self.overlay.digests, self.overlay.entries)
        for start in range(0, len(self.base), size):
            stop = min(start + size, len(self.base))
            last = stop == len(self.base)
            low = np.searchsorted(position, start)
            high = len(position) if last else np.searchsorted(position, stop)
            chunk = self.base.rows(start, stop)
            if low == high:
                yield chunk
            else:
                changes = self.overlay.slice(int(low), int(high))
                yield _merge(chunk, changes, position[low:high] - start, found[low:high])

    def rows_of(self, digests: Digests) -> Rows:
        """Return every row in force of sorted, unique ``digests``. O(k log n)."""
        named: list[Rows] = []
        for segment in self.segments:
            ranges = zip(*segment.ranges(digests), strict=True)
            named += [segment.rows(int(start), int(stop)) for start, stop in ranges if start < stop]
        return self._in_force(named)

    def _in_force(self, named: Sequence[Rows]) -> Rows:
        """Return those rows in force whose (digest, entry) is in ``named``, sorted, each once."""
        rows = concatenate([Rows.empty(self.algorithm), *named])
        rows = rows.take(sort_order(rows))
        keep = np.ones(len(rows), bool)
        keep[repeats(rows.digests, rows.entries)] = False
        return self.resolve(rows.take(keep)).current

    def rows_with_entries(self, entries: Entries | Sequence[str], search: EntrySearch = rows_by_reading) -> Rows:
        """Return every row in force of these entries, sorted.

        ``search`` finds their rows in one segment; without an index it reads the whole list.
        """
        wanted = as_entries(entries)
        return self._in_force([search(segment, wanted) for segment in self.segments])

    def totals(self, read: RowProgress = ignore_progress) -> Totals:
        """Compute the totals from the rows in force. Reads the whole base once, in order.

        ``read`` reports progress over the rows of the base.
        """
        labels: Counter[str] = Counter()
        total = Checksum()
        for rows in self.base.chunks(_CHUNK) if self.base else ():
            labels.update(rows.label_counts())
            total += checksum(rows)
            read(len(rows))
        added, replaced = self.overlay.take(~self.overlay.removed), self._replaced()
        labels.update(added.label_counts())
        labels.subtract(replaced.label_counts())
        return Totals(dict(+labels), total + checksum(added) - checksum(replaced))

    def _replaced(self) -> Rows:
        """Return the rows of the base that deltas remove or replace."""
        if self.base is None:
            return Rows.empty(self.algorithm)
        position, found = self.base.positions(self.overlay.digests, self.overlay.entries)
        return self.base.take(position[found])


def _other_width(path: Path, width: int, stack: Stack) -> SegmentError:
    return SegmentError(
        path,
        SegmentFault.WIDTH,
        f"{stack.algorithm} digests of {width} and of {stack.width} bytes cannot be combined",
    )


def _nothing(digest: bytes) -> list[tuple[str, str]]:  # noqa: ARG001 - a look-up in an empty base
    return []


def supporting(segments: Iterable[Segment], digest: bytes, held: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the entries that support a digest, each with its label, after applying segments to those that are held.

    Oldest segment first, so that the newest row wins; all have digests of this width.
    """
    found = dict(held)
    for segment in segments:
        for row in range(*segment.row_range(digest)):
            entry, label = segment.entry_and_label(row)
            if segment.removes(row):
                found.pop(entry, None)
            else:
                found[entry] = label
    return found


def _merge(base: Rows, changes: Rows, position: np.ndarray, found: Mask) -> Rows:
    """Merge ``changes`` into a slice of the base: before the base row at their position, or instead of it if found."""
    keep = np.ones(len(base), bool)
    keep[position[found]] = False
    adds = ~changes.removed
    rank = np.concatenate([2 * np.flatnonzero(keep) + 1, 2 * position[adds]])
    merged = concatenate([base.take(keep), changes.take(adds)])
    return merged.take(np.argsort(rank, kind="stable"))


def merge_deltas(algorithm: Algorithm, deltas: Sequence[Segment]) -> Rows:
    """Merge deltas, oldest first, into one: applying it equals applying them in order."""
    if not deltas:
        return Rows.empty(algorithm)
    for segment in deltas:
        segment.check_entries()
    rows = concatenate([segment.rows() for segment in reversed(deltas)])
    if len(deltas) == 1:
        return rows
    rows = rows.take(sort_order(rows))  # stable: the newest of equal rows comes first
    keep = np.ones(len(rows), bool)
    keep[repeats(rows.digests, rows.entries)] = False
    return rows.take(keep)


def _by_label(delta: Rows, current: Rows, present: Mask, kinds: dict[str, Mask]) -> dict[str, Counts]:
    """Count by label: the new label of an addition, the label in force of a removal."""
    counts: dict[str, Counts] = defaultdict(Counts)
    for kind, mask in kinds.items():
        rows, chosen = (current, mask[present]) if kind == "removed" else (delta, mask)
        for label, count in rows.label_counts(chosen).items():
            counts[label] += Counts(**{kind: count})
    return dict(counts)
