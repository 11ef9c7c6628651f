"""A bucket, with a folder on this machine as its cache.

Whatever is written goes to the bucket first. So a file in the folder is in the bucket too, except one that another
process wrote there and that was not secured yet. Losing the folder costs time, never data.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from syncd.errors import StoreError
from syncd.files import DamagedError, install_file, make_folder, storage, temporary_path
from syncd.store.folder import FolderStore
from syncd.store.proof import prove
from syncd.store.s3 import S3Bucket
from syncd.store.store import Content, Store

PARTS: Final = ("v1", "metadata")
_PROOF: Final = ".work/store-proved"


class CachedStore:
    """The files of ``bucket``, with copies in ``folder``. A `syncd.store.store.Store`.

    ``changing``: the paths of the files that are replaced; the others are immutable.
    """

    def __init__(self, bucket: S3Bucket, root: Path, changing: frozenset[str]) -> None:
        self.bucket, self._folder, self._changing = bucket, FolderStore(root), changing

    def __repr__(self) -> str:
        return f"CachedStore({self.bucket}, {self._folder})"

    @property
    def shared(self) -> bool:
        """See `Store.shared`."""
        return True

    def prove(self, *, afresh: bool = False) -> None:
        """See `Store.prove`."""
        prove(self.bucket.settings, self._folder.local(_PROOF), afresh=afresh)

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Store.read`. A file that was fetched is kept, unless it changes."""
        held = self._folder.read(path, limit)
        if held is not None:
            return held
        found = self.bucket.get(path, limit)
        if found is None:
            return None
        if path not in self._changing:
            self._folder.put(path, found.content)
        return found.content

    def current(self, path: str, limit: int) -> Content | None:
        """See `Store.current`."""
        return self.bucket.get(path, limit)

    def length(self, path: str) -> int | None:
        """See `Store.length`."""
        held = self._folder.length(path)
        return self.bucket.length(path) if held is None else held

    def has(self, path: str, length: int) -> bool:
        """See `Store.has`."""
        return self._folder.has(path, length) or self.bucket.length(path) == length

    def put(self, path: str, content: bytes) -> None:
        """See `Store.put`."""
        self.bucket.create(path, content)
        self._folder.put(path, content)

    def replace(self, path: str, content: bytes, tag: str | None) -> None:
        """See `Store.replace`."""
        self.bucket.swap(path, content, tag)

    def hold(self, path: str, content: bytes) -> None:
        """See `Store.hold`."""
        if self._folder.read(path, len(content)) != content:
            self._folder.hold(path, content)

    def adopt(self, file: Path, path: str) -> None:
        """See `Store.adopt`."""
        self.bucket.upload(file, path)
        self._folder.adopt(file, path)

    def secure(self, path: str) -> None:
        """See `Store.secure`."""
        file = self._folder.local(path)
        with storage(file, "read"):
            exists = file.exists()
        if exists:
            self.bucket.upload(file, path)
        elif self.bucket.length(path) is None:
            raise self._missing(path)

    def link(self, other: Store, existing: str, path: str) -> None:
        """See `Store.link`. The server copies the file; if it cannot, it is sent from this machine."""
        if not isinstance(other, CachedStore):
            raise TypeError(f"cannot link from {other}")
        length = other.bucket.length(existing)
        if length is None:
            self.bucket.upload(other.present(existing), path)
        elif self.bucket.length(path) != length and not self.bucket.copy(other.bucket, existing, path):
            raise self._missing(existing)
        if other.local(existing).exists():
            self._folder.link(other, existing, path)

    def names(self) -> Mapping[str, int | None]:
        """See `Store.names`. Files that are only in the cache are named too."""
        return {**self._folder.names(), **self.lengths()}

    def lengths(self) -> Mapping[str, int]:
        """See `Store.lengths`."""
        return {path: length for part in PARTS for path, length in self.bucket.names(part).items()}

    def remove(self, path: str) -> int | None:
        """See `Store.remove`."""
        self.bucket.remove(path)
        return self._folder.remove(path)

    def local(self, path: str) -> Path:
        """See `Store.local`."""
        return self._folder.local(path)

    def present(self, path: str, length: int | None = None) -> Path:
        """See `Store.present`. Notes when the file was used, for `syncd.pipeline.cache`."""
        file = self._folder.local(path)
        with storage(file, "read"):
            try:
                status = file.stat()
                if length is None or status.st_size == length:
                    with suppress(OSError):  # another user, or a read-only disk: only the order of use is then unknown
                        os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
                    return file
            except FileNotFoundError:
                pass
        if not self._fetch(path):
            raise self._missing(path)
        return file

    def renew(self, path: str) -> bool:
        """See `Store.renew`."""
        try:
            return self._fetch(path)
        except StoreError:  # damaged there too, or the bucket does not answer: as if it had none
            return False

    def in_place(self, path: str, length: int) -> bool:
        """See `Store.in_place`."""
        return self.bucket.length(path) == length

    def _fetch(self, path: str) -> bool:
        file = self._folder.local(path)
        temporary = temporary_path(make_folder(file.parent))
        try:
            if not self.bucket.fetch(path, temporary):
                return False
            install_file(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _missing(self, path: str) -> DamagedError:
        return DamagedError(
            f"{path} is missing from {self.bucket} and from this machine",
            hint="restore it in the bucket, from a version of the bucket or a backup",
        )
