"""A store that is a folder on this machine."""

import hashlib
import os
from pathlib import Path
from typing import Final

from syncd.errors import LostRaceError
from syncd.files import install_bytes, install_file, link_file, read_bytes, storage
from syncd.store.store import Content, Store

_MAX_CHANGING: Final = 8 << 20
_PARTS: Final = ("v1", "metadata")


class FolderStore:
    """The files below ``root``. A `syncd.store.store.Store`; writers hold the feed's lock."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"FolderStore({self._root})"

    @property
    def shared(self) -> bool:
        """See `Store.shared`."""
        return False

    def prove(self, *, afresh: bool = False) -> None:
        """See `Store.prove`. Writers hold the feed's lock."""

    def local(self, path: str) -> Path:
        """See `Store.local`."""
        return self._root / path

    def read(self, path: str, limit: int) -> bytes | None:
        """See `Store.read`."""
        file = self.local(path)
        with storage(file, "read"):
            if not file.exists():
                return None
        return read_bytes(file, limit)

    def length(self, path: str) -> int | None:
        """See `Store.length`."""
        file = self.local(path)
        with storage(file, "read"):
            try:
                return file.stat().st_size
            except FileNotFoundError:
                return None

    def has(self, path: str, length: int) -> bool:
        """See `Store.has`."""
        return self.length(path) == length

    def put(self, path: str, content: bytes) -> None:
        """See `Store.put`."""
        # Read up to the content's own length: evidence may be larger than other small files, and a fixed limit would
        # stop every recovery.
        if self.length(path) != len(content) or self.read(path, len(content)) != content:
            install_bytes(self.local(path), content)

    def current(self, path: str, limit: int) -> Content | None:
        """See `Store.current`."""
        content = self.read(path, limit)
        return None if content is None else Content(content, hashlib.sha256(content).hexdigest())

    def replace(self, path: str, content: bytes, tag: str | None) -> None:
        """See `Store.replace`."""
        held = self.current(path, _MAX_CHANGING)
        if (held.tag if held else None) != tag:
            raise LostRaceError(f"another process replaced {self.local(path)} in the meantime")
        self.hold(path, content)

    def hold(self, path: str, content: bytes) -> None:
        """See `Store.hold`."""
        install_bytes(self.local(path), content)

    def adopt(self, file: Path, path: str) -> None:
        """See `Store.adopt`."""
        if not self.local(path).exists():
            install_file(file, self.local(path))

    def secure(self, path: str) -> None:
        """See `Store.secure`. The folder is the place."""

    def link(self, other: Store, existing: str, path: str) -> None:
        """See `Store.link`."""
        link_file(other.local(existing), self.local(path))

    def names(self) -> dict[str, int | None]:
        """See `Store.names`."""
        found: dict[str, int | None] = {}
        for part in _PARTS:
            for place, _, names in os.walk(self.local(part)):  # a tenth of the cost of pathlib
                inside = Path(place).relative_to(self._root)
                found |= dict.fromkeys(f"{inside}/{name}" for name in names)
        return found

    def lengths(self) -> dict[str, int]:
        """See `Store.lengths`."""
        found = {path: self.length(path) for path in self.names()}
        return {path: length for path, length in found.items() if length is not None}

    def remove(self, path: str) -> int | None:
        """See `Store.remove`."""
        file = self.local(path)
        with storage(file, "remove"):
            try:
                length = file.stat().st_size
                file.unlink()
            except FileNotFoundError:
                return None
        return length

    def present(self, path: str, length: int | None = None) -> Path:
        """See `Store.present`."""
        del length
        return self._root / path

    def in_place(self, path: str, length: int) -> bool:
        """See `Store.in_place`. The folder is the place."""
        return self.has(path, length)

    def renew(self, path: str) -> bool:
        """See `Store.renew`. There is no other copy."""
        del path
        return False
