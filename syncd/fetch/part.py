"""The staging file of a download."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from syncd.files import PRIVATE_FILE, storage

BLOCK: Final = 1 << 20

Progress = Callable[[int], None]
"""Called with each further piece: bytes gained or, if a part had to be discarded, lost (negative)."""


class Part:
    """A staging file that is hashed while it grows. `open` reads what an earlier attempt left in it."""

    def __init__(self, path: Path, descriptor: int, progress: Progress) -> None:
        self._path, self._descriptor, self._progress = path, descriptor, progress
        self._hash = hashlib.sha256()
        self.size = 0
        self.pieced = False
        """True if the bytes come from more than one answer."""

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, progress: Progress) -> Iterator["Part"]:
        """Open or create ``path``, mode 0600, for the caller alone. Raises `StoreError`, for a symlink as well."""
        with storage(path, "write"):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            part = cls(path, descriptor, progress)
            with storage(path, "write"):
                os.fchmod(descriptor, PRIVATE_FILE)
            part._hash_existing()
            yield part
        finally:
            os.close(descriptor)

    def _hash_existing(self) -> None:
        with storage(self._path, "read"):
            while block := os.read(self._descriptor, BLOCK):
                self._hash.update(block)
                self.size += len(block)
        self.pieced = self.size > 0
        self._progress(self.size)

    @property
    def sha256(self) -> str:
        """The hash of all bytes so far, in hex."""
        return self._hash.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Write ``chunk`` at the end. Raises `StoreError`."""
        rest = memoryview(chunk)
        with storage(self._path, "write"):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)
        self._progress(len(chunk))

    def restart(self) -> None:
        """Discard all bytes."""
        if self.size:
            with storage(self._path, "write"):
                os.ftruncate(self._descriptor, 0)
                os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._progress(-self.size)
        self._hash, self.size, self.pieced = hashlib.sha256(), 0, False

    def discard(self) -> None:
        """Remove the file."""
        with storage(self._path, "remove"):
            self._path.unlink(missing_ok=True)
        self._progress(-self.size)
