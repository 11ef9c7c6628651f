"""Records of what operators decide: holds, suppressions, and digests that are known to be good.

Only a suppression holds a digest.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from syncd.format.manifest import SegmentRef
from syncd.model import Algorithm, ListName
from syncd.outcomes import Finding, HoldReason, Lane


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

    @property
    def is_of_known_good_file(self) -> bool:
        """True if a changed known-good file waits for a second operator, rather than rows or suppressions."""
        return self.lane is Lane.SUPPRESSIONS and HoldReason.KNOWN_GOOD_FILE in self.reasons


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
