"""Following a feed: signed metadata, one manifest, the segments it names. Used by a sync and by a matcher's pull.

Everything is verified: metadata by the trust root, a manifest by the hash that a role signed, a segment by the hash in
the manifest, and its content by `Segment.check`. Nothing is mapped before its hash is verified.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from syncd.errors import SyncdError
from syncd.feed import layout
from syncd.feed.folder import TRUST, FeedFolder
from syncd.feed.near_indexes import index_fold
from syncd.feed.proof import SignedManifest, prove_manifest, target_of
from syncd.feed.reproof import Pause, prove_segment
from syncd.feed.unfolded import Unfolded
from syncd.fetch import Download, Peer, Progress, download_all
from syncd.files import check_room, make_folder, storage
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.manifest import Manifest, SegmentRef
from syncd.format.segment import RowProgress, Segment, ignore_progress
from syncd.format.stack import Stack
from syncd.format.writer import fold
from syncd.model import ListName
from syncd.trust import client
from syncd.trust.values import Floors, TrustedFeed

_PRIVATE: Final = 0o700
_LARGE: Final = 16 << 20
"""A fold of at least this many bytes of inputs may be made later: until it ends, a newer version may have come."""


class Follower:
    """Follows one peer's feed into ``folder``, trusting ``root`` (bytes received out of band).

    ``clock_cure``: the hint for a clock that is right now, but was ahead at the last verification.
    """

    def __init__(
        self, folder: FeedFolder, root: bytes, peer: Peer, caps: Caps = DEFAULT_CAPS, *, clock_cure: str
    ) -> None:
        self._folder, self._root, self._peer, self._caps = folder, root, peer, caps
        self._clock_cure = clock_cure

    @property
    def trust_folder(self) -> Path:
        """The folder with the metadata client's own state."""
        return self._folder.work / TRUST

    @property
    def root_sha256(self) -> str:
        """The hash of the trusted root."""
        return hashlib.sha256(self._root).hexdigest()

    @property
    def received(self) -> int:
        """Bytes of bodies received from the peer so far, used or not."""
        return self._peer.meter.total

    def refresh(self, floors: Floors, now: datetime) -> TrustedFeed:
        """Fetch and verify the newest metadata. Raises `SourceError`, `TrustError`, `RefusedError`, `StoreError`."""
        make_folder(self._folder.work, _PRIVATE)
        return client.refresh(
            self.trust_folder, self._root, self._peer, floors=floors, now=now, clock_cure=self._clock_cure
        )

    def manifest(self, trusted: TrustedFeed, name: ListName) -> SignedManifest:
        """Fetch a list's newest manifest. Raises as `prove_manifest`, and `SourceError`."""
        target = target_of(trusted, name)
        content = self._peer.get_named(layout.manifest_path(name, target.sha256), target.length)
        return prove_manifest(trusted, name, content)

    def obtain(
        self,
        name: ListName,
        manifest: Manifest,
        held: Iterable[SegmentRef] = (),
        progress: Progress | None = None,
        *,
        fold_later: Callable[[SegmentRef], bool] = lambda _: False,
    ) -> Unfolded:
        """Bring the whole stack of ``manifest`` into the folder, folding segments here if that downloads less.

        ``held``: segments named before, which may be inputs of folds. ``fold_later``: called with the output of each
        large fold; if it returns True, the fold is left to the caller. Returns the folds that were left; all their
        inputs are in the folder. Raises as `fetch`, and `SegmentError`.
        """
        plan = plan_fetch(manifest, held, lambda ref: not self._folder.missing(name, [ref]))
        self.fetch(name, plan.downloads, progress)
        later: dict[str, tuple[SegmentRef, ...]] = {}
        for ref, inputs in plan.folds:
            if _can_wait(manifest, ref, inputs) and fold_later(ref):
                later[ref.sha256] = inputs
            elif not self._fold(name, ref, inputs):
                self.fetch(name, [ref], progress)
        self._check_widths(name, manifest)
        return later

    def _check_widths(self, name: ListName, manifest: Manifest) -> None:
        """Raise `SegmentError` if widths differ: each segment is checked alone, and no manifest states widths."""
        for algorithm in {ref.algorithm for ref in manifest.stack if ref.algorithm.known_width is None}:
            refs = manifest.segments_of(algorithm)
            Stack(algorithm, [Segment.open(self._folder.segment_path(name, ref), ref) for ref in refs])

    def _fold(self, name: ListName, ref: SegmentRef, inputs: Sequence[SegmentRef]) -> bool:
        try:
            return fold_here(self._folder, name, ref, inputs)
        except SyncdError:  # whatever is wrong here, the peer has the signed bytes
            return False

    def fetch(
        self,
        name: ListName,
        refs: Sequence[SegmentRef],
        progress: Progress | None = None,
        checked: RowProgress = ignore_progress,
    ) -> None:
        """Bring the missing ones of ``refs`` into the folder, each verified whole.

        ``checked`` is called with the number of rows while they are checked. Raises as `Peer.download`, `SegmentError`,
        and `StoreError` if they do not fit, before anything is fetched. If the disk is too small or full, partial
        downloads are removed: space for other work is worth more than resuming them.
        """
        staging = make_folder(self._folder.downloads, _PRIVATE)
        missing = self._folder.missing(name, {ref.sha256: ref for ref in refs}.values())  # a stack may name one twice
        jobs = [
            Download(layout.segment_path(name, ref.sha256), staging / ref.sha256, ref.length, ref.sha256)
            for ref in missing
        ]
        with self._folder.discard_scratch_if_full():
            if jobs:
                check_room(staging, sum(job.length - _size(job.target) for job in jobs), "fetch")
            download_all(self._peer, jobs, progress=progress)
            for ref in missing:
                staged = staging / ref.sha256
                Segment.check_all_but_hash(staged, ref, self._caps, checked)
                self._folder.install_segment(name, ref, staged)


def fold_here(
    folder: FeedFolder,
    name: ListName,
    ref: SegmentRef,
    inputs: Sequence[SegmentRef],
    *,
    suffix: str = "fold",
    pause: Pause = ignore_progress,
) -> bool:
    """Fold a segment from its inputs; return False if the result is not the signed bytes.

    ``suffix``: of the file's temporary name. ``pause``: called after each piece, with a number of bytes or rows. Raises
    `StoreError`, and `FeedError` for damaged inputs.
    """
    path = make_folder(folder.downloads, _PRIVATE) / f"{ref.sha256}.{suffix}"
    try:
        paths = [(used, folder.segment_path(name, used)) for used in inputs]
        for used, place in paths:  # hashed first: if the disk has damaged columns, they could point outside the file
            prove_segment(place, used, pause)
        if fold([Segment.open(place, used) for used, place in paths], ref.kind, path, pause) != ref:
            return False
        index_fold(folder, ref, inputs, path, pause)
        folder.install_segment(name, ref, path)
        return True
    finally:
        with contextlib.suppress(OSError):  # what stays is removed with old partial downloads
            path.unlink(missing_ok=True)


def _can_wait(manifest: Manifest, ref: SegmentRef, inputs: Sequence[SegmentRef]) -> bool:
    """Return True if a large segment can be read from its inputs for a while: no other fold and no check needs it."""
    large = sum(used.length for used in inputs) >= _LARGE
    return large and ref in manifest.stack and ref.algorithm.known_width is not None


def _size(path: Path) -> int:
    with storage(path, "read"):
        return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class FetchPlan:
    """How to obtain a stack: segments to download, then segments to fold, in this order, each from its inputs."""

    downloads: tuple[SegmentRef, ...]
    folds: tuple[tuple[SegmentRef, tuple[SegmentRef, ...]], ...]


def plan_fetch(manifest: Manifest, held: Iterable[SegmentRef], is_here: Callable[[SegmentRef], bool]) -> FetchPlan:
    """Choose, for each missing segment of a stack, between downloading it and folding it from smaller ones. Pure."""
    known = {ref.sha256: ref for ref in (*held, *manifest.named_segments())}
    folds = {recipe.output: recipe.inputs for recipe in manifest.folds}
    downloads: dict[str, SegmentRef] = {}
    made: dict[str, tuple[SegmentRef, tuple[SegmentRef, ...]]] = {}

    @cache
    def cost(ref: SegmentRef) -> int:
        """Return the bytes to download for ``ref``."""
        return 0 if is_here(ref) else min(ref.length, by_fold(ref))

    @cache
    def by_fold(ref: SegmentRef) -> int:
        inputs = [known.get(sha256) for sha256 in folds.get(ref.sha256, ())]
        known_inputs = [used for used in inputs if used is not None and used.algorithm == ref.algorithm]
        if not inputs or len(known_inputs) < len(inputs):
            return ref.length + 1
        return sum(map(cost, known_inputs))

    def choose(ref: SegmentRef) -> None:
        if is_here(ref) or ref.sha256 in made or ref.sha256 in downloads:
            return
        if by_fold(ref) >= ref.length:
            downloads[ref.sha256] = ref
            return
        inputs = tuple(known[sha256] for sha256 in folds[ref.sha256])
        for used in inputs:
            choose(used)
        made[ref.sha256] = (ref, inputs)

    for ref in manifest.stack:
        choose(ref)
    return FetchPlan(tuple(downloads.values()), tuple(made.values()))
