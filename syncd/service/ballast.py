"""Ballast: a file that only takes up space, removed if a daemon starts on a full disk, so that it can start and serve.

Even to read the catalog, SQLite needs some space beside it (the index of its write-ahead log). On a full disk a stopped
daemon could not start again, and its proved and published lists would not be served.
"""

import os
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.files import PRIVATE_FILE, FreeSpace, storage

SIZE: Final = 8 << 20
"""Bytes, at most: twice the size of the catalog's write-ahead log. On a small file system, half of the reserve."""
CHORE: Final = "disk space"
"""Name of the chore that keeps the ballast there."""


class Ballast:
    """The ballast of one state folder, whose lock the caller holds."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder, self._path = folder, folder.root / "ballast"

    def release_if_full(self) -> None:
        """If space is short, remove the ballast and the scratch files of interrupted syncs. Raises `StoreError`."""
        space = FreeSpace.at(self._folder.root)
        if space is None or space.free >= _size(space):
            return
        with storage(self._path, "remove"):
            self._path.unlink(missing_ok=True)
            for source in (self._folder.root / "sources").glob("*"):
                FeedFolder(source).remove_scratch()

    def keep(self) -> None:
        """Write the ballast again if it is missing. Raises `StoreError` if the disk is too full for it."""
        space = FreeSpace.at(self._folder.root)
        if space is None or self._path.exists():
            return
        size = _size(space)
        if space.free < 2 * size:
            raise StoreError(
                f"the disk of {self._folder.root} is full: {space.free:,} bytes free",
                hint="free disk space; the published lists are still served, but syncs may fail",
            )
        with storage(self._path, "write"):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
                with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, for its mode
                    stream.write(bytes(size))
            except OSError:
                self._path.unlink(missing_ok=True)
                raise


def _size(space: FreeSpace) -> int:
    return min(SIZE, space.reserve // 2)
