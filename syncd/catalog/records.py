"""The catalog's records, as frozen values. No SQL here.

Times are time zone aware, in UTC; hashes are SHA-256 in hex. No record holds a digest of a list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from syncd.acts import Act
from syncd.format.manifest import EndState, ManifestRef, SegmentRef, Withheld
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Outcome


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
class Position:
    """How far a list of a partner that signs nothing was read."""

    checkpoint: JsonValue
    """the position from which the partner is asked next time; contains no secret"""
    shape: str
    """the SHA-256 of the configuration that decided which rows the list has"""
    poll: int
    """number of the poll of its source, which only rises: lists with a lower one are further behind"""


@dataclass(frozen=True)
class AnswersRecord:
    """A bundle of a partner's raw answers, in its source's own folder, which are kept as evidence."""

    source: str
    list: ListName
    """the source's own name of the list that they changed"""
    sha256: str
    """of the compressed bundle"""
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
    position: Position | None = field(default=None, repr=False)
    """how far it was read; None if the partner signs its lists"""
    answers: str | None = None
    """the SHA-256 of the raw answers that stated it; None if the partner signs its lists"""

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
    mirror: bool = False
    """True if it is a mirror, which serves the lists to matchers of its own"""


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
    via: str = ""
    """the mirror that passed the latest report on, or several joined by "/", the nearest first; "": none"""
