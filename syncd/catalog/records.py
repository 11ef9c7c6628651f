"""What the catalog keeps, as frozen values. No SQL here.

Times are aware and UTC; hashes are SHA-256 in hex. No record holds a digest of a list.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from syncd.acts import Act
from syncd.format.manifest import EndState, ManifestRef, SegmentRef, Withheld
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import HoldReason, Lane, Outcome


@dataclass(frozen=True)
class SourceState:
    """What is remembered of a source between syncs."""

    name: str
    memory: Mapping[str, JsonValue] = field(default_factory=dict)
    """what its kind remembers, see `syncd.sources.source.Memory`; empty until a sync has verified something"""
    last_attempt_at: datetime | None = None
    last_verified_at: datetime | None = None
    next_run_at: datetime | None = None
    """when the daemon syncs it next; None: it never did"""
    cool_down_until: datetime | None = None
    """until when it is left alone, since it could not be reached or asked for patience"""
    failures: int = 0
    """syncs in a row that did not reach it"""


@dataclass(frozen=True)
class SyncFault:
    """What a list, or the whole of a sync, came to that was not good."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """each a `HoldReason`, or the kind of an error"""
    message: str = ""


@dataclass(frozen=True)
class SyncRecord:
    """One attempt for one source. ``bytes`` of bodies were received from it."""

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
    """by published list; ``""``: the whole of it"""

    @property
    def told(self) -> Mapping[str, SyncFault]:
        """``faults``; of a sync that told nothing of its lists (it was killed, say), how the whole of it ended."""
        if self.faults or self.outcome.good or self.outcome is Outcome.RUNNING:
            return self.faults
        return {"": SyncFault(self.outcome, self.reasons, self.message)}


RETRUSTED: Final = 0
"""The serial of an origin whose source was given another root: of that, nothing is verified yet."""


@dataclass(frozen=True)
class OriginRecord:
    """A source's list as its signer stated it: the head's stack, and ``owed`` on top of it.

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
    """what the head lacks of the origin: private deltas in the source's own folder"""
    refused: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """rows that an operator discarded and that the partner has not touched since, one segment an algorithm"""
    waiting: Mapping[Algorithm, Withheld] = field(default_factory=dict, repr=False)
    """counts of ``owed`` that wait for an operator, and of suppressed entries"""
    discarded: Mapping[Algorithm, Withheld] = field(default_factory=dict, repr=False)
    """counts of ``owed`` that an operator discarded"""
    evidence: bytes | None = field(default=None, repr=False)
    """the signed documents that vouch for it; None: they are those of the head"""
    fork: ManifestRef | None = None
    """the newest upstream version that does not descend from this one, held or discarded"""
    revision: int = 1
    """counts every change of this record"""

    @property
    def rows(self) -> int:
        """Entries in force."""
        return sum(state.rows for state in self.end_state.values())


def head_name(source: str, name: ListName) -> ListName:
    """Return the name under which a source's list is published: ``<source>.<list>``."""
    return ListName(f"{source}.{name}")


@dataclass(frozen=True)
class HeadRecord:
    """What is published of a list now. ``origin_serial`` is None where it follows no source."""

    list: ListName
    source: str
    version: int
    manifest_sha256: str
    origin_serial: int | None
    published_at: datetime
    retired_at: datetime | None = None
    """since when it is no longer published; None: it is"""


@dataclass(frozen=True)
class VersionRecord:
    """One published version of a list, with the exact manifest bytes that were signed. ``rows`` are in force."""

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
    """How one list of a source stands, at one moment."""

    origin: "OriginRecord | None"
    version: VersionRecord | None
    """the one in force"""
    holds: "tuple[HoldRecord, ...]"
    """those that are open or discarded"""


@dataclass(frozen=True)
class VersionSummary:
    """One published version without its manifest, which is most of it."""

    version: int
    created_at: datetime
    plan: str
    counts: Mapping[Algorithm, Counts]
    rows: int


@dataclass(frozen=True)
class AuditEntry:
    """Who did what, and when."""

    at: datetime
    actor: str
    act: Act


@dataclass(frozen=True)
class AuditRecord:
    """An entry in its place in the audit log. ``sha256`` vouches for it and for all before it."""

    number: int
    entry: AuditEntry
    sha256: str


@dataclass(frozen=True)
class MatcherRecord:
    """Who may pull: a matcher, and the hash of its token. ``lists`` None: all."""

    name: str
    token_sha256: str = field(repr=False)
    lists: tuple[ListName, ...] | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None


@dataclass(frozen=True)
class LoadedVersion:
    """The version of one list that one instance (process or host) of a matcher has loaded, as it said itself."""

    matcher: str
    instance: str
    list: ListName
    version: int
    loaded_at: datetime
    """when it first said so"""
    seen_at: datetime
    """when it last did"""


class HoldState(enum.StrEnum):
    """How a hold stands."""

    OPEN = "open"
    """it waits for an operator"""
    RELEASED = "released"
    DISCARDED = "discarded"
    """its rows are refused until the partner touches them, or somebody releases it after all"""
    WITHDRAWN = "withdrawn"
    """the partner took back what waited, or the list was retired"""
    PASSED = "passed"
    """judged again without another hold of its lane, it passed"""
    REPLACED = "replaced"
    """another hold waits in its place"""


@dataclass(frozen=True)
class UpdateRecord:
    """A verified update that waits: what was staged, as the pipeline wrote it. ``list`` is the published name."""

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
    id: int = 0
    """0 until it is committed"""

    @property
    def sha256(self) -> str:
        """What identifies exactly these rows."""
        named = sorted(f"{ref.algorithm}:{ref.sha256}" for ref in self.segments)
        return hashlib.sha256(",".join(named).encode()).hexdigest()


@dataclass(frozen=True)
class HoldEnd:
    """How a hold ends."""

    id: int
    before: HoldState
    """the state it was computed from"""
    state: HoldState
    by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class OriginMove:
    """The next state of a source's list. ``before``: the revision that it was computed from; 0: there was none."""

    origin: OriginRecord
    before: int


@dataclass(frozen=True)
class OriginDrop:
    """A source's list that is followed no longer. ``before``: the revision that this was computed from."""

    source: str
    list: ListName
    """the source's own name for it"""
    before: int


@dataclass(frozen=True)
class HeadNote:
    """What the catalog notes of a head's new version, beside its manifest."""

    source: str
    origin_serial: int | None
    plan: str
    sync_id: str | None = None
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    """what its delta did"""
    labels: Mapping[Algorithm, Mapping[str, int]] | None = None
    """entries in force by label; None: as in the version before"""


@dataclass(frozen=True)
class Records:
    """What one publication changes in the catalog, beside heads and signed files."""

    origins: tuple[OriginMove, ...] = ()
    notes: Mapping[ListName, HeadNote] = field(default_factory=dict)
    """for every head that moves"""
    dropped: tuple[OriginDrop, ...] = ()
    update: UpdateRecord | None = None
    """an update that waits, for the holds that are opened"""
    opened: tuple[HoldRecord, ...] = ()
    ended: tuple[HoldEnd, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
