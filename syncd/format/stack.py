"""A stack: a base and the deltas over it, of one algorithm. The newest row for a (digest, entry) wins.

Everything here costs the size of the change, times the logarithm of the list, except `Stack.effective` and
`Stack.amount`, which read the whole list in order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from syncd.errors import WidthError
from syncd.format.checksum import Checksum, checksum
from syncd.format.lazy import lazy
from syncd.format.rows import Digests, Mask, Rows, concatenate, repeats, sort_order
from syncd.format.search import DigestSearch
from syncd.format.segment import Lookup, RowProgress, Segment, ignore_progress
from syncd.model import Algorithm, Counts

_CHUNK: Final = 1 << 18
_TOUCHED_ROWS: Final = 1 << 17
"""Delta rows up to which single look-ups ask a set first (some 120 bytes a row); beyond, they search each delta."""


@dataclass(frozen=True)
class Resolved:
    """What a stack holds of some (digest, entry) pairs."""

    present: Mask
    """for each pair: whether it is in force"""
    current: Rows
    """the rows in force, in the order of the pairs that are present"""


@dataclass(frozen=True)
class Effect:
    """What a delta does to a stack."""

    counts: Counts = field(default_factory=Counts)
    by_label: dict[str, Counts] = field(default_factory=dict)
    change: Checksum = field(default_factory=Checksum)
    """to add to the end state's checksum"""
    growth: dict[str, int] = field(default_factory=dict)
    """by label, by how many entries in force it grew (negative: shrank)"""


@dataclass(frozen=True)
class Totals:
    """What rows amount to: how many there are of each label, and their checksum."""

    by_label: Mapping[str, int]
    checksum: Checksum

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(self.by_label.values())


class Stack:
    """Segments of one algorithm, oldest first. Raises `WidthError` if their digests do not have one width."""

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
        """Bytes of one digest: all segments have the same. None for an algorithm not known, and with no segment."""
        return self.segments[0].width if self.segments else self.algorithm.known_width

    @lazy
    def entries_of(self) -> Lookup:
        """Returns the (entry, label) pairs in force that support one digest, by entry. The single look-up."""
        held = _nothing if self.base is None else self.base.entries_of
        touched, deltas = self._touched, self.deltas

        def entries_of(digest: bytes) -> list[tuple[str, str]]:
            if touched is not None and digest not in touched:
                return held(digest)
            return _overlaid(held(digest), deltas, digest)

        return entries_of

    @lazy
    def _touched(self) -> frozenset[bytes] | None:
        """The digests that deltas name: most look-ups are done with it. None where it would take too much memory."""
        if sum(len(segment) for segment in self.deltas) > _TOUCHED_ROWS:
            return None
        return frozenset().union(*(segment.named for segment in self.deltas))  # most were there before the last change

    def contains(self, digests: Digests) -> Mask:
        """For each digest whether any entry in force supports it. The batch look-up; shape (n,) in and out."""
        present = np.zeros(len(digests), bool) if self.base is None else self.base.search.find(digests)[1]
        if self.deltas:
            search, supported = self._changed
            position, changed = search.find(digests)
            present[changed] = supported[position[changed]]
        return present

    @lazy
    def _changed(self) -> tuple[DigestSearch, Mask]:
        """The digests that deltas name, sorted, and whether each is still supported by some entry."""
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
        """All deltas as one: sorted, the newest row of each (digest, entry), removals kept."""
        return merge_deltas(self.algorithm, self.deltas)

    def resolve(self, rows: Rows) -> Resolved:
        """Look (digest, entry) of each row up. O(k log n). Raises `WidthError` for rows of another width."""
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
        """Count what the rows of ``delta`` do to this stack, and how the checksum changes. O(k log n).

        ``resolved``: the result of `resolve` for ``delta``, if the caller has it already.
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
        """The entries in force, sorted, about ``size`` rows at a time."""
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
        """Every row in force of sorted, unique ``digests``. O(k log n)."""
        named = self.overlay.take(_among(self.overlay.digests, digests))
        if self.base is not None:
            start, stop = self.base.ranges(digests)
            index = np.concatenate([np.arange(low, high) for low, high in zip(start, stop, strict=True)] or [start])
            named = concatenate([self.base.take(index), named])
            named = named.take(sort_order(named))
            keep = np.ones(len(named), bool)
            keep[repeats(named.digests, named.entries)] = False
            named = named.take(keep)
        return self.resolve(named).current

    def rows_with_entries(self, entries: Sequence[str]) -> Rows:
        """Every row in force of these entries, sorted. Reads the whole list: rows are not sorted by entry."""
        wanted = pa.array(entries, pa.large_utf8())
        found = [rows.take(np.asarray(pc.is_in(rows.entries, wanted), dtype=bool)) for rows in self.effective()]
        return concatenate([Rows.empty(self.algorithm), *found])

    def totals(self, read: RowProgress = ignore_progress) -> Totals:
        """What the rows in force amount to, from the rows themselves. Reads the whole base once, in order.

        ``read`` is told of the base's rows as they are.
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
        """The rows of the base that deltas remove or say anew."""
        if self.base is None:
            return Rows.empty(self.algorithm)
        position, found = self.base.positions(self.overlay.digests, self.overlay.entries)
        return self.base.take(position[found])

    def total(self) -> tuple[int, Checksum]:
        """Entries in force and their checksum, as `totals` finds them."""
        amount = self.totals()
        return amount.rows, amount.checksum


def _other_width(path: Path, width: int, stack: Stack) -> WidthError:
    return WidthError(path, f"{stack.algorithm} digests of {width} bytes do not go with those of {stack.width}")


def _nothing(digest: bytes) -> list[tuple[str, str]]:  # noqa: ARG001 - as a base that holds nothing
    return []


def _overlaid(held: list[tuple[str, str]], deltas: Sequence[Segment], digest: bytes) -> list[tuple[str, str]]:
    """What a base holds of a digest, after the deltas over it."""
    found = dict(held)
    for segment in deltas:  # oldest first, so that the newest has the last word
        for row in range(*segment.row_range(digest)):
            entry, label = segment.entry_and_label(row)
            if segment.removes(row):
                found.pop(entry, None)
            else:
                found[entry] = label
    return sorted(found.items())


def _among(digests: Digests, wanted: Digests) -> Mask:
    """For each of ``digests`` whether it is one of ``wanted`` (sorted)."""
    if not len(wanted):
        return np.zeros(len(digests), bool)
    position = np.minimum(np.searchsorted(wanted, digests), len(wanted) - 1)
    return np.asarray(wanted[position] == digests)


def _merge(base: Rows, changes: Rows, position: np.ndarray, found: Mask) -> Rows:
    """Put ``changes`` into a slice of the base: each before the base row at its position, in place of it if found."""
    keep = np.ones(len(base), bool)
    keep[position[found]] = False
    adds = ~changes.removed
    rank = np.concatenate([2 * np.flatnonzero(keep) + 1, 2 * position[adds]])
    merged = concatenate([base.take(keep), changes.take(adds)])
    return merged.take(np.argsort(rank, kind="stable"))


def merge_deltas(algorithm: Algorithm, deltas: Sequence[Segment]) -> Rows:
    """Deltas, oldest first, as one: applying it equals applying them in order."""
    if not deltas:
        return Rows.empty(algorithm)
    rows = concatenate([segment.rows() for segment in reversed(deltas)])
    if len(deltas) == 1:
        return rows
    rows = rows.take(sort_order(rows))  # stable: of equal rows the newest comes first
    keep = np.ones(len(rows), bool)
    keep[repeats(rows.digests, rows.entries)] = False
    return rows.take(keep)


def _by_label(delta: Rows, current: Rows, present: Mask, kinds: dict[str, Mask]) -> dict[str, Counts]:
    """Counts by label: the new label of a row that adds, the label in force of one that removes."""
    counts: dict[str, Counts] = defaultdict(Counts)
    for kind, mask in kinds.items():
        rows, chosen = (current, mask[present]) if kind == "removed" else (delta, mask)
        for label, count in rows.label_counts(chosen).items():
            counts[label] += Counts(**{kind: count})
    return dict(counts)
