"""Backups: one tar file that restores a state folder when it is unpacked.

Files that change in place (the catalog, the feed's timestamp) are copied under the feed's lock, so that they belong
together. Files that never change (manifests, segments) are read afterwards, while syncs go on.
"""

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.acts import BackedUpState
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import RECORD
from syncd.catalog.sqlite import remove_database
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.locked import FeedLock, with_lock
from syncd.files import (
    PRIVATE_FILE,
    TEMPORARY_PREFIX,
    make_folder,
    new_file,
    read_bytes,
    remove_temporaries,
    storage,
    temporary_path,
)
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.history.files import HistoryFolder
from syncd.history.keep import private_folder
from syncd.history.segments import find_segment
from syncd.locks import lock
from syncd.pipeline.heads import named_segments, read_state
from syncd.pipeline.publisher import Publisher

Progress = Callable[[int, int], None]
"""Receives the bytes written, and the total."""

_MAX_KEY: Final = 1 << 20
_METADATA: Final = "feed/metadata"
_HISTORY: Final = "history/"
_SOURCES: Final = "sources/"
_PRIVATE_FOLDER: Final = 0o700
_PATIENCE: Final = 60.0
"""Seconds to wait while the history is folded."""


@dataclass(frozen=True)
class BackedUp:
    """The content of a finished backup, in numbers."""

    file: Path
    files: int
    bytes: int
    lists: int
    keys: int


def backup(
    publisher: Publisher,
    target: Path,
    now: datetime,
    *,
    with_keys: bool = False,
    with_segments: bool = True,
    progress: Progress | None = None,
    actor: str = "operator",
) -> BackedUp:
    """Write the state to ``target`` with mode 0600, atomically. ``with_keys``: include the private online keys.

    The audit log records it in the name of ``actor``, after the copy of the catalog that goes into the backup.

    Raises `UsageError` if ``target`` exists or would be served, `RefusedError` if a publication is under way,
    `StoreError`.
    """
    _check_target(publisher, target)
    history = HistoryFolder(private_folder(publisher.folder.history))
    with lock(history.lock, "a backup", _PATIENCE):  # so that none of its files is folded before it is read
        remove_temporaries(publisher.folder.root)  # left by a backup that was killed: only one runs at a time
        done = _write(publisher, target, now, with_keys=with_keys, with_segments=with_segments, progress=progress)
    publisher.catalog.append(actor, BackedUpState(str(target), with_keys, with_segments), now)
    return BackedUp(target, done.files, done.bytes, len(publisher.catalog.heads()), done.keys)


def _write(
    publisher: Publisher,
    target: Path,
    now: datetime,
    *,
    with_keys: bool,
    with_segments: bool,
    progress: Progress | None,
) -> "_Writer":
    with (
        new_file(target, PRIVATE_FILE) as stream,
        storage(target, "write"),
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        return _Writer(publisher, tar, now, progress).write(with_keys=with_keys, with_segments=with_segments)


def _check_target(publisher: Publisher, target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already", hint="name a file that does not exist; nothing was written")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="create it first, readable by this user only")
    if target.resolve().is_relative_to(publisher.folder.feed.root.resolve()):
        raise UsageError(f"{target} would be in the served feed", hint="name a folder outside it")


class _Writer:
    def __init__(self, publisher: Publisher, tar: tarfile.TarFile, now: datetime, progress: Progress | None) -> None:
        self._state, self._publisher, self._tar = publisher.folder, publisher, tar
        self._now, self._progress = now, progress
        self._inodes: dict[tuple[int, int], str] = {}
        self._total = 0
        self.files = self.bytes = self.keys = 0

    def write(self, *, with_keys: bool, with_segments: bool) -> "_Writer":
        feed = self._state.feed

        def act(held: FeedLock) -> tuple[Path, dict[str, bytes], bytes]:
            self._publisher.core.install_pending(held)
            names = sorted(path for path in feed.store.names() if path.startswith(f"{layout.METADATA}/"))
            contents = ((path.rpartition("/")[2], feed.read(path)) for path in names)
            metadata = {name: content for name, content in contents if content is not None}
            return self._copy_catalog(), metadata, feed.read("root.json") or b""

        catalog, metadata, root = with_lock(feed, "a backup", act)
        try:
            with Catalog.open(catalog) as frozen:
                named = dict(self._named(frozen, with_segments=with_segments))
            self._total = sum(self._length(path) for path in {*named.values(), catalog})
            self._add(layout.CATALOG_FILE, catalog, PRIVATE_FILE)
        finally:
            with storage(catalog, "remove"):
                remove_database(catalog)
        for name, content in metadata.items():
            self._put(f"{_METADATA}/{name}", content)
        self._put("feed/root.json", root)
        if self._state.bucket is not None:
            self._put(RECORD, self._state.bucket.model_dump_json().encode(), PRIVATE_FILE)
        if any(name.startswith(_HISTORY) for name in named):
            self._add_private_folder("history")
        for name, path in sorted(named.items()):
            self._add(name, path, PRIVATE_FILE if _is_private(name) else 0o640)
        if with_keys:
            self._add_keys()
        return self

    def _add_private_folder(self, name: str) -> None:
        entry = self._entry(name, _PRIVATE_FOLDER)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def _copy_catalog(self) -> Path:
        path = temporary_path(make_folder(self._state.root))
        self._publisher.catalog.backup(path)
        return path

    def _named(self, catalog: Catalog, *, with_segments: bool) -> Iterator[tuple[str, Path]]:
        """Yield every immutable file that the heads and origins of ``catalog`` need, by its name in the backup."""
        feed = self._state.feed
        for head in catalog.heads():
            version = catalog.version(head.list, head.version)
            manifest = manifests.parse(version.manifest) if version else None
            for file in garbage.named_by_manifest(manifest, head.manifest_sha256) if manifest else ():
                if with_segments or not file.endswith(".arrow"):
                    yield from _if_needed(feed, "feed", file, manifest)
        for origin in catalog.origins() if with_segments else ():
            source = self._state.source(origin.source)
            for ref in named_segments(read_state(self._state, catalog, origin.source, origin.list)):
                file = layout.segment_path(origin.list, ref.sha256)
                yield f"sources/{origin.source}/{file}", source.segment_path(origin.list, ref)
        if with_segments:
            yield from self._answers(catalog)
            yield from self._history(catalog)

    def _answers(self, catalog: Catalog) -> Iterator[tuple[str, Path]]:
        """Yield the raw answers that are kept as evidence; those that were lost are left out."""
        for source in catalog.source_states():
            folder = self._state.source(source.name)
            for kept in catalog.answers(source.name):
                file = layout.answers_path(kept.list, kept.sha256)
                if folder.store.length(file) is not None:
                    yield f"{_SOURCES}{source.name}/{file}", folder.store.present(file)

    def _history(self, catalog: Catalog) -> Iterator[tuple[str, Path]]:
        """Yield the files of the history that records of ``catalog`` need; those that were lost are left out."""
        folder = HistoryFolder(self._state.history)
        for name in catalog.history_lists():
            for month in folder.months(name):
                yield f"history/{name}/{month.path.name}", month.path
            for record in (*catalog.unfolded_history(name), *catalog.history_states(name)):
                for ref in record.segments:
                    found = find_segment(self._state, record, ref)
                    if found is not None:
                        yield f"history/{name}/segments/{ref.sha256}.arrow", found

    def _add_keys(self) -> None:
        for path in sorted(self._state.keys.glob("*")):
            self._put(f"keys/{path.name}", read_bytes(path, _MAX_KEY), PRIVATE_FILE)
            self.keys += 1

    def _put(self, name: str, content: bytes, mode: int = 0o640) -> None:
        entry = self._entry(name, mode)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))
        self._count(len(content))

    def _add(self, name: str, path: Path, mode: int = 0o640) -> None:
        """Add a file, or a link if another name of it is in the backup already."""
        with storage(path, "read"), path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            entry = self._entry(name, mode)
            first = self._inodes.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                entry.type, entry.linkname = tarfile.LNKTYPE, first
                self._tar.addfile(entry)
                self.files += 1
                return
            entry.size = status.st_size
            self._tar.addfile(entry, stream)
        self._count(entry.size)

    def _entry(self, name: str, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = mode, int(self._now.timestamp())
        return entry

    def _count(self, length: int) -> None:
        self.files += 1
        self.bytes += length
        if self._progress:
            self._progress(self.bytes, max(self._total, self.bytes))

    def _length(self, path: Path) -> int:
        with storage(path, "read"):
            return path.stat().st_size


def _is_private(name: str) -> bool:
    return name.startswith(_HISTORY) or (name.startswith(_SOURCES) and name.endswith(".zst"))


def _if_needed(feed: FeedFolder, prefix: str, file: str, manifest: Manifest | None) -> Iterator[tuple[str, Path]]:
    """Yield a file that a manifest names. Segments of recent deltas may be gone after a fold; any other must exist."""
    here = feed.store.length(file) is not None
    path = feed.store.present(file) if here else feed.path(file)
    stacked = {layout.segment_path(manifest.list, ref.sha256) for ref in manifest.stack} if manifest else set()
    if here or file in stacked or not file.endswith(".arrow"):
        if not here:
            raise StoreError(
                f"{path} is missing", hint="run `syncd verify`: a backup of this state would be incomplete"
            )
        yield f"{prefix}/{file}", path


def remove_left_over(state: StateFolder) -> None:
    """Remove copies of the catalog left by a backup that was killed, unless one is running. Raises `StoreError`."""
    if any(state.root.glob(f"{TEMPORARY_PREFIX}*")):
        history = HistoryFolder(private_folder(state.history))
        with contextlib.suppress(RefusedError), lock(history.lock, "removing the remains of a backup"):
            remove_temporaries(state.root)
