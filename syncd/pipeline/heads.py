"""A list's head and origin as a publication finds them, and the changes to the keys that it touches.

`ListState` opens the files on the disk. `Move` collects the touched keys and has `compose` decide each. Nothing here
writes, signs or commits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import HoldRecord, HoldState, KnownGoodMark, ListRecords, OriginRecord, head_name
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_stacks
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef, Withheld
from syncd.format.rows import Mask, Rows, concatenate, sort_order
from syncd.format.search import RowSearch
from syncd.format.segment import Segment
from syncd.format.stack import Resolved, Stack, merge_deltas
from syncd.limits import DEFAULT_LIMITS, ListLimits
from syncd.model import Algorithm, ListName
from syncd.outcomes import Finding, Lane
from syncd.pipeline import compose
from syncd.pipeline.canaries import MustHave
from syncd.pipeline.compose import Composed, Passing, Touched
from syncd.pipeline.known_good import KnownGood, KnownGoodFolder
from syncd.pipeline.suppressed import NOTHING_SUPPRESSED, SuppressedKeys
from syncd.pipeline.values import Basis, Over, Period, Window

RowsBy = Mapping[Algorithm, Rows]
MasksBy = Mapping[Algorithm, Mask]
WithheldBy = Mapping[Algorithm, Withheld]
Labels = Mapping[Algorithm, Mapping[str, int]]
Windows = Mapping[Period, Mapping[str, Window]]


@dataclass(frozen=True)
class ListState:
    """One list as a publication finds it."""

    name: ListName
    """its published name"""
    own_name: ListName
    """its name at the source"""
    feed: FeedFolder
    source: FeedFolder
    """the source's own folder, which holds all segments of the origin and all private rows"""
    head: Manifest | None
    origin: OriginRecord | None
    holds: tuple[HoldRecord, ...] = ()
    """the open and the discarded ones"""
    labels: Labels | None = field(default_factory=dict)
    """the head's entries by label; None if an older syncd published it without counting them"""
    limits: ListLimits = DEFAULT_LIMITS
    windows: Windows = field(default_factory=dict)
    """the head's past changes, by period and algorithm"""
    suppressed: SuppressedKeys = NOTHING_SUPPRESSED
    """in force now"""
    mark: KnownGoodMark | None = None
    """None: nothing was ever published"""

    @cached_property
    def must_have(self) -> MustHave:
        """The digests that must be on the list. Raises `ConfigError`."""
        return MustHave.read(self.limits.must_have_file)

    @property
    def stack(self) -> tuple[SegmentRef, ...]:
        """The origin's stack: the head's stack with ``owed`` on top."""
        return (*(self.head.stack if self.head else ()), *(self.origin.owed if self.origin else ()))

    @cached_property
    def basis(self) -> Basis:
        """The origin, as the basis of the partner's next delta."""
        if self.origin is None:
            return Basis()
        return Basis(self.stack, self.opened(self.stack), self.origin.end_state)

    @cached_property
    def head_basis(self) -> Basis:
        """The head, as the basis of its next delta."""
        if self.head is None:
            return Basis()
        return Basis(self.head.stack, self.opened(self.head.stack), self.head.end_state)

    def basis_under(self, over: Over) -> Basis:
        """Return the basis of a delta. For `Over.NOTHING` no file is opened: the files may be lost."""
        match over:
            case Over.ORIGIN:
                return self.basis
            case Over.HEAD:
                return self.head_basis
            case Over.NOTHING:
                return Basis()

    @cached_property
    def owed(self) -> Mapping[Algorithm, Stack]:
        """The rows that turn the head into the origin."""
        return self.opened(self.origin.owed) if self.origin else {}

    @cached_property
    def pinned(self) -> "Pinned | None":
        """The older version that the list is pinned to. Raises `StoreError` if files of it were lost."""
        pin = self.origin.pin if self.origin else None
        return None if pin is None else Pinned(self.opened(pin.stack), pin.exact)

    @cached_property
    def refused(self) -> RowsBy:
        """The rows that an operator discarded and that the partner has not changed since."""
        stacks = self.opened(self.origin.refused) if self.origin else {}
        return {algorithm: merge_deltas(algorithm, stack.segments) for algorithm, stack in stacks.items()}

    @property
    def open_holds(self) -> tuple[HoldRecord, ...]:
        """The holds that wait for an operator."""
        return tuple(hold for hold in self.holds if hold.state is HoldState.OPEN)

    def holds_of(self, lane: Lane) -> tuple[HoldRecord, ...]:
        """Return the open holds of one lane."""
        return tuple(hold for hold in self.open_holds if hold.lane is lane)

    def closed(self) -> dict[Lane, tuple[Finding, ...]]:
        """Return the lanes with an open hold, each with its findings."""
        return {
            lane: tuple(finding for hold in holds for finding in hold.why)
            for lane in (Lane.ADDITIONS, Lane.REMOVALS)
            if (holds := self.holds_of(lane))
        }

    @property
    def head_labels(self) -> Labels:
        """The head's entries by label, counted now if an older syncd did not."""
        if self.labels is not None:
            return self.labels
        return {algorithm: stack.totals().by_label for algorithm, stack in self.head_basis.stacks.items()}

    @property
    def origin_labels(self) -> Labels:
        """The origin's entries by label."""
        labels = self.origin.labels if self.origin else None
        return self.head_labels if labels is None else labels

    def rows_of(self, hold: HoldRecord) -> RowsBy:
        """Return the rows of a hold. Raises `StoreError` if their files were lost."""
        stacks = self.opened(hold.segments)
        return {algorithm: merge_deltas(algorithm, stack.segments) for algorithm, stack in stacks.items()}

    def opened(self, refs: Iterable[SegmentRef]) -> dict[Algorithm, Stack]:
        """Map segments of the source's folder. Raises `StoreError`, `SegmentError`."""
        return open_stacks(self.source, self.own_name, refs)

    def path(self, ref: SegmentRef) -> Path:
        """Return the path of a segment in the source's folder."""
        return self.source.segment_path(self.own_name, ref)


def read_state(
    folder: StateFolder,
    catalog: Catalog,
    source: str,
    own_name: ListName,
    limits: ListLimits = DEFAULT_LIMITS,
    now: datetime | None = None,
) -> ListState:
    """Read the state of one list from the catalog. Without ``now`` no past changes are read. Raises `StoreError`."""
    records = catalog.list_records(source, own_name)
    version = records.version
    return ListState(
        name=head_name(source, own_name),
        own_name=own_name,
        feed=folder.feed,
        source=folder.source(source),
        head=manifests.parse(version.manifest) if version else None,
        origin=records.origin,
        holds=records.holds,
        labels=version.labels if version else {},
        limits=limits,
        suppressed=SuppressedKeys(records.suppressions, _known_good(folder, records, limits)),
        mark=records.mark if records.origin else None,
        windows=_past_changes(catalog, head_name(source, own_name), now) if now and version else {},
    )


def _known_good(folder: StateFolder, records: ListRecords, limits: ListLimits) -> KnownGood:
    """Return the known-good digests in force, or the configured ones if the list is new or their reading was lost."""
    readings = KnownGoodFolder(folder.known_good)
    known = readings.named(records.mark.known_good)
    return readings.last_good(limits.known_good_file) if records.origin is None or readings.is_lost(known) else known


def _past_changes(catalog: Catalog, name: ListName, now: datetime) -> Windows:
    return {
        period: {
            algorithm: Window(past.largest, past.added, past.removed)
            for algorithm, past in catalog.past_changes(name, now - period.length).items()
        }
        for period in Period
    }


@dataclass(frozen=True)
class Pinned:
    """The rows of the version that a list is pinned to."""

    stacks: Mapping[Algorithm, Stack]
    exact: bool

    def target(self, algorithm: Algorithm, keys: Rows, origin: Resolved) -> Resolved:
        """Return the rows that the head should have: the version's, unless exact only if the origin has the entry."""
        mine = self.stacks.get(algorithm, Stack(algorithm, [])).resolve(keys)
        kept = mine.present & (origin.present | self.exact)
        return Resolved(kept, mine.current.take(kept[mine.present]))


@dataclass(frozen=True)
class _Touch:
    """The keys of one algorithm before and after the change of the origin. The head is the same in both."""

    before: Touched
    after: Touched
    owed: Mask
    """keys that have a row in ``owed`` now"""
    own: Mask
    """keys that the update, if there is one, does not name"""


@dataclass
class Move:
    """The touched keys of one list, and the changes to them that were decided."""

    state: ListState
    suppressed: SuppressedKeys | None = None
    """in force afterwards; None: as now"""
    repin: bool = False
    """true if ``pinned`` replaces the state's pin. Then every key that differs is touched, and counts start again"""
    pinned: Pinned | None = None
    _touches: dict[Algorithm, _Touch] = field(default_factory=dict)
    _composed: dict[Algorithm, Composed] = field(default_factory=dict)

    def touch_update(
        self, segments: Iterable[Segment], resolved: Mapping[Algorithm, Resolved], also: RowsBy | None = None
    ) -> None:
        """Touch the keys of an update's delta, oldest segment first. None of them is refused any longer.

        ``resolved``: the origin's rows for an algorithm's keys, if they were looked up already. ``also``: waiting rows
        to touch as well.
        """
        by_algorithm: dict[Algorithm, list[Segment]] = {}
        for segment in segments:
            by_algorithm.setdefault(segment.algorithm, []).append(segment)
        waiting = dict(also or {})
        for algorithm, some in by_algorithm.items():
            rows = merge_deltas(algorithm, some)
            more = waiting.pop(algorithm, None)
            more = more.take(~_among(rows, more)) if more is not None else None
            if more is None or not len(more):
                stated = Resolved(~rows.removed, rows.take(~rows.removed))
                self._touch(algorithm, rows, stated, np.zeros(len(rows), bool), resolved.get(algorithm))
            else:
                keys = _sorted(concatenate([rows, more]))
                stated = self._origin_after(algorithm, keys, rows)
                self._touch(algorithm, keys, stated, np.zeros(len(keys), bool), own=~_among(rows, keys))
        self.touch_rows(waiting, {algorithm: np.zeros(len(some), bool) for algorithm, some in waiting.items()})

    def _origin_after(self, algorithm: Algorithm, keys: Rows, changed: Rows) -> Resolved:
        """Return the origin's rows for ``keys`` once the rows ``changed`` apply, which are some of them."""
        before = self.state.basis.stacks.get(algorithm, Stack(algorithm, [])).resolve(keys)
        mine = _among(changed, keys)
        present = before.present & ~mine
        kept = before.current.take(~mine[before.present])
        added = changed.take(~changed.removed)
        present[mine] = ~changed.removed
        return Resolved(present, _sorted(concatenate([kept, added])) if len(added) else kept)

    def touch_rows(self, rows: RowsBy, refused: MasksBy) -> None:
        """Touch the keys of waiting or refused rows. ``refused`` marks those that are refused afterwards."""
        for algorithm, some in rows.items():
            self._touch(algorithm, some, None, refused[algorithm])

    def _touch(
        self,
        algorithm: Algorithm,
        keys: Rows,
        origin: Resolved | None,
        refused: Mask,
        resolved: Resolved | None = None,
        own: Mask | None = None,
    ) -> None:
        """``origin``: its rows afterwards, None if they stay. ``resolved``: its present rows, if known.

        ``own``: keys that the update does not name; None: none of them, or all if there is no update.
        """
        empty = Stack(algorithm, [])
        owed = np.zeros(len(keys), bool)
        if algorithm in self.state.owed or resolved is None:
            head = self.state.head_basis.stacks.get(algorithm, empty).resolve(keys)
            for segment in self.state.owed.get(algorithm, empty).segments:
                owed |= segment.positions(keys.digests, keys.entries)[1]
        else:  # head and origin are equal
            head = resolved
        before = self.state.basis.stacks.get(algorithm, empty).resolve(keys) if owed.any() else head
        hidden = self.state.suppressed.mask(algorithm, keys)
        afterwards = hidden if self.suppressed is None else self.suppressed.mask(algorithm, keys)
        stated = before if origin is None else origin
        pinned = self.pinned if self.repin else self.state.pinned
        target = pinned.target(algorithm, keys, stated) if pinned else None
        was = None if self.repin or not pinned else pinned.target(algorithm, keys, before)
        self._touches[algorithm] = _Touch(
            Touched(keys, before, head, hidden, self.refused_before(algorithm, keys), was),
            Touched(keys, stated, head, afterwards, refused, target),
            owed,
            np.zeros(len(keys), bool) if own is None else own,
        )

    def refused_before(self, algorithm: Algorithm, keys: Rows) -> Mask:
        """Mark the sorted keys that are refused now."""
        return _among(self.state.refused.get(algorithm), keys)

    def refused_after(self) -> dict[Algorithm, Rows]:
        """Return the new refused rows of each algorithm in which they change."""
        changed = {}
        for algorithm, touch in self._touches.items():
            now, before = touch.after.refused, touch.before.refused
            if (now != before).any():
                held = self.state.refused.get(algorithm)
                left = held.take(~_among(touch.after.keys, held)) if held is not None else None
                added = touch.after.keys.take(now)
                changed[algorithm] = added if left is None else _sorted(concatenate([left, added]))
        return changed

    def still_wanted(self, rows: RowsBy) -> dict[Algorithm, Mask]:
        """Mark, by algorithm, the rows of a touched hold that are still wanted unchanged."""
        return {algorithm: _states(self._touches[algorithm].after.target, some) for algorithm, some in rows.items()}

    def if_all_wait(self) -> WithheldBy:
        """Return the counts of waiting rows if none of the touched keys passes."""
        return self._total({algorithm: compose.withheld(touch.after)[0] for algorithm, touch in self._touches.items()})

    def kept_out(self) -> RowsBy:
        """Return the touched rows that are new in the origin and kept out because they are known to be good."""
        found = {}
        for algorithm, touch in self._touches.items():
            origin, known = touch.after.origin, self.state.suppressed.known_good
            new = origin.present & ~touch.before.origin.present
            rows = origin.current.take(new[origin.present])
            rows = rows.take(known.mask(algorithm, rows.digests))
            if len(rows):
                found[algorithm] = rows
        return found

    def compose(self, passing: Callable[[Algorithm, int], Passing]) -> None:
        """Apply the rule. ``passing`` returns the keys that may go live, given an algorithm and its number of keys."""
        self._composed = {
            algorithm: compose.compose(touch.after, passing(algorithm, len(touch.after)), touch.owed)
            for algorithm, touch in self._touches.items()
        }

    @property
    def waiting(self) -> WithheldBy:
        """Counts of the rows that wait afterwards."""
        return self._total({algorithm: composed.waiting for algorithm, composed in self._composed.items()})

    @property
    def discarded(self) -> WithheldBy:
        """Counts of the refused rows that still differ afterwards."""
        if self.repin:
            return _without_zeros({algorithm: composed.refused for algorithm, composed in self._composed.items()})
        origin = self.state.origin
        total = dict(origin.discarded) if origin else {}
        for algorithm, touch in self._touches.items():
            before = compose.withheld(touch.before)[1]
            total[algorithm] = _shifted(total.get(algorithm), before, self._composed[algorithm].refused)
        return _without_zeros(total)

    def _total(self, after: WithheldBy) -> WithheldBy:
        """Return the counts of waiting rows, with those of the touched keys replaced by ``after``."""
        origin = self.state.origin
        if self.repin:
            return _without_zeros(after)
        total = dict(origin.waiting) if origin else {}
        for algorithm, touch in self._touches.items():
            total[algorithm] = _shifted(total.get(algorithm), compose.withheld(touch.before)[0], after[algorithm])
        return _without_zeros(total)

    def is_altered(self, algorithm: Algorithm) -> bool:
        """Return True if any key of the update differs from the update in the next head."""
        return bool((self._composed[algorithm].differs & ~self._touches[algorithm].own).any())

    @property
    def growth(self) -> Mapping[Algorithm, int]:
        """Entries by which the head grows."""
        return {algorithm: composed.growth for algorithm, composed in self._composed.items()}

    def head_rows(self) -> RowsBy:
        """Return the delta that turns the head into its next version."""
        return {algorithm: composed.head for algorithm, composed in self._composed.items() if len(composed.head)}

    def rows_beside_update(self, algorithm: Algorithm) -> Rows:
        """Return the part of the head's delta that the update does not name."""
        keys = self._touches[algorithm].after.keys.take(self._touches[algorithm].own)
        rows = self._composed[algorithm].head
        return rows.take(_among(keys, rows))

    def owed_rows(self) -> RowsBy:
        """Return the rows to put on top of ``owed``."""
        return {algorithm: composed.owed for algorithm, composed in self._composed.items() if len(composed.owed)}

    def waiting_rows(self, lane: Lane) -> RowsBy:
        """Return the touched rows of one lane that wait."""
        additions = lane is Lane.ADDITIONS
        rows = {
            algorithm: composed.added if additions else composed.removed
            for algorithm, composed in self._composed.items()
        }
        return {algorithm: some for algorithm, some in rows.items() if len(some)}


def named_segments(state: ListState) -> tuple[SegmentRef, ...]:
    """Return every segment in the source's folder that a list still needs."""
    refused = state.origin.refused if state.origin else ()
    pinned = state.origin.pin.stack if state.origin and state.origin.pin else ()
    return (*state.stack, *refused, *pinned, *(ref for hold in state.holds for ref in hold.segments))


def union(parts: Iterable[RowsBy]) -> RowsBy:
    """Merge rows of several holds, sorted. For each key the first hold that has it wins."""
    merged: dict[Algorithm, Rows] = {}
    for rows in parts:
        for algorithm, some in rows.items():
            held = merged.get(algorithm)
            left = some if held is None else some.take(~_among(held, some))
            merged[algorithm] = left if held is None else _sorted(concatenate([held, left]))
    return merged


def keys_among(rows: RowsBy, others: RowsBy) -> dict[Algorithm, Mask]:
    """Mark, by algorithm, the keys of ``rows`` that are also keys of ``others``."""
    return {algorithm: _among(others.get(algorithm), some) for algorithm, some in rows.items()}


def lane_counts(waiting: WithheldBy) -> dict[Lane, int]:
    """Count the waiting rows of each lane."""
    return {
        Lane.ADDITIONS: sum(counts.additions + counts.relabels for counts in waiting.values()),
        Lane.REMOVALS: sum(counts.removals for counts in waiting.values()),
    }


def together(waiting: WithheldBy, discarded: WithheldBy) -> WithheldBy:
    """Add both counts, in the form that manifests state."""
    zero = Withheld()
    both = {
        algorithm: _shifted(waiting.get(algorithm), zero, discarded.get(algorithm, zero))
        for algorithm in {*waiting, *discarded}
    }
    return _without_zeros(both)


def _states(origin: Resolved, rows: Rows) -> Mask:
    same = ~origin.present & rows.removed
    stated = origin.present & ~rows.removed
    same[stated] = rows.take(stated).same_labels(origin.current.take(stated[origin.present]))
    return same


def _among(some: Rows | None, keys: Rows) -> Mask:
    """Mark the ``keys`` that are also keys of ``some``, which is sorted."""
    if some is None or not len(some):
        return np.zeros(len(keys), bool)
    return RowSearch(some.digests, some.entries).positions(keys.digests, keys.entries)[1]


def _sorted(rows: Rows) -> Rows:
    return rows.take(sort_order(rows))


def _shifted(total: Withheld | None, minus: Withheld, plus: Withheld) -> Withheld:
    held = total or Withheld()
    counts = {
        name: max(0, getattr(held, name) - getattr(minus, name) + getattr(plus, name)) for name in Withheld.model_fields
    }
    return Withheld(**counts)


def _without_zeros(counts: WithheldBy) -> WithheldBy:
    return {algorithm: withheld for algorithm, withheld in sorted(counts.items()) if withheld != Withheld()}
