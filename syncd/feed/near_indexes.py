"""The near indexes of a copy: making those that are missing, proving them, removing those of segments that are gone."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError, StoreError
from syncd.feed.folder import FeedFolder
from syncd.files import check_room, storage
from syncd.format.derived import (
    FOLDER,
    MADE_AGAIN,
    DamagedIndexError,
    DerivedIndex,
    IndexOf,
    Pause,
    index_path,
    unpaused,
)
from syncd.format.manifest import SegmentRef
from syncd.format.near_index import KIND, VERSION, has_near_index, index_length, index_of, write_near_index
from syncd.format.segment import Segment
from syncd.locks import lock
from syncd.model import ListName

LOCK: Final = "index.lock"


def lacks_index(folder: FeedFolder, ref: SegmentRef) -> bool:
    """Return True if a segment's near index is still to be made."""
    return has_near_index(ref) and DerivedIndex.open(index_path(folder.root, ref.sha256, KIND), index_of(ref)) is None


def index_segment(folder: FeedFolder, ref: SegmentRef, path: Path, pause: Pause = unpaused) -> None:
    """Make the near index of the segment at ``path``, if it lacks one. Call with `LOCK` held. Raises `StoreError`."""
    if lacks_index(folder, ref):
        check_room(folder.root, index_length(ref), "index")
        write_near_index(index_path(folder.root, ref.sha256, KIND), Segment.open(path, ref), pause)


def index_missing(folder: FeedFolder, stacks: Sequence[tuple[ListName, SegmentRef]], pause: Pause = unpaused) -> int:
    """Make the missing near indexes of segments of lists; return how many. As `index_segment`."""
    made = 0
    for name, ref in stacks:
        if lacks_index(folder, ref) and not folder.missing(name, [ref]):
            index_segment(folder, ref, folder.segment_path(name, ref), pause)
            made += 1
    return made


def index_fold(
    folder: FeedFolder, ref: SegmentRef, inputs: Sequence[SegmentRef], path: Path, pause: Pause = unpaused
) -> None:
    """Make the near index of a segment that was folded at ``path``, if one of its inputs has one.

    So near look-ups never compare all rows after a fold. The fold goes on without an index if it cannot be made.
    """
    if has_near_index(ref) and any(has_near_index(used) and not lacks_index(folder, used) for used in inputs):
        with contextlib.suppress(StoreError, RefusedError), lock(folder.work / LOCK, "making near indexes"):
            index_segment(folder, ref, path, pause)


def index_files(folder: FeedFolder) -> Iterator[tuple[Path, str]]:
    """Yield each near index, with the SHA-256 of its segment."""
    for path in sorted(folder.path(FOLDER).glob(f"*.{KIND}")):
        yield path, path.stem


def prove_indexes(folder: FeedFolder, pause: Pause = unpaused) -> Iterator[StoreError]:
    """Prove the checksums of all near indexes. A damaged one is removed, and yielded as an error: it is made again."""
    for path, sha256 in index_files(folder):
        index = DerivedIndex.open(path, IndexOf(KIND, VERSION, sha256))
        try:
            if index is None:
                raise DamagedIndexError(f"{path} was damaged on this disk", hint=MADE_AGAIN)
            index.prove(pause)
        except DamagedIndexError as error:
            with storage(path, "remove"):
                path.unlink(missing_ok=True)
            yield error


def remove_unneeded(folder: FeedFolder, segments: Collection[str]) -> None:
    """Remove the indexes of all segments but those with these SHA-256."""
    for path, sha256 in index_files(folder):
        if sha256 not in segments:
            with storage(path, "remove"):
                path.unlink(missing_ok=True)
