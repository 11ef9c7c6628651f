"""Keeping this machine's cache of a bucket below its size: segments that were not used for longest go first.

A segment of a current stack stays, whatever the size: the next sync, look-up or publication needs it. And nothing goes
before the bucket says that it has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.garbage import FileCount
from syncd.files import storage
from syncd.pipeline.heads import named_segments, read_state


@dataclass
class _CachedFile:
    """One file of the cache, under all of its names: head and origin share it by hard links."""

    length: int
    links: int
    used: int
    names: list[tuple[FeedFolder, str]] = field(default_factory=list)


def trim_cache(state: StateFolder, catalog: Catalog) -> FileCount:
    """Remove segments from the cache until it has its size; return how many. Raises `StoreError`."""
    if state.bucket is None:
        return FileCount()
    sources = {origin.source for origin in catalog.origins()}
    folders = [state.feed, *(state.source(name) for name in sorted(sources))]
    files = list(_segments(folders))
    excess = sum(file.length for file in files) - state.bucket.cache_bytes
    if excess <= 0:
        return FileCount()
    current = _current(state, catalog)
    removed = FileCount()
    for file in sorted(files, key=lambda file: file.used):
        if removed.bytes >= excess:
            break
        if not _is_free(file, current):
            continue
        for folder, path in file.names:
            with storage(folder.path(path), "remove"):
                folder.path(path).unlink(missing_ok=True)
        removed += FileCount(1, file.length)
    return removed


def _segments(folders: list[FeedFolder]) -> Iterator[_CachedFile]:
    """Yield the segments in the cache."""
    found: dict[tuple[int, int], _CachedFile] = {}
    for folder in folders:
        root = folder.path("v1")
        with storage(root, "list"):
            for place in root.glob("*/segments/*.arrow"):
                _note(found, folder, place)
    yield from found.values()


def _note(found: dict[tuple[int, int], _CachedFile], folder: FeedFolder, place: Path) -> None:
    status = place.stat()
    file = found.setdefault((status.st_dev, status.st_ino), _CachedFile(status.st_size, status.st_nlink, 0))
    file.used = max(file.used, status.st_atime_ns)
    file.names.append((folder, str(place.relative_to(folder.root))))


def _current(state: StateFolder, catalog: Catalog) -> set[tuple[FeedFolder, str]]:
    """Return the segments of all current stacks, of heads and origins."""
    current = set()
    for origin in catalog.origins():
        lists = read_state(state, catalog, origin.source, origin.list)
        for ref in (*named_segments(lists), *(lists.head.stack if lists.head else ())):
            current.add((lists.source, layout.segment_path(lists.own_name, ref.sha256)))
            current.add((lists.feed, layout.segment_path(lists.name, ref.sha256)))
    return current


def _is_free(file: _CachedFile, current: set[tuple[FeedFolder, str]]) -> bool:
    """Return True if removing a file frees space, nothing current needs it, and the bucket has it under each name."""
    if file.links > len(file.names) or any(name in current for name in file.names):
        return False
    return all(folder.store.in_place(path, file.length) for folder, path in file.names)
