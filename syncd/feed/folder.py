"""A feed as partners, operators and followers hold it: published files in a store, and a private folder for work.

``.work/`` holds the lock, scratch and the journal. It is on this machine, has mode 0700 and is never served.
"""

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError, RefusedError, StoreError
from syncd.feed import layout
from syncd.files import DamagedError, install_file, is_full, make_folder, storage
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.locks import lock
from syncd.model import ListName
from syncd.store.folder import FolderStore
from syncd.store.store import Store

MAX_METADATA_BYTES: Final = 8 << 20
TRUST: Final = "trust"
"""In a follower's private folder: the state of its metadata client."""
_PRIVATE: Final = 0o700


class FeedFolder:
    """The files of one feed: published ones in ``store``, by default the folder ``root``; private ones below it."""

    def __init__(self, root: Path, store: Store | None = None) -> None:
        self.root = root
        self.store: Store = store or FolderStore(root)
        self.work = root / ".work"
        self.lock = self.work / "lock"
        self.staging = self.work / "staging"
        self.scratch_folder = self.work / "scratch"
        self.downloads = self.work / "download"
        self.distrusted: set[str] = set()
        """paths of files that are damaged although their length is right; they count as missing"""

    def __repr__(self) -> str:
        return f"FeedFolder({self.root})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeedFolder) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def path(self, relative: str) -> Path:
        """Return where a path of `layout` lies on this machine."""
        return self.store.local(relative)

    def read(self, relative: str, limit: int = MAX_METADATA_BYTES) -> bytes | None:
        """Return a small file, or None if it is missing. Raises `StoreError`."""
        return self.store.read(relative, limit)

    def read_private(self, name: str, limit: int) -> bytes | None:
        """Return a small file of the private folder, or None if it is missing. Raises `StoreError`."""
        return FolderStore(self.work).read(name, limit)

    def here(self, relative: str) -> bytes | None:
        """Return this machine's copy of a small file, or None if it has none. Raises `StoreError`."""
        return FolderStore(self.root).read(relative, MAX_METADATA_BYTES)

    def metadata(self, name: str) -> bytes | None:
        """Return one file of signed metadata, or None if it is missing. Raises `StoreError`."""
        path = f"{layout.METADATA}/{name}"
        if self.store.shared and name.endswith(".root.json") and self.path(layout.TIMESTAMP).exists():
            return self.here(path)  # readers ask for the next root too; `syncd.feed.shared` brings it if there is one
        return self.read(path)

    def manifest(self, name: ListName, sha256: str) -> Manifest:
        """Return a manifest after verifying its hash. Raises `StoreError`, `MismatchError`, `ManifestError`."""
        return manifests.parse(self.manifest_bytes(name, sha256))

    def manifest_bytes(self, name: ListName, sha256: str) -> bytes:
        """Return the exact bytes of a manifest after verifying their hash. Raises `StoreError`, `MismatchError`."""
        content = self.read(layout.manifest_path(name, sha256), manifests.MAX_MANIFEST_BYTES)
        if content is None:
            raise DamagedError(
                f"the manifest of {name} is missing from {self.root}",
                hint="pull or sync again, or restore it from a backup or a mirror",
            )
        if hashlib.sha256(content).hexdigest() != sha256:
            raise MismatchError(
                f"the manifest of {name} in {self.root} was altered",
                hint="remove the file, then pull or sync again, or restore it from a backup or a mirror",
            )
        return content

    def segment_path(self, name: ListName, ref: SegmentRef) -> Path:
        """Return where a segment lies on this machine, to map it; a cache fetches it. Raises `StoreError`."""
        return self.store.present(layout.segment_path(name, ref.sha256), ref.length)

    def bring_here(self, name: ListName, refs: Iterable[SegmentRef]) -> None:
        """Fetch segments that a cache does not have, for a process that cannot. Raises `StoreError`."""
        if self.store.shared:
            for ref in refs:
                self.segment_path(name, ref)

    def secure(self, name: ListName, refs: Iterable[SegmentRef]) -> None:
        """Bring segments that another process wrote into this machine's folder to the store. Raises `StoreError`."""
        for ref in refs:
            self.store.secure(layout.segment_path(name, ref.sha256))

    def missing(self, name: ListName, refs: Iterable[SegmentRef]) -> list[SegmentRef]:
        """Return those of ``refs`` that are missing, have another length, or are distrusted."""
        paths = ((ref, layout.segment_path(name, ref.sha256)) for ref in refs)
        return [ref for ref, path in paths if path in self.distrusted or not self.store.has(path, ref.length)]

    def install_segment(self, name: ListName, ref: SegmentRef, proved: Path) -> None:
        """Move a segment that was just proved to its place, durably. It replaces a distrusted file."""
        install_file(proved, self.path(layout.segment_path(name, ref.sha256)))
        self.distrusted.discard(layout.segment_path(name, ref.sha256))

    def make_staging(self) -> Path:
        """Return the private staging folder, empty. Call with the lock held."""
        make_folder(self.work, _PRIVATE)
        self.remove_staging()
        with storage(self.staging, "create folder"):
            self.staging.mkdir(_PRIVATE)  # need not survive a power cut
        return self.staging

    def remove_staging(self) -> None:
        """Remove the private staging folder: its files are secret, and may be large."""
        with storage(self.staging, "empty"):
            shutil.rmtree(self.staging, ignore_errors=True)

    @contextlib.contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """Make a private folder for work outside the feed's lock, and remove it afterwards.

        A lock in it shows that its process is alive; `remove_stale_scratch` removes the folders of killed processes.
        """
        make_folder(self.work, _PRIVATE)
        folder = make_folder(self.scratch_folder / secrets.token_hex(8), _PRIVATE)
        try:
            with lock(folder / "lock", purpose):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove_stale_scratch(self) -> None:
        """Remove the scratch folders of killed processes."""
        for folder in self.scratch_folder.glob("*"):
            with contextlib.suppress(RefusedError), lock(folder / "lock", "removing stale scratch"):
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def discard_scratch_if_full(self) -> Iterator[None]:
        """Remove staged files and partial downloads if the work fails because the disk is full: others need the space.

        Call with the lock held.
        """
        try:
            yield
        except StoreError as error:
            if is_full(error):
                self.remove_scratch()
            raise

    def remove_scratch(self) -> None:
        """Remove the files of unfinished work, as far as possible. Call with the lock held."""
        for folder in (self.staging, self.downloads):
            shutil.rmtree(folder, ignore_errors=True)
