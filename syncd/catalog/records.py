"""The catalog's records, as frozen values. No SQL here.

Times are time zone aware, in UTC; hashes are SHA-256 in hex. No record holds a digest of a list.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from syncd.acts import Act
from syncd.format.manifest import EndState, ManifestRef, SegmentRef, Withheld
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Finding, HoldReason, Lane, Outcome


@dataclass(frozen=True)
class SourceState:
    """The state of a source between syncs."""

    name: str
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    """private to its kind, see `syncd.sources.source.Memory`; empty until a sync has verified something"""
    last_attempt_at: datetime | None = None
    last_verified_at: datetime | None = None
    next_run_at: datetime | None = None
    """when the daemon syncs it next; None: the daemon has never scheduled it"""
    cool_down_until: datetime | None = None
    """no sync before this time, because the source was unreachable or asked us to wait"""
    failures: int = 0
    """consecutive syncs that did not reach it"""


@dataclass(frozen=True)
class SyncFault:
    """A bad outcome of one list, or of a whole sync."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """each a `HoldReason`, or the kind of an error"""
    message: str = ""


@dataclass(frozen=True)
class SyncRecord:
    """One sync of one source. ``bytes`` counts the response bodies received."""

    id: str
    source: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome = Outcome.RUNNING
    reasons: tuple[str, ...] = ()
    message: str = ""
    bytes: int = 0
    dry_run: bool = False
    faults: Mapping[str, SyncFault] = field(default_factory=dict)
    """by published list; ``""``: the whole sync"""

    @property
    def reported_faults(self) -> Mapping[str, SyncFault]:
        """``faults``; if the sync ended badly and recorded none (killed, for example), its own outcome."""
        if self.faults or self.outcome.good or self.outcome is Outcome.RUNNING:
            return self.faults
        return {"": SyncFault(self.outcome, self.reasons, self.message)}


RETRUSTED: Final = 0
"""The serial of an origin whose source has a new trust root, under which nothing was verified yet."""


@dataclass(frozen=True)
class Pin:
    """An older version that a list was rolled back to, and stays at until `unpin`."""

    version: int
    stack: tuple[SegmentRef, ...] = field(repr=False)
    exact: bool
    """true if entries that the partner removed since are listed as well"""
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class OriginRecord:
    """A source's list as its signer stated it: the head's stack with ``owed`` on top.

    ``list`` is the source's own name for it; for ``serial`` see also `RETRUSTED`.
    """

    source: str
    list: ListName
    serial: int
    manifest_sha256: str
    manifest: bytes = field(repr=False)
    end_state: Mapping[Algorithm, EndState] = field(repr=False)
    verified_at: datetime
    owed: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """rows that turn the head into the origin: private deltas in the source's own folder"""
    refused: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """rows that an operator discarded and the partner has not touched since, one segment per algorithm"""
    waiting: Mapping[Algorithm, Withheld] = field(default_factory=dict, repr=False)
    """counts of ``owed`` rows that wait for an operator, and of suppressed entries"""
    discarded: Mapping[Algorithm, Withheld] = field(default_factory=dict, repr=False)
    """counts of ``owed`` rows that an operator discarded"""
    evidence: bytes | None = field(default=None, repr=False)
    """the signed documents that vouch for it; None: the same as the head's"""
    labels: Mapping[Algorithm, Mapping[str, int]] | None = field(default=None, repr=False)
    """entries in force by label; None: the same as the head's"""
    pin: Pin | None = None
    fork: ManifestRef | None = None
    """the newest upstream version that does not descend from this one, held or discarded"""
    revision: int = 1
    """incremented with every change of this record"""

    @property
    def rows(self) -> int:
        """Entries in force."""
        return sum(state.rows for state in self.end_state.values())


def head_name(source: str, name: ListName) -> ListName:
    """Return the name under which a source's list is published: ``<source>.<list>``."""
    return ListName(f"{source}.{name}")


def own_name(published: ListName) -> ListName:
    """Return the source's own name for a published list."""
    return ListName(published.partition(".")[2])


@dataclass(frozen=True)
class HeadRecord:
    """The published state of a list. ``origin_serial``: None if the list follows no source."""

    list: ListName
    source: str
    version: int
    manifest_sha256: str
    origin_serial: int | None
    published_at: datetime
    retired_at: datetime | None = None
    """the time it was retired; None: it is still published"""


@dataclass(frozen=True)
class VersionRecord:
    """One published version of a list, with the exact manifest bytes signed. ``rows`` counts entries in force."""

    list: ListName
    version: int
    manifest_sha256: str
    manifest: bytes = field(repr=False)
    created_at: datetime
    sync_id: str | None
    plan: str
    counts: Mapping[Algorithm, Counts]
    rows: int
    labels: Mapping[Algorithm, Mapping[str, int]] | None = None
    """entries in force by label; None: an older syncd did not count them"""


@dataclass(frozen=True)
class ListRecords:
    """The records of one list of a source, read at the same moment."""

    origin: OriginRecord | None
    version: VersionRecord | None
    """in force"""
    holds: "tuple[HoldRecord, ...]"
    """open or discarded, of its own rows or updates"""
    suppressions: "tuple[Suppression, ...]"
    """active"""
    mark: "KnownGoodMark"


@dataclass(frozen=True)
class VersionSummary:
    """One published version without its manifest, which is by far the largest part."""

    version: int
    created_at: datetime
    plan: str
    counts: Mapping[Algorithm, Counts]
    rows: int


@dataclass(frozen=True)
class AuditEntry:
    """One act of an actor, and its time."""

    at: datetime
    actor: str
    act: Act


@dataclass(frozen=True)
class AuditRecord:
    """An entry at its place in the audit log. ``sha256`` vouches for it and all entries before it."""

    number: int
    entry: AuditEntry
    sha256: str


@dataclass(frozen=True)
class AuditFilter:
    """The records of the audit log to choose: those that meet every condition given. Both times are included."""

    since: datetime | None = None
    until: datetime | None = None
    actor: str | None = None
    act: str | None = None
    """its name"""
    list: str | None = None


EVERY_RECORD: Final = AuditFilter()


@dataclass(frozen=True)
class MatcherRecord:
    """A matcher that may pull ``lists`` (None: all), and the hash of its token."""

    name: str
    token_sha256: str = field(repr=False)
    lists: tuple[ListName, ...] | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class LoadedVersion:
    """The version of a list that one instance (process or host) of a matcher reports to have loaded."""

    matcher: str
    instance: str
    list: ListName
    version: int
    loaded_at: datetime
    """time of the first report"""
    seen_at: datetime
    """time of the latest report"""


class HoldState(enum.StrEnum):
    """The state of a hold."""

    OPEN = "open"
    """waits for an operator"""
    RELEASED = "released"
    DISCARDED = "discarded"
    """its rows are refused until the partner touches them or an operator releases it after all"""
    WITHDRAWN = "withdrawn"
    """the partner withdrew the waiting rows, or the list was retired"""
    PASSED = "passed"
    """passed the gate when judged again after another hold of its lane had ended"""
    REPLACED = "replaced"
    """another hold waits in its place"""


@dataclass(frozen=True)
class UpdateRecord:
    """A verified update that waits, as staged by the pipeline. ``list`` is the published name."""

    list: ListName
    serial: int
    manifest_sha256: str
    staged: bytes = field(repr=False)
    created_at: datetime
    id: int = 0
    """0 until it is committed"""


@dataclass(frozen=True)
class HoldRecord:
    """Rows of one lane of an update that wait for an operator. ``list`` is the published name."""

    list: ListName
    source: str
    lane: Lane
    reasons: tuple[HoldReason, ...]
    segments: tuple[SegmentRef, ...] = field(repr=False)
    """the rows, as deltas in the source's own folder"""
    rows: int
    opened_at: datetime
    sync_id: str | None = None
    update_id: int = 0
    """0 until it is committed"""
    state: HoldState = HoldState.OPEN
    ended_at: datetime | None = None
    ended_by: str = ""
    ended_reason: str = ""
    findings: tuple[Finding, ...] = ()
    """the reasons with their numbers; empty if an older syncd opened it"""
    paged_at: datetime | None = None
    """when it was last reported again because it still waits; None: never since it was opened"""
    id: int = 0
    """0 until it is committed"""

    @property
    def why(self) -> tuple[Finding, ...]:
        """Its findings; those of a hold that an older syncd opened have no numbers."""
        return self.findings or tuple(Finding(reason) for reason in self.reasons)

    @property
    def message(self) -> str:
        """Why it waits, for people."""
        return "; ".join(finding.words for finding in self.why)

    @property
    def sha256(self) -> str:
        """The hash that identifies exactly these rows."""
        named = sorted(f"{ref.algorithm}:{ref.sha256}" for ref in self.segments)
        return hashlib.sha256(",".join(named).encode()).hexdigest()


@dataclass(frozen=True)
class HoldEnd:
    """The end of a hold."""

    id: int
    before: HoldState
    """the state it was computed from"""
    state: HoldState
    by: str = ""
    reason: str = ""


EXPIRES_SOON: Final = timedelta(days=3)
"""The time before the end of a suppression at which it is announced."""


class SuppressionState(enum.StrEnum):
    """The state of a suppression."""

    WAITING = "waiting"
    """for a second operator: it has no effect yet"""
    ACTIVE = "active"
    ENDED = "ended"
    """by `unsuppress`, or refused by the second operator"""
    EXPIRED = "expired"


@dataclass(frozen=True)
class Suppression:
    """An operator's correction: a digest, or one entry of it, does not match. It is the only record with a digest."""

    id: int
    algorithm: Algorithm
    digest: str = field(repr=False)
    """in hex"""
    entry: str | None = field(repr=False)
    """None: every entry of the digest"""
    list: ListName | None
    """the published list; None: all lists"""
    reason: str
    author: str
    created_at: datetime
    expires_at: datetime | None
    """None: it does not expire"""
    salt: str = field(repr=False)
    """in hex, random: the audit log names a suppression by the hash of salt and digest"""
    state: SuppressionState = SuppressionState.ACTIVE
    rows: int = 0
    """listed entries that it took off when it was made"""
    second: str = ""
    """the operator who confirmed it, if one had to"""
    hold_id: int | None = None
    """the hold in which it waits, or waited, for a second operator"""
    ended_at: datetime | None = None
    ended_by: str = ""
    ended_reason: str = ""
    announced_at: datetime | None = None
    """when its coming end was announced"""
    others_at: datetime | None = None
    """when it was noticed that the digest has another entry, which this suppression does not cover"""

    @property
    def fingerprint(self) -> str:
        """The salted hash that the audit log names it by."""
        return hashlib.sha256(bytes.fromhex(self.salt + self.digest)).hexdigest()

    def expires_soon(self, now: datetime) -> bool:
        """Return True if it is in force and expires within three days."""
        active = self.state is SuppressionState.ACTIVE
        return active and self.expires_at is not None and self.expires_at - now <= EXPIRES_SOON

    def covers(self, name: ListName) -> bool:
        """Return True if it is for this published list."""
        return self.list is None or self.list == name


@dataclass(frozen=True)
class SuppressionChange:
    """The next state of a suppression. ``before``: the state it was computed from."""

    suppression: Suppression
    before: SuppressionState


@dataclass(frozen=True)
class TakenOff:
    """Rows that a changed known-good file took off a list at one time."""

    at: datetime
    rows: int


@dataclass(frozen=True)
class KnownGoodMark:
    """The known-good digests of a list. ``list`` is the published name."""

    list: ListName
    known_good: str = ""
    """see `syncd.pipeline.known_good.KnownGood.name`; empty: nothing, since an older syncd published the list"""
    taken_off: tuple[TakenOff, ...] = ()
    """by changed files, unconfirmed, in the past day"""


@dataclass(frozen=True)
class CanaryNote:
    """The canaries of a list, as the last sync found them. ``list`` is the published name."""

    list: ListName
    must_have: int = 0
    """digests that must be present"""
    missing: int = 0
    """those of them that are not on the published list"""
    kept_out: Mapping[Algorithm, int] = field(default_factory=dict)
    """entries of the partner's that are not published because they are known to be good"""
    fault: str = ""
    """why the configured known-good file cannot be used; empty if it can"""


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
