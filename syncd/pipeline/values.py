"""What the steps of the road hand to one another: a type for each stage. No step is imported here.

``Plan`` -> ``Candidate`` -> ``Verdict``; what is composed of them is `syncd.publish.change.ListChange`.
"""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Discriminator, JsonValue

from syncd.feed.proof import SignedManifest
from syncd.format import manifest as manifests
from syncd.format.manifest import EndState, FileRef, Manifest, ManifestRef, SegmentRef, Sha256, Step, Withheld
from syncd.format.stack import Resolved, Stack
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import HoldReason

LabelCounts = Mapping[Algorithm, Mapping[str, Counts]]


class FullReason(enum.StrEnum):
    """Why a list is fetched whole."""

    FIRST = "first"
    """nothing is held of it yet"""
    CHAIN_GAP = "chain_gap"
    """the deltas that the manifest names do not reach back to what is held"""
    FORKED = "forked"
    """newer, validly signed, and not descended from what is held"""
    LOCAL_LOSS = "local_loss"
    """segments that were held are gone"""
    RETRUSTED = "retrusted"
    """the source was given another root, and this is the first of it"""


@dataclass(frozen=True)
class UpToDate:
    """The upstream's newest version is the one held."""


@dataclass(frozen=True)
class Waiting:
    """The upstream's newest version is one that waits for an operator, or follows it, or was discarded."""


@dataclass(frozen=True)
class Deltas:
    """The steps that lead from what is held to the upstream's newest version, oldest first."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "deltas"


@dataclass(frozen=True)
class Full:
    """The whole list."""

    reason: FullReason

    def __str__(self) -> str:
        return f"full:{self.reason}"


Plan = UpToDate | Deltas | Full


@dataclass(frozen=True)
class Basis:
    """The origin as it is held: its segments, and what they amount to."""

    refs: tuple[SegmentRef, ...] = ()
    stacks: Mapping[Algorithm, Stack] = field(default_factory=dict)
    end_state: Mapping[Algorithm, EndState] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Entries in force."""
        return sum(state.rows for state in self.end_state.values())


class Over(enum.StrEnum):
    """What the delta of a candidate applies to."""

    ORIGIN = "origin"
    HEAD = "head"
    """what the head lacks of the origin was lost on this disk: the delta is the whole difference"""
    NOTHING = "nothing"
    """nothing is published yet, or its segments were lost: the candidate is a whole stack"""


@dataclass(frozen=True)
class Candidate:
    """The next origin as the worker staged it: verified, not yet counted again nor judged."""

    manifest: Manifest
    """the upstream's"""
    sha256: str
    plan: str
    """how it was obtained, for the record"""
    forked: bool
    delta: tuple[SegmentRef, ...]
    """what leads to it, oldest first; empty if it is over nothing"""
    counts: Mapping[Algorithm, Counts]
    labels: LabelCounts
    end_state: Mapping[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """the upstream's whole stack, if it was fetched whole and there was nothing to compare it with"""
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
    """the signed documents behind the manifest, in one"""
    kind: Literal["signed"] = "signed"


@dataclass(frozen=True)
class Stated:
    """An update that a partner states and does not sign."""

    answers: Sha256
    """of the raw answers, which are kept as private evidence"""
    checkpoint: JsonValue
    """from where the partner is asked the next time"""
    kind: Literal["stated"] = "stated"


Vouched = Annotated[Signed | Stated, Discriminator("kind")]


@dataclass(frozen=True)
class Staged:
    """A candidate with what vouches for it: all that judging and publishing need."""

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
        """What is served beside the head's manifest, so that anyone can see who signed; None: nobody did."""
        return self.vouched.evidence if isinstance(self.vouched, Signed) else None

    @property
    def evidence_ref(self) -> FileRef | None:
        """The evidence, by content."""
        content = self.evidence
        return None if content is None else FileRef(sha256=hashlib.sha256(content).hexdigest(), length=len(content))


@dataclass(frozen=True)
class Update:
    """A verified candidate whose delta this process has proved and counted itself, with what vouches for it."""

    source: str
    list: ListName
    """the source's own name for it"""
    staged: Staged
    before: str | None
    """hash of the origin's manifest that it was prepared over; None: there was no origin"""
    growth: Mapping[Algorithm, Mapping[str, int]]
    """by label, by how many entries the origin grows"""
    resolved: Mapping[Algorithm, Resolved] = field(default_factory=dict)
    """by algorithm with one delta segment, what the stack under the delta holds of its keys"""

    @property
    def candidate(self) -> Candidate:
        """What the worker staged."""
        return self.staged.candidate


@dataclass(frozen=True)
class Pending:
    """What the head would become if everything passed, compared with what it is."""

    rows_before: int
    rows_after: int
    withheld: Mapping[Algorithm, Withheld]
    """the rows that would change, by algorithm, those that wait already among them"""
    forked: bool = False
    retired: bool = False
    """the upstream retired the list"""


@dataclass(frozen=True)
class Pass:
    """Goes on."""


@dataclass(frozen=True)
class Hold:
    """Waits."""

    reasons: tuple[HoldReason, ...]


@dataclass(frozen=True)
class Verdict:
    """One judgement for each lane."""

    additions: Pass | Hold
    removals: Pass | Hold

    @property
    def reasons(self) -> tuple[HoldReason, ...]:
        """Every reason to hold, of both lanes, each once."""
        lanes = (self.additions, self.removals)
        return tuple(dict.fromkeys(reason for lane in lanes if isinstance(lane, Hold) for reason in lane.reasons))
