"""An open published version of a list: its manifest and its mapped segments."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

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


_open: Final[WeakValueDictionary[tuple[Path, SegmentRef], Segment]] = WeakValueDictionary()
"""Segments mapped in this process, shared with their touched pages while anyone uses them."""
_kept: Final = threading.local()


@contextmanager
def keeping_maps() -> Iterator[None]:
    """Keep the maps that this thread makes in the block, so that several steps over one list touch its pages once."""
    _kept.segments = []
    try:
        yield
    finally:
        del _kept.segments


def open_segment(path: Path, ref: SegmentRef) -> Segment:
    """Map a segment, or share it if it is mapped already. Raises `StoreError`, `SegmentError`."""
    held = _open.get((path, ref))
    if held is None or not held.maps_current_file():  # the file may have been lost or repaired since
        held = _open[path, ref] = Segment.open(path, ref)
    getattr(_kept, "segments", []).append(held)
    return held


def open_stacks(folder: FeedFolder, name: ListName, refs: Iterable[SegmentRef]) -> dict[Algorithm, Stack]:
    """Map the segments of a stack, by algorithm. Raises `StoreError`, `SegmentError`."""
    segments: dict[Algorithm, list[Segment]] = {}
    for ref in refs:
        segments.setdefault(ref.algorithm, []).append(open_segment(folder.segment_path(name, ref), ref))
    return {algorithm: Stack(algorithm, mapped) for algorithm, mapped in segments.items()}


def open_snapshot(folder: FeedFolder, name: ListName, sha256: str) -> Snapshot:
    """Open a version by the hash of its manifest. Raises `StoreError`, `MismatchError`, `FeedError`."""
    manifest = folder.manifest(name, sha256)
    return Snapshot(manifest, sha256, open_stacks(folder, name, manifest.stack))
