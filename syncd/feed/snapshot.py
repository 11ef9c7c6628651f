"""A published version of a list, opened: its manifest, and its segments mapped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from syncd.feed.folder import FeedFolder
from syncd.format.manifest import Manifest, ManifestRef, SegmentRef
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.model import Algorithm, ListName


@dataclass(frozen=True)
class Snapshot:
    """One published version of a list, with its segments mapped."""

    manifest: Manifest
    sha256: str
    stacks: Mapping[Algorithm, Stack]

    @property
    def ref(self) -> ManifestRef:
        """Its version and hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)


def open_stacks(folder: FeedFolder, name: ListName, refs: Iterable[SegmentRef]) -> dict[Algorithm, Stack]:
    """Map the segments of a stack, by algorithm. Raises `StoreError`, `SegmentError`."""
    segments: dict[Algorithm, list[Segment]] = {}
    for ref in refs:
        segments.setdefault(ref.algorithm, []).append(Segment.open(folder.segment_path(name, ref), ref))
    return {algorithm: Stack(algorithm, found) for algorithm, found in segments.items()}


def open_snapshot(folder: FeedFolder, name: ListName, sha256: str) -> Snapshot:
    """Open a version by the hash of its manifest. Raises `StoreError`, `MismatchError`, `FeedError`."""
    manifest = folder.manifest(name, sha256)
    return Snapshot(manifest, sha256, open_stacks(folder, name, manifest.stack))
