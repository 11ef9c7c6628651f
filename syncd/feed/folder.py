"""A feed as partner, operator and follower hold it: its published files in a store, and a private corner to work in.

``.work/`` holds the lock, scratch and the journal. It is a folder of this machine, has mode 0700 and is never served.
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
from syncd.files import is_full, lock, make_folder, storage
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName
from syncd.store.folder import FolderStore
from syncd.store.store import Store

MAX_METADATA_BYTES: Final = 8 << 20
TRUST: Final = "trust"
"""In the private corner of a follower's folder: the state of its metadata client."""
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

    def __repr__(self) -> str:
        return f"FeedFolder({self.root})"

    def path(self, relative: str) -> Path:
        """Where a path of `layout` lies on this machine."""
        return self.store.local(relative)

    def read(self, relative: str, limit: int = MAX_METADATA_BYTES) -> bytes | None:
        """Return a small file, or None if there is none. Raises `StoreError`."""
        return self.store.read(relative, limit)

    def read_private(self, name: str, limit: int) -> bytes | None:
        """Return a small file of the private corner, or None if there is none. Raises `StoreError`."""
        return FolderStore(self.work).read(name, limit)

    def metadata(self, name: str) -> bytes | None:
        """Return one file of signed metadata, or None."""
        return self.read(f"{layout.METADATA}/{name}")

    def manifest(self, name: ListName, sha256: str) -> Manifest:
        """Return a manifest, its hash proved. Raises `StoreError`, `MismatchError`, `ManifestError`."""
        return manifests.parse(self.manifest_bytes(name, sha256))

    def manifest_bytes(self, name: ListName, sha256: str) -> bytes:
        """Return the exact bytes of a manifest, their hash proved. Raises `StoreError`, `MismatchError`."""
        content = self.read(layout.manifest_path(name, sha256), manifests.MAX_MANIFEST_BYTES)
        if content is None:
            raise StoreError(
                f"the manifest of {name} is missing from {self.root}",
                hint="pull it again, or put the file back from a backup",
            )
        if hashlib.sha256(content).hexdigest() != sha256:
            raise MismatchError(f"the manifest of {name} in {self.root} was altered", hint="fetch the copy again")
        return content

    def segment_path(self, name: ListName, ref: SegmentRef) -> Path:
        """Where a segment lies."""
        return self.path(layout.segment_path(name, ref.sha256))

    def missing(self, name: ListName, refs: Iterable[SegmentRef]) -> list[SegmentRef]:
        """Those of ``refs`` that are not here in full length."""
        return [ref for ref in refs if self.store.length(layout.segment_path(name, ref.sha256)) != ref.length]

    def make_staging(self) -> Path:
        """Return the private staging folder, empty. Call with the lock held."""
        make_folder(self.work, _PRIVATE)
        self.remove_staging()
        with storage(self.staging, "create folder"):
            self.staging.mkdir(_PRIVATE)  # scratch, which need not survive a power cut
        return self.staging

    def remove_staging(self) -> None:
        """Remove the private staging folder: what lies there is secret, and may be large."""
        with storage(self.staging, "empty"):
            shutil.rmtree(self.staging, ignore_errors=True)

    @contextlib.contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """Make a private folder for work outside the feed's lock, and remove it afterwards.

        A lock in it says that its process lives: those of killed ones are removed by `remove_stale_scratch`.
        """
        make_folder(self.work, _PRIVATE)
        folder = make_folder(self.scratch_folder / secrets.token_hex(8), _PRIVATE)
        try:
            with lock(folder / "lock", purpose):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove_stale_scratch(self) -> None:
        """Remove scratch folders whose process was killed."""
        for folder in self.scratch_folder.glob("*"):
            with contextlib.suppress(RefusedError), lock(folder / "lock", "removing stale scratch"):
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def discard_scratch_if_full(self) -> Iterator[None]:
        """Remove all scratch, and downloads that were begun, where the work ends for want of space: others share it.

        Call with the lock held.
        """
        try:
            yield
        except StoreError as error:
            if is_full(error):
                self.remove_scratch()
            raise

    def remove_scratch(self) -> None:
        """Remove what lies here of work that did not come to its end, where it can be. Call with the lock held."""
        for folder in (self.staging, self.downloads):
            shutil.rmtree(folder, ignore_errors=True)
