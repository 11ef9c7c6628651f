"""A file that only takes up space: let go when a daemon starts on a full disk, so that it can start and serve.

Even to read the catalog SQLite needs some space beside it (the index of its write-ahead log). With none left, a daemon
that was stopped could not start again, and what is proved and published would be served to nobody.
"""

import os
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.files import PRIVATE_FILE, Room, storage

SIZE: Final = 8 << 20
"""Bytes, at most: twice what the catalog's write-ahead log takes. Of a small file system half of what is reserved."""
CHORE: Final = "disk space"
"""The one that keeps it there."""


class Ballast:
    """That of one state folder, whose lock the caller holds."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder, self._path = folder, folder.root / "ballast"

    def give_way(self) -> None:
        """Where space is short, remove it, and what syncs that were cut short left of lists. Raises `StoreError`."""
        room = Room.at(self._folder.root)
        if room is None or room.free >= _size(room):
            return
        with storage(self._path, "remove"):
            self._path.unlink(missing_ok=True)
            for source in (self._folder.root / "sources").glob("*"):
                FeedFolder(source).remove_scratch()

    def keep(self) -> None:
        """Have it there again. Raises `StoreError` where there is no room for it: it is the disk that is full."""
        room = Room.at(self._folder.root)
        if room is None or self._path.exists():
            return
        size = _size(room)
        if room.free < 2 * size:
            raise StoreError(
                f"the disk of {self._folder.root} is full: {room.free:,} bytes free",
                hint="free space there: what is published is served, but nothing new may be taken",
            )
        with storage(self._path, "write"):
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
                with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, for its mode
                    stream.write(bytes(size))
            except OSError:
                self._path.unlink(missing_ok=True)
                raise


def _size(room: Room) -> int:
    return min(SIZE, room.reserve // 2)
