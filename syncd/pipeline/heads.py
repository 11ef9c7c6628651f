"""A list's head and origin as a publication finds them: records of the catalog, and files that are opened on demand."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import ListRecords
from syncd.catalog.decisions import HoldRecord, HoldState, KnownGoodMark
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import OriginRecord, head_name
from syncd.catalog.sizes import PastChanges
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import open_stacks
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.format.rows import Digests, Rows
from syncd.format.stack import Resolved, Stack, merge_deltas
from syncd.limits import DEFAULT_LIMITS, ListLimits
from syncd.model import Algorithm, ListName
from syncd.outcomes import Finding, Lane
from syncd.pipeline.canaries import MustHave
from syncd.pipeline.keyed import Labels, RowsBy, union
from syncd.pipeline.known_good import KnownGood, KnownGoodFolder
from syncd.pipeline.suppressed import NOTHING_SUPPRESSED, SuppressedKeys
from syncd.pipeline.values import Basis, Over, Period, Window

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
    label_windows: Windows = field(default_factory=dict)
    """the same by period and label, of labels that have limits"""
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

    def entries_of(self, digests: Mapping[Algorithm, Digests]) -> RowsBy:
        """Return every entry of sorted ``digests`` in head, origin, or the version that the list is pinned to."""
        found = []
        pinned = self.pinned.stacks if self.pinned else {}
        for algorithm, some in digests.items():
            for stacks in (self.head_basis.stacks, self.basis.stacks, pinned):
                stack = stacks.get(algorithm)
                if stack is not None and stack.width == some.dtype.itemsize:
                    found.append({algorithm: stack.rows_of(some)})
        return {algorithm: rows for algorithm, rows in union(found).items() if len(rows)}

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
    version, name = records.version, head_name(source, own_name)
    return ListState(
        name=name,
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
        windows=_windows(catalog.past_changes, name, now) if now and version else {},
        label_windows=_windows(catalog.past_label_changes, name, now) if now and version and limits.labels else {},
    )


def _known_good(folder: StateFolder, records: ListRecords, limits: ListLimits) -> KnownGood:
    """Return the known-good digests in force, or the configured ones if the list is new or their reading was lost."""
    readings = KnownGoodFolder(folder.known_good)
    known = readings.named(records.mark.known_good)
    if folder.bucket is not None and readings.is_lost(known):
        folder.bring_private(folder.known_good)
        known = readings.named(records.mark.known_good)
    return readings.last_good(limits.known_good_file) if records.origin is None or readings.is_lost(known) else known


def _windows(
    changes: Callable[[ListName, datetime], Mapping[str, PastChanges]], name: ListName, now: datetime
) -> Windows:
    return {
        period: {
            part: Window(past.largest, past.added, past.removed)
            for part, past in changes(name, now - period.length).items()
        }
        for period in Period
    }


@dataclass(frozen=True)
class Pinned:
    """The rows of the version that a list is pinned to."""

    stacks: Mapping[Algorithm, Stack]
    exact: bool

    def resolve(self, algorithm: Algorithm, keys: Rows) -> Resolved:
        """Return the version's rows."""
        return self.stacks.get(algorithm, Stack(algorithm, [])).resolve(keys)

    def target(self, algorithm: Algorithm, keys: Rows, origin: Resolved) -> Resolved:
        """Return the rows that the head should have: the version's, unless exact only if the origin has the entry."""
        mine = self.resolve(algorithm, keys)
        kept = mine.present & (origin.present | self.exact)
        return Resolved(kept, mine.current.take(kept[mine.present]))


@dataclass(frozen=True)
class LeftOut:
    """The entries of a version that a list was rolled back to, but does not have."""

    removed: int = 0
    """those that the partner removed since"""
    suppressed: int = 0
    """those that are suppressed, or known to be good"""


NOTHING_LEFT_OUT: Final = LeftOut()


def named_segments(state: ListState) -> tuple[SegmentRef, ...]:
    """Return every segment in the source's folder that a list still needs."""
    refused = state.origin.refused if state.origin else ()
    pinned = state.origin.pin.stack if state.origin and state.origin.pin else ()
    return (*state.stack, *refused, *pinned, *(ref for hold in state.holds for ref in hold.segments))
