"""Repairing the segments of a list that the disk has damaged.

Head, origin and history may each hold a copy of a segment. A damaged copy is replaced with a sound one. If there is
none it is moved out of the served folder, and a sync fetches the segment from the partner again.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.catalog.records import own_name
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.locked import with_lock
from syncd.files import link_file, make_folder, move_aside, sha256_file, storage
from syncd.format.manifest import SegmentRef
from syncd.history.files import HistoryFolder
from syncd.model import ListName
from syncd.pipeline.heads import ListState, named_segments

DAMAGED: Final = "damaged"
"""The folder for damaged segments, in the private folder of a feed."""
_PATIENCE: Final = 60.0
"""Seconds to wait for the lock of the feed."""
_PRIVATE: Final = 0o700


def damaged_segments(state: ListState) -> tuple[SegmentRef, ...]:
    """Return the segments of a list with a file that no longer has its SHA-256; reads all. Raises `StoreError`."""
    damaged = []
    for ref in dict.fromkeys(named_segments(state)):
        places = ((state.source, state.own_name), (state.feed, state.name))
        paths = {folder.path(layout.segment_path(name, ref.sha256)) for folder, name in places}
        files = {path for path in paths if path.exists()}
        if any(sha256_file(path) != ref.sha256 for path in files):
            damaged.append(ref)
    return tuple(damaged)


def mend(folder: StateFolder, source: str, name: ListName, damaged: Iterable[str]) -> bool:
    """Replace damaged segments with sound copies, or move them aside. Return True if any have to be fetched.

    Raises `StoreError`, `RefusedError` if the feed stays locked.
    """
    places = [(folder.feed, name), (folder.source(source), own_name(name))]
    history = HistoryFolder(folder.history)

    def act(_: object) -> bool:
        return sum(_mend_segment(places, history.segment(name, sha256), sha256) for sha256 in damaged) > 0

    return with_lock(folder.feed, "a repair", act, _PATIENCE)


def _mend_segment(places: Sequence[tuple[FeedFolder, ListName]], link: Path, sha256: str) -> bool:
    """Replace a damaged segment with a sound copy from another place or the store; or else move every copy aside.

    ``link``: its path in the history, which may hold a copy too. Return True if it has to be fetched.
    """
    paths = [(folder, layout.segment_path(name, sha256)) for folder, name in places]
    here = [(folder, path) for folder, path in paths if folder.path(path).exists()]
    copies = (*(folder.path(path) for folder, path in here), link)
    sound = next((copy for copy in copies if copy.exists() and sha256_file(copy) == sha256), None)
    if sound is None:
        sound = next((folder.path(path) for folder, path in here or paths if folder.store.renew(path)), None)
    if sound is None:
        for folder, path in here:
            move_aside(folder.path(path), make_folder(folder.work / DAMAGED, _PRIVATE) / f"{sha256}.arrow")
        with storage(link, "remove"):  # the history will link to the segment that is fetched
            link.unlink(missing_ok=True)
        return True
    for folder, path in here or paths[:1]:
        if not (folder.path(path).exists() and folder.path(path).samefile(sound)):
            link_file(sound, folder.path(path))
            folder.store.secure(path)
    return False
