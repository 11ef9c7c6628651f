"""Places for the published files of a feed: one protocol, and one implementation for each kind of place.

Paths are those of `syncd.feed.layout`. All files except the few that change are immutable: the content of a path never
changes, since readers have it mapped.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """The files of one feed. Every method raises `StoreError` if the place fails."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a small file; None if it is missing. Raises `StoreError` if it has more than ``limit`` bytes."""

    def length(self, path: str) -> int | None:
        """Return the length of a file in bytes; None if it is missing."""

    def put(self, path: str, content: bytes) -> None:
        """Put an immutable file in place, durably, unless it is there already with the same content."""

    def tag(self, path: str) -> str | None:
        """Return an identifier of the present content of a file that changes; None if it is missing."""

    def replace(self, path: str, content: bytes, tag: str | None) -> None:
        """Replace a file that changes, durably and at once.

        Raises `LostRaceError`, and changes nothing, if ``tag`` no longer identifies its content.
        """

    def adopt(self, file: Path, path: str) -> None:
        """Move a finished local file to its place, durably, unless it is there already in full length."""

    def link(self, file: Path, path: str) -> None:
        """Give a local immutable file a place here too, replacing a file there: by a link, or by a copy."""

    def names(self) -> Iterator[str]:
        """Iterate over the paths of all files below ``v1`` and ``metadata``."""

    def remove(self, path: str) -> int:
        """Remove a file; return how many bytes it had."""

    def local(self, path: str) -> Path:
        """Return where a file lies, or would lie, on this machine: to map it, or to link it elsewhere."""
