"""The changes of one publication to the catalog, and the records of a list from which it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.catalog.decisions import HoldEnd, HoldRecord, KnownGoodMark, Suppression, SuppressionChange, UpdateRecord
from syncd.catalog.records import AnswersRecord, AuditEntry, OriginRecord, VersionRecord
from syncd.format.manifest import SegmentRef
from syncd.model import Algorithm, Counts, ListName


@dataclass(frozen=True)
class ListRecords:
    """The records of one list of a source, read at the same moment."""

    origin: OriginRecord | None
    version: VersionRecord | None
    """in force"""
    holds: tuple[HoldRecord, ...]
    """open or discarded, of its own rows or updates"""
    suppressions: tuple[Suppression, ...]
    """active"""
    mark: KnownGoodMark


@dataclass(frozen=True)
class OriginMove:
    """The next state of a source's list. ``before``: the revision it was computed from; 0: the list was new."""

    origin: OriginRecord
    before: int
    delta: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """the partner's delta that leads here, for the history"""
    over_head: bool = False
    """true if that delta applies to the head, because the origin's own rows were lost"""


@dataclass(frozen=True)
class OriginDrop:
    """A source's list that is no longer followed. ``before``: the revision this was computed from."""

    source: str
    list: ListName
    """the source's own name for it"""
    before: int


@dataclass(frozen=True)
class LabelSize:
    """The entries in force under one label, and their net change."""

    rows: int
    change: int


@dataclass(frozen=True)
class HeadNote:
    """Facts about a head's new version that its manifest does not state."""

    source: str
    origin_serial: int | None
    plan: str
    sync_id: str | None = None
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    """the effect of its delta"""
    labels: Mapping[Algorithm, Mapping[str, int]] | None = None
    """entries in force by label; None: as in the version before"""
    reference: bool = False
    """true if an operator accepted this state: earlier changes no longer count for the gate"""
    ours: bool = False
    """true if the change is the operator's own: it does not count for the gate"""
    limited: Mapping[str, LabelSize] = field(default_factory=dict)
    """the labels that have limits of their own"""
    net: Mapping[Algorithm, Counts] = field(default_factory=dict)
    """the net effect of a version without a delta, after the segments before it were lost: the gate counts it"""


@dataclass(frozen=True)
class Records:
    """The changes of one publication to the catalog, besides heads and signed files."""

    origins: tuple[OriginMove, ...] = ()
    notes: Mapping[ListName, HeadNote] = field(default_factory=dict)
    """for every head that moves"""
    dropped: tuple[OriginDrop, ...] = ()
    update: UpdateRecord | None = None
    """the waiting update to which the ``opened`` holds belong"""
    opened: tuple[HoldRecord, ...] = ()
    ended: tuple[HoldEnd, ...] = ()
    suppressed: tuple[Suppression, ...] = ()
    """new suppressions; those that wait belong to the one hold in ``opened``"""
    corrected: tuple[SuppressionChange, ...] = ()
    marks: tuple[KnownGoodMark, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    rotated: tuple[str, ...] = ()
    """roles whose announced keys are in force from now on"""
    answers: tuple[AnswersRecord, ...] = ()
    """bundles of raw answers that are kept as evidence"""
