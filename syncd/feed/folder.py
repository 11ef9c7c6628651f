"""A feed on disk, as partner, operator and follower hold it: reading, and a private corner to work in.

``.work/`` holds the lock, the staging folder and the journal. It has mode 0700 and is never served.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError, StoreError
from syncd.feed import layout
from syncd.files import is_full, make_folder, read_bytes, storage
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName

MAX_METADATA_BYTES: Final = 8 << 20
TRUST: Final = "trust"
"""In the private corner of a follower's folder: the state of its metadata client."""
_PRIVATE: Final = 0o700


class FeedFolder:
    """The files of one feed under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / ".work"
        self.lock = self.work / "lock"
        self.staging = self.work / "staging"
        self.downloads = self.work / "download"

    def __repr__(self) -> str:
        return f"FeedFolder({self.root})"

    def path(self, relative: str) -> Path:
        """Where a path of `layout` lies on this disk."""
        return self.root / relative

    def read(self, relative: str, limit: int = MAX_METADATA_BYTES) -> bytes | None:
        """Return a small file, or None where there is none. Raises `StoreError`."""
        path = self.path(relative)
        with storage(path, "read"):
            if not path.exists():
                return None
            if not path.is_file():
                raise OSError("not a regular file")  # opening a pipe would wait for ever
        return read_bytes(path, limit)

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
        return [ref for ref in refs if not _has_length(self.segment_path(name, ref), ref.length)]

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
    def giving_way(self) -> Iterator[None]:
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


def _has_length(path: Path, length: int) -> bool:
    with storage(path, "read"):
        try:
            return path.stat().st_size == length
        except FileNotFoundError:
            return False
