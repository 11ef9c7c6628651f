"""The values that the steps of the road hand to one another, one type per stage. This module imports no step.

``Plan`` -> ``Candidate`` -> ``Verdict``. Their result is a `syncd.publish.change.ListChange`.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Discriminator

from syncd.catalog.records import Position
from syncd.feed.proof import SignedManifest
from syncd.format import manifest as manifests
from syncd.format.manifest import EndState, FileRef, Manifest, ManifestRef, SegmentRef, Sha256, Step
from syncd.format.stack import Resolved, Stack
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Finding, HoldReason

LabelCounts = Mapping[Algorithm, Mapping[str, Counts]]


class FullReason(enum.StrEnum):
    """The reason why a list is fetched whole."""

    FIRST = "first"
    """no version of it is held yet"""
    CHAIN_GAP = "chain_gap"
    """the deltas that the manifest names do not reach back to the held version"""
    FORKED = "forked"
    """newer, validly signed, but not descended from the held version"""
    LOCAL_LOSS = "local_loss"
    """held segments were lost"""
    RETRUSTED = "retrusted"
    """the source was given another root, and this is the first version under it"""
    RESHAPED = "reshaped"
    """the configuration of a source that signs nothing gives its lists other rows than before"""
    RESTATED = "restated"
    """a source that signs nothing stated its whole content, such as after its checkpoint had become too old"""


@dataclass(frozen=True)
class UpToDate:
    """The upstream's newest version is the held one."""


@dataclass(frozen=True)
class Waiting:
    """The upstream's newest version waits for an operator, follows one that does, or was discarded."""


@dataclass(frozen=True)
class Unchanged:
    """A partner that signs nothing was read to the end and stated nothing new."""

    position: Position


@dataclass(frozen=True)
class Deltas:
    """The steps from the held version to the upstream's newest, oldest first."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "deltas"


@dataclass(frozen=True)
class Full:
    """A plan to fetch the whole list."""

    reason: FullReason

    def __str__(self) -> str:
        return f"full:{self.reason}"


Plan = UpToDate | Deltas | Full


@dataclass(frozen=True)
class Basis:
    """A held state that a delta applies to: its segments, and the end state that they give."""

    refs: tuple[SegmentRef, ...] = ()
    stacks: Mapping[Algorithm, Stack] = field(default_factory=dict)
    end_state: Mapping[Algorithm, EndState] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Entries in force."""
        return sum(state.rows for state in self.end_state.values())


class Over(enum.StrEnum):
    """The basis that a candidate's delta applies to."""

    ORIGIN = "origin"
    HEAD = "head"
    """``owed`` was lost on this disk, so the delta is the whole difference"""
    NOTHING = "nothing"
    """nothing is published yet, or its segments were lost, so the candidate is a whole stack"""


@dataclass(frozen=True)
class Candidate:
    """The next origin as the worker staged it: verified, not yet recounted or judged."""

    manifest: Manifest
    """the upstream's"""
    sha256: str
    plan: str
    """the plan that it came from, for the record"""
    forked: bool
    delta: tuple[SegmentRef, ...]
    """the segments that lead to it, oldest first; empty if it is over nothing"""
    counts: Mapping[Algorithm, Counts]
    labels: LabelCounts
    end_state: Mapping[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """the upstream's whole stack, if it was fetched whole and there was no basis to compare it with"""
    over: Over

    @property
    def ref(self) -> ManifestRef:
        """The upstream's serial and manifest hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)

    @property
    def total(self) -> Counts:
        """Counts over all algorithms."""
        return sum(self.counts.values(), Counts())

    @property
    def rows(self) -> int:
        """Entries in force."""
        return sum(state.rows for state in self.end_state.values())


@dataclass(frozen=True)
class Signed:
    """An update that a trusted role signed."""

    signed: SignedManifest
    evidence: bytes = field(repr=False)
    """the signed documents that vouch for the manifest, as one document"""
    kind: Literal["signed"] = "signed"


@dataclass(frozen=True)
class Stated:
    """An update that a partner states but does not sign."""

    answers: Sha256
    """hash of the raw answers, which are kept as private evidence"""
    position: Position
    """how far the partner was read"""
    at: datetime
    """when it was read to the end"""
    kind: Literal["stated"] = "stated"


Vouched = Annotated[Signed | Stated, Discriminator("kind")]


@dataclass(frozen=True)
class Staged:
    """A candidate with its proof: everything that judging and publishing need."""

    candidate: Candidate
    vouched: Vouched

    @property
    def content(self) -> bytes:
        """The exact bytes of the origin's next manifest."""
        match self.vouched:
            case Signed(signed=signed):
                return signed.content
            case Stated():
                return manifests.encode(self.candidate.manifest)

    @property
    def evidence(self) -> bytes | None:
        """The signed documents to serve beside the head's manifest; None if nobody signed."""
        return self.vouched.evidence if isinstance(self.vouched, Signed) else None

    @property
    def evidence_ref(self) -> FileRef | None:
        """The hash and length of the evidence."""
        content = self.evidence
        return None if content is None else FileRef(sha256=hashlib.sha256(content).hexdigest(), length=len(content))


@dataclass(frozen=True)
class Update:
    """A verified candidate whose delta this process has proved and counted itself."""

    source: str
    list: ListName
    """its name at the source"""
    staged: Staged
    before: str | None
    """hash of the origin's manifest that it was prepared over; None if there was no origin"""
    growth: Mapping[Algorithm, Mapping[str, int]]
    """by label: entries by which the origin grows"""
    resolved: Mapping[Algorithm, Resolved] = field(default_factory=dict)
    """for algorithms with one delta segment: the rows that the stack under it holds for its keys"""

    @property
    def candidate(self) -> Candidate:
        """The candidate that the worker staged."""
        return self.staged.candidate


@dataclass(frozen=True)
class Change:
    """A pending change of one algorithm or label. For a label, ``added`` and ``removed`` are net."""

    rows: int = 0
    """on the head now"""
    added: int = 0
    removed: int = 0
    relabelled: int = 0

    @property
    def after(self) -> int:
        """Rows on the head if it passed."""
        return self.rows + self.added - self.removed


class Period(enum.StrEnum):
    """A sliding period over which the gate adds changes up."""

    length: timedelta

    def __new__(cls, value: str, length: timedelta) -> "Period":
        """Make a member whose value is the text alone."""
        member = str.__new__(cls, value)
        member._value_, member.length = value, length
        return member

    DAY = "24 hours", timedelta(days=1)
    WEEK = "7 days", timedelta(days=7)


@dataclass(frozen=True)
class Window:
    """Published changes of one algorithm in a past period, or since an operator's act that accepted such a change."""

    largest: int = 0
    """the most rows that a head in force in the period had"""
    added: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Pending:
    """The pending difference: the head if everything passed, compared with the present one.

    It includes the rows that wait already, and not those that an operator discarded or suppressed.
    """

    rows_before: int
    rows_after: int
    algorithms: Mapping[str, Change] = field(default_factory=dict)
    labels: Mapping[str, Change] = field(default_factory=dict)
    windows: Mapping[Period, Mapping[str, Window]] = field(default_factory=dict)
    """by period and algorithm"""
    label_windows: Mapping[Period, Mapping[str, Window]] = field(default_factory=dict)
    """by period and label"""
    serial_jump: int = 0
    """by how much the upstream's serial rose"""
    first: bool = False
    """true if nothing of the list was published yet"""
    forked: bool = False
    retired: bool = False
    """the upstream retired the list"""
    read: int = 0
    """rows of the files that it was made from, if it was not received as a delta"""
    skipped: int = 0
    """bad rows among them, which were left out"""
    must_have: int = 0
    """digests that must be present"""
    missing: int = 0
    """those of them that the list has now, or that its first version lacks, and that would be absent"""
    known_good: int = 0
    """rows of this update that are kept out because they are known to be good"""

    @property
    def growth(self) -> int:
        """Entries by which the head would grow."""
        return self.rows_after - self.rows_before

    def window(self, period: Period, algorithm: str) -> Window:
        """Return the changes of one algorithm in a period."""
        return self.windows.get(period, {}).get(algorithm, Window())

    def label_window(self, period: Period, label: str) -> Window:
        """Return the net changes of one label in a period."""
        return self.label_windows.get(period, {}).get(label, Window())


@dataclass(frozen=True)
class Pass:
    """The lane goes live."""


@dataclass(frozen=True)
class Hold:
    """The lane waits for an operator."""

    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[HoldReason, ...]:
        """The reasons of its findings, each once."""
        return tuple(dict.fromkeys(finding.reason for finding in self.findings))


@dataclass(frozen=True)
class Verdict:
    """The gate's judgement of each lane."""

    additions: Pass | Hold
    removals: Pass | Hold

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding in either lane, each once."""
        lanes = (self.additions, self.removals)
        return tuple(dict.fromkeys(found for lane in lanes if isinstance(lane, Hold) for found in lane.findings))

    @property
    def reasons(self) -> tuple[HoldReason, ...]:
        """Every reason to hold in either lane, each once."""
        return tuple(dict.fromkeys(found.reason for found in self.findings))
