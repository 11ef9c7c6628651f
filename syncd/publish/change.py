"""The next manifest from a change of a list, and signed files from manifests; all in memory. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from syncd.feed import layout
from syncd.format import manifest as manifests
from syncd.format.freshness import MaxAge
from syncd.format.manifest import (
    RECENT,
    EndState,
    Fold,
    Manifest,
    Media,
    Origin,
    Purpose,
    RetirementNotice,
    SegmentRef,
    Step,
    Withheld,
)
from syncd.model import Algorithm, AuditHead, Counts, ListName
from syncd.publish.ledger import CurrentVersion, HeadMove, SignedFiles
from syncd.trust.keys import Signers
from syncd.trust.repository import Freshness, Repository, SignedTarget


@dataclass(frozen=True)
class ListChange:
    """The next version of a list before it has a number: its delta, the delta's effect and the end state."""

    list: ListName
    segments: tuple[SegmentRef, ...]
    """the delta; empty if only the stack changes (compaction) or there was no version before"""
    counts: Mapping[Algorithm, Counts]
    end_state: Mapping[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """all segments to load, including the delta"""
    folds: tuple[Fold, ...] = ()
    """folds of the stack's segments that this change made"""
    origin: Origin | None = None
    whole: bool = False
    """true if no delta leads here: followers load the whole stack"""
    withheld: Mapping[Algorithm, Withheld] = field(default_factory=dict)
    """counts of upstream changes kept out of this version"""
    retired: datetime | None = None
    """the time the list was retired; its stack is then empty"""
    critical: tuple[str, ...] | None = None
    """None, here and down to ``max_distance``: as in the version before"""
    pinned: bool | None = None
    media: Media | None = None
    purpose: Purpose | None = None
    max_age: MaxAge | None = None
    max_distance: int | None = None
    audit: AuditHead | None = None
    """None: the manifest states no audit head"""


def next_manifest(
    current: CurrentVersion | None, change: ListChange, *, created: datetime, min_root: int, above: int = 0
) -> Manifest:
    """Return the manifest that follows ``current``. ``above``: its version number will be higher. Pure."""
    before = current.manifest if current else None
    version = max(before.version if before else 0, above) + 1
    without_delta = change.whole or change.retired is not None
    recent = before.recent if before and not without_delta else ()
    if current and not without_delta:
        step = Step(
            version=version,
            previous=current.ref,
            segments=change.segments,
            counts=dict(change.counts),
            end_state=dict(change.end_state),
        )
        recent = (*recent, step)[-RECENT:]
    return Manifest(
        list=change.list,
        version=version,
        previous=current.ref if current else None,
        created=manifests.now_in_seconds(created),
        min_root=min_root,
        end_state=dict(change.end_state),
        stack=change.stack,
        recent=recent,
        folds=_useful_folds((*(before.folds if before else ()), *change.folds), change.stack),
        origin=change.origin,
        withheld=dict(change.withheld),
        retired=RetirementNotice(since=manifests.now_in_seconds(change.retired)) if change.retired else None,
        audit=change.audit,
        **_inherited(change, before),
    )


_INHERITED: Final = ("critical", "pinned", "media", "purpose", "max_age", "max_distance")


def _inherited(change: ListChange, before: Manifest | None) -> dict[str, Any]:
    """Return the fields that a list keeps from version to version unless ``change`` sets them."""
    held = {name: getattr(before, name) for name in _INHERITED} if before else {}
    return held | {name: value for name in _INHERITED if (value := getattr(change, name)) is not None}


def _useful_folds(folds: Sequence[Fold], stack: Sequence[SegmentRef]) -> tuple[Fold, ...]:
    """Return the folds that lead to a segment of the stack, directly or through other folds."""
    wanted = {ref.sha256 for ref in stack}
    kept: list[Fold] = []
    for fold in reversed(folds):  # newest first: an output is an input only of later folds
        if fold.output in wanted:
            kept.insert(0, fold)
            wanted |= set(fold.inputs)
    used: set[str] = set()
    lasting: list[Fold] = []
    for fold in kept[-RECENT:]:
        used |= set(fold.inputs)
        if fold.output not in used:  # else rows came and went, and an older segment has the same bytes
            lasting.append(fold)
    return tuple(lasting)


def head_move(current: CurrentVersion | None, manifest: Manifest) -> HeadMove:
    """Return the move of a list's head from ``current`` to ``manifest``, with the manifest's exact bytes."""
    content = manifests.encode(manifest)
    before = current.manifest.version if current else None
    return HeadMove(manifest, hashlib.sha256(content).hexdigest(), content, before)


def sign(
    repository: Repository,
    published: Sequence[HeadMove],
    freshness: Mapping[str, Freshness],
    signers: Signers,
    now: datetime,
    above: int = 0,
    audit: AuditHead | None = None,
) -> SignedFiles:
    """Sign the manifests of ``published`` into the feed, in memory; return the exact files to commit.

    ``above`` and ``audit``: as in `Repository.publish`.
    """
    targets = {}
    for move in published:
        name = layout.target_name(move.manifest.list)
        targets[name] = SignedTarget(name, move.manifest.version, move.sha256, len(move.content))
    update = repository.publish(targets, freshness, signers, now, above, audit)
    documents = [(layout.manifest_path(move.manifest.list, move.sha256), move.content) for move in published]
    return (*documents, *metadata_files(update.files))


def metadata_files(files: Sequence[tuple[str, bytes]]) -> SignedFiles:
    """Return signed metadata files with their paths in the feed."""
    return tuple((f"{layout.METADATA}/{name}", content) for name, content in files)
