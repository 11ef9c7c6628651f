"""The manifest: the small document that names one snapshot of one list.

It is canonical JSON, checked on the JSON value. An absent field has its default; an unknown field is ignored unless
``critical`` names the feature that it belongs to. ``docs/format.md`` is the specification.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    model_validator,
)

from syncd.errors import ManifestError
from syncd.format.canonical import canonical, read_canonical
from syncd.format.freshness import FARTHEST, MaxAge
from syncd.model import LIST_NAME, Algorithm, AuditHead, Counts, ListName
from syncd.units import brief, stamp

FORMAT: Final = 1
RECENT: Final = 64
"""Maximum number of deltas that a manifest names. A follower further behind loads the stack."""
MAX_MANIFEST_BYTES: Final = 1 << 20
VERSIONS: Final = 1 << 53
"""All versions are below this."""

KNOWN_FEATURES: Final[frozenset[str]] = frozenset()
"""Features in ``critical`` that this reader knows. Format 1 starts with an empty set."""

_KEPT: Final = 32
"""Parsed manifests kept in memory. They never change, and each sync reads those of the last versions again."""

_SHA256: Final = re.compile("[0-9a-f]{64}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
ChecksumText = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Version = Annotated[int, Field(ge=1, lt=VERSIONS)]
Media = Literal["image", "video", "any"]
Purpose = Literal["live", "review", "test"]
Feature = Annotated[str, StringConstraints(pattern="^[a-z0-9][a-z0-9._-]{0,63}$")]


def _whole_utc_seconds(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() != UTC.utcoffset(None) or value.microsecond:
        raise ValueError("a time must be in UTC and whole seconds")
    return value


def _only_form(value: object) -> object:
    if isinstance(value, str):
        if not _TIME.fullmatch(value):
            raise ValueError("a time must be in UTC and whole seconds")
        return datetime.fromisoformat(value)
    return value


Time = Annotated[
    datetime,
    BeforeValidator(_only_form),
    AfterValidator(_whole_utc_seconds),
    PlainSerializer(stamp, return_type=str),
]


def _not_negative(counts: Counts) -> Counts:
    if min(counts.added, counts.relabelled, counts.unchanged, counts.removed, counts.absent) < 0:
        raise ValueError("a count must not be negative")
    return counts


def _is_audit_head(audit: AuditHead) -> AuditHead:
    if not 0 <= audit.records < VERSIONS or not _SHA256.fullmatch(audit.head):
        raise ValueError("an audit head must have a count of records and a SHA-256")
    return audit


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SegmentRef(_Model):
    """A segment file, by content."""

    sha256: Sha256
    length: Count
    """bytes"""
    algorithm: Algorithm
    kind: Literal["base", "delta"]
    rows: Count
    removals: Count


class EndState(_Model):
    """The number of entries in force in a stack of one algorithm, and their checksum."""

    rows: Count
    checksum: ChecksumText


class ManifestRef(_Model):
    """One published manifest of this list."""

    version: Version
    sha256: Sha256


class Step(_Model):
    """One delta. Applied to the stack of ``previous``, it gives ``end_state``."""

    version: Version
    previous: ManifestRef
    segments: tuple[SegmentRef, ...]
    counts: dict[Algorithm, Annotated[Counts, AfterValidator(_not_negative)]]
    end_state: dict[Algorithm, EndState]


class Fold(_Model):
    """A segment of the stack, and the older segments (oldest first) that it was folded from."""

    output: Sha256
    inputs: Annotated[tuple[Sha256, ...], Field(min_length=1)]


class FileRef(_Model):
    """A file beside the manifest, by content."""

    sha256: Sha256
    length: Count


class Origin(_Model):
    """The upstream version that this version was made from, and what vouches for it."""

    serial: Version
    manifest: Sha256
    """the upstream's manifest; if the partner signs nothing, the manifest that the operator made from its answers"""
    evidence: FileRef | None = None
    """the upstream's signed documents, beside the manifest"""
    kind: Literal["signed", "stated"] = "signed"
    """``signed`` by the publisher of the list, or ``stated`` by a partner that signs nothing. Inherited: a list made
    from a stated list is stated"""
    whole: Count | None = None
    """the newest serial whose changes are all in force here, 0 if no serial is; None means ``serial``"""
    answers: Sha256 | None = None
    """hash of the partner's raw answers, which are kept private: matchers can never fetch them"""


class Withheld(_Model):
    """Upstream changes of one algorithm that the operator keeps out of this version."""

    additions: Count = 0
    removals: Count = 0
    relabels: Count = 0
    suppressed: Count = 0
    """entries that the operator suppresses; not counted in the other fields"""


class RetirementNotice(_Model):
    """Notice that this list is no longer published. Look-ups over all lists skip it."""

    since: Time


class Manifest(_Model):
    """One snapshot of one list."""

    format: Literal[1] = FORMAT
    list: Annotated[ListName, StringConstraints(pattern=f"^{LIST_NAME.pattern}$")]
    version: Version
    previous: ManifestRef | None
    created: Time
    min_root: Version = 1
    """A reader with an older trusted root refuses this manifest: a revocation may have been kept from it."""
    end_state: dict[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """The segments to load: for each algorithm at most one base, then its deltas, oldest first."""
    recent: Annotated[tuple[Step, ...], Field(max_length=RECENT)] = ()
    folds: Annotated[tuple[Fold, ...], Field(max_length=RECENT)] = ()
    """Oldest first: an output can only be an input of later folds."""
    origin: Origin | None = None
    critical: Annotated[tuple[Feature, ...], Field(max_length=64)] = ()
    """Features of this manifest or its segments that a reader must know"""
    withheld: dict[Algorithm, Withheld] = Field(default_factory=dict)
    pinned: bool = False
    """True if an operator rolled the list back to an older version and keeps it there"""
    retired: RetirementNotice | None = None
    media: Media = "any"
    purpose: Purpose = "live"
    max_age: MaxAge | None = None
    """None means the reader's own limits"""
    max_distance: Annotated[int, Field(ge=0, le=FARTHEST)] = FARTHEST
    """The most bits in which a near match of PDQ or vPDQ may differ from a digest of this list"""
    audit: Annotated[AuditHead, AfterValidator(_is_audit_head)] | None = None
    """The operator's audit log just before this publication"""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.previous is not None and self.previous.version >= self.version:
            raise ValueError("previous must be an older version")
        _check_refs([*self.stack, *(ref for step in self.recent for ref in step.segments)])
        _check_stack(self.stack)
        _check_end_state(self)
        _check_recent(self)
        _check_folds(self.folds)
        if self.retired and (self.stack or self.recent):
            raise ValueError("a retired list must have an empty stack and no recent deltas")
        return self

    @property
    def rows(self) -> int:
        """Entries in force, over all algorithms."""
        return sum(state.rows for state in self.end_state.values())

    def segments_of(self, algorithm: Algorithm) -> tuple[SegmentRef, ...]:
        """The stack of one algorithm, oldest first."""
        return tuple(ref for ref in self.stack if ref.algorithm == algorithm)

    def named_segments(self) -> Iterator[SegmentRef]:
        """Yield every segment that this manifest names, in the stack or in recent deltas, once."""
        seen = set()
        for ref in (*self.stack, *(ref for step in self.recent for ref in step.segments)):
            if ref.sha256 not in seen:
                seen.add(ref.sha256)
                yield ref

    def steps_from(self, base: ManifestRef) -> tuple[Step, ...] | None:
        """Return the recent deltas that lead from ``base`` to this version; None if they do not reach back to it."""
        steps: list[Step] = []
        wanted = self.version
        for step in reversed(self.recent):
            if step.version != wanted:
                return None
            steps.append(step)
            wanted = step.previous.version
            if wanted == base.version:
                return tuple(reversed(steps)) if step.previous == base else None
        return None


def _check_refs(refs: list[SegmentRef]) -> None:
    known: dict[str, SegmentRef] = {}
    for ref in refs:  # adding, removing and adding the same rows puts one file into a stack twice
        if known.setdefault(ref.sha256, ref) != ref:
            raise ValueError("a segment that is named twice must be described identically")
        if ref.removals > ref.rows:
            raise ValueError("a segment must not have more removals than rows")


def _check_stack(stack: tuple[SegmentRef, ...]) -> None:
    seen: set[Algorithm] = set()
    for ref in stack:
        if ref.kind == "base" and (ref.algorithm in seen or ref.removals):
            raise ValueError("an algorithm has at most one base, which comes first and has no removals")
        seen.add(ref.algorithm)


def _check_end_state(manifest: Manifest) -> None:
    if not manifest.end_state.keys() <= {ref.algorithm for ref in manifest.stack}:
        raise ValueError("an end state must belong to an algorithm in the stack")
    if not all(state.rows for state in manifest.end_state.values()):
        raise ValueError("an algorithm without entries in force must not be in the end state")


def _check_folds(folds: tuple[Fold, ...]) -> None:
    used: set[str] = set()
    for fold in folds:
        used |= set(fold.inputs)
        if fold.output in used:
            raise ValueError("folds must be in order, oldest first, and a segment cannot be folded from itself")


def _check_recent(manifest: Manifest) -> None:
    newer: Step | None = None
    for step in reversed(manifest.recent):
        if newer is None:
            if step.version != manifest.version or step.end_state != manifest.end_state:
                raise ValueError("the newest recent delta must lead to this version's end state")
            if step.previous != manifest.previous:
                raise ValueError("the newest recent delta must apply to the previous manifest")
        elif newer.previous.version != step.version:
            raise ValueError("recent deltas must be consecutive")
        if step.previous.version >= step.version:
            raise ValueError("a delta must lead to a newer version")
        if any(ref.kind != "delta" for ref in step.segments):
            raise ValueError("a recent delta must name only segments of kind delta")
        newer = step


_ADDED: Final[Mapping[str, Any]] = {
    "critical": [],
    "withheld": {},
    "pinned": False,
    "retired": None,
    "media": "any",
    "purpose": "live",
    "max_age": None,
    "max_distance": FARTHEST,
    "audit": None,
}
_ADDED_TO_ORIGIN: Final[Mapping[str, Any]] = {"kind": "signed", "whole": None, "answers": None}
"""Fields that were added to manifests later, with their defaults. A field that has its default is not written, so
that an older manifest is written in the same bytes again."""


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest, which are hashed, signed, stored and served.

    Encoding a parsed manifest need not give the bytes it was parsed from: unknown fields are lost, and another writer
    may write defaults. The hash of a manifest is always the hash of the signed bytes.
    """
    document = _without(manifest.model_dump(mode="json"), _ADDED)
    if document["origin"] is not None:
        document["origin"] = _without(document["origin"], _ADDED_TO_ORIGIN)
    return canonical(document)


def _without(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in defaults or value != defaults[name]}


@lru_cache(maxsize=_KEPT)
def parse(content: bytes) -> Manifest:
    """Parse a manifest whose hash the caller has verified. Raises `ManifestError`."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"the manifest has {len(content)} bytes; at most {MAX_MANIFEST_BYTES} are accepted")
    try:
        value = read_canonical(content)
    except ValueError as error:
        raise ManifestError(f"the manifest is {error}") from None
    _check_critical(value)
    try:
        return Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = brief(".".join(str(part) for part in first["loc"]) or "document")  # the sender chooses the field names
        raise ManifestError(
            f"manifest: {place}: {first['msg']}", hint="if the publisher uses a newer syncd, update syncd on this host"
        ) from None


def _check_critical(value: object) -> None:
    """Raise `ManifestError` if a critical feature is unknown. Checked first: it may change the rest of the format."""
    named = value.get("critical") if isinstance(value, dict) else None
    features = [feature for feature in named if isinstance(feature, str)] if isinstance(named, list) else []
    unknown = [feature for feature in features if feature not in KNOWN_FEATURES]
    if unknown:
        raise ManifestError(
            f"the manifest needs a newer syncd: this one does not know {brief(', '.join(unknown))}",
            hint="update syncd on this host; until then the version that is loaded stays in use",
        )


def now_in_seconds(now: datetime) -> datetime:
    """Return ``now`` in the form of manifests: UTC, whole seconds."""
    return now.astimezone(UTC).replace(microsecond=0)
