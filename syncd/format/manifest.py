"""The manifest: the small document that names one snapshot of one list.

Canonical JSON (RFC 8785; the values are strings of ASCII, integers, arrays and objects, so sorting keys and leaving
out white space is all that the standard asks). ``docs/format.md`` is the specification.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    model_validator,
)

from syncd.errors import ManifestError
from syncd.model import LIST_NAME, Algorithm, Counts, ListName
from syncd.units import brief, stamp

FORMAT: Final = 1
RECENT: Final = 64
"""Deltas that a manifest names; a follower further behind loads the stack."""
MAX_MANIFEST_BYTES: Final = 1 << 20
VERSIONS: Final = 1 << 53
"""Versions are below it."""

_KEPT: Final = 32
"""Manifests kept in memory once parsed: each sync reads those of the last versions again. They never change."""

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
ChecksumText = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Version = Annotated[int, Field(ge=1, lt=VERSIONS)]


def _whole_utc_seconds(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() != UTC.utcoffset(None) or value.microsecond:
        raise ValueError("a time is UTC in whole seconds")
    return value


Time = Annotated[
    datetime,
    AfterValidator(_whole_utc_seconds),
    PlainSerializer(stamp, return_type=str),
]


def _not_negative(counts: Counts) -> Counts:
    if min(counts.added, counts.relabelled, counts.unchanged, counts.removed, counts.absent) < 0:
        raise ValueError("a count is not negative")
    return counts


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    """What a stack of one algorithm amounts to: entries in force, and their checksum."""

    rows: Count
    checksum: ChecksumText


class ManifestRef(_Model):
    """One published manifest of this list."""

    version: Version
    sha256: Sha256


class Step(_Model):
    """One delta: applied to the stack of ``previous`` it gives ``end_state``."""

    version: Version
    previous: ManifestRef
    segments: tuple[SegmentRef, ...]
    counts: dict[Algorithm, Annotated[Counts, AfterValidator(_not_negative)]]
    end_state: dict[Algorithm, EndState]


class Fold(_Model):
    """A segment of the stack and the older ones, oldest first, that it was folded from."""

    output: Sha256
    inputs: Annotated[tuple[Sha256, ...], Field(min_length=1)]


class FileRef(_Model):
    """A file beside the manifest, by content."""

    sha256: Sha256
    length: Count


class Origin(_Model):
    """Where this version came from: the upstream's serial, its signed manifest, and the signed metadata as evidence."""

    serial: Version
    manifest: Sha256
    evidence: FileRef | None = None


class Manifest(_Model):
    """One snapshot of one list."""

    format: Literal[1] = FORMAT
    list: Annotated[ListName, StringConstraints(pattern=f"^{LIST_NAME.pattern}$")]
    version: Version
    previous: ManifestRef | None
    created: Time
    min_root: Version = 1
    """A reader whose trusted root is older has been kept from a revocation and refuses this manifest."""
    end_state: dict[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """What to load: for each algorithm at most one base, then its deltas, oldest first."""
    recent: Annotated[tuple[Step, ...], Field(max_length=RECENT)] = ()
    folds: Annotated[tuple[Fold, ...], Field(max_length=RECENT)] = ()
    """Oldest first: an output is an input of later folds only."""
    origin: Origin | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.previous is not None and self.previous.version >= self.version:
            raise ValueError("previous must be an older version")
        _check_refs([*self.stack, *(ref for step in self.recent for ref in step.segments)])
        _check_stack(self.stack)
        _check_end_state(self)
        _check_recent(self)
        _check_folds(self.folds)
        return self

    @property
    def rows(self) -> int:
        """Entries in force, over all algorithms."""
        return sum(state.rows for state in self.end_state.values())

    def segments_of(self, algorithm: Algorithm) -> tuple[SegmentRef, ...]:
        """The stack of one algorithm, oldest first."""
        return tuple(ref for ref in self.stack if ref.algorithm == algorithm)

    def named_segments(self) -> Iterator[SegmentRef]:
        """Every segment that this manifest names, in the stack or in recent deltas; each once."""
        seen = set()
        for ref in (*self.stack, *(ref for step in self.recent for ref in step.segments)):
            if ref.sha256 not in seen:
                seen.add(ref.sha256)
                yield ref

    def steps_from(self, base: ManifestRef) -> tuple[Step, ...] | None:
        """The recent deltas that lead from ``base`` to this version; None where they do not reach back to it."""
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
    for ref in refs:  # an addition, its withdrawal and the addition again give one file twice in a stack
        if known.setdefault(ref.sha256, ref) != ref:
            raise ValueError("a segment named twice is described in one way")
        if ref.removals > ref.rows:
            raise ValueError("a segment has no more removals than rows")


def _check_stack(stack: tuple[SegmentRef, ...]) -> None:
    seen: set[Algorithm] = set()
    for ref in stack:
        if ref.kind == "base" and (ref.algorithm in seen or ref.removals):
            raise ValueError("a base comes first, once, and removes nothing")
        seen.add(ref.algorithm)


def _check_end_state(manifest: Manifest) -> None:
    if not manifest.end_state.keys() <= {ref.algorithm for ref in manifest.stack}:
        raise ValueError("an end state has a stack")
    if not all(state.rows for state in manifest.end_state.values()):
        raise ValueError("an algorithm with no entry in force is left out of the end state")


def _check_folds(folds: tuple[Fold, ...]) -> None:
    used: set[str] = set()
    for fold in folds:
        used |= set(fold.inputs)
        if fold.output in used:
            raise ValueError("folds come oldest first, and none is made of itself")


def _check_recent(manifest: Manifest) -> None:
    newer: Step | None = None
    for step in reversed(manifest.recent):
        if newer is None:
            if step.version != manifest.version or step.end_state != manifest.end_state:
                raise ValueError("the newest recent delta must give this version's end state")
            if step.previous != manifest.previous:
                raise ValueError("the newest recent delta must apply to the previous manifest")
        elif newer.previous.version != step.version:
            raise ValueError("recent deltas must be consecutive")
        if step.previous.version >= step.version:
            raise ValueError("a delta leads to a newer version")
        if any(ref.kind != "delta" for ref in step.segments):
            raise ValueError("a recent delta names segments of the kind delta")
        newer = step


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest: what is hashed, signed, stored and served."""
    return canonical(manifest.model_dump(mode="json"))


def canonical(value: object) -> bytes:
    """Return canonical JSON. For the values of this format: no floats, ASCII keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


@lru_cache(maxsize=_KEPT)
def parse(content: bytes) -> Manifest:
    """Read a manifest; raises `ManifestError`. The caller has verified the hash of ``content``."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"a manifest of {len(content)} bytes exceeds the cap of {MAX_MANIFEST_BYTES}")
    try:
        manifest = Manifest.model_validate_json(content, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = brief(".".join(str(part) for part in first["loc"]) or "document")  # a field's name is the sender's
        raise ManifestError(
            f"manifest: {place}: {first['msg']}", hint="the publisher's syncd may be newer than this one"
        ) from None
    if encode(manifest) != content:
        raise ManifestError("manifest is not canonical JSON")
    return manifest


def now_in_seconds(now: datetime) -> datetime:
    """Return ``now`` as manifests state times: UTC, whole seconds."""
    return now.astimezone(UTC).replace(microsecond=0)
