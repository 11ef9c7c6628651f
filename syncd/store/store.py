"""Where the published files of a feed live: one protocol, and an implementation a place.

Paths are those of `syncd.feed.layout`. All files but the few that change are immutable: a path never gets other
content, since readers have it mapped.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """The files of one feed. Every method raises `StoreError` if the place fails."""

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a small file; None if there is none. Raises `StoreError` if it has more than ``limit`` bytes."""

    def length(self, path: str) -> int | None:
        """Return the bytes of a file; None if there is none."""

    def put(self, path: str, content: bytes) -> None:
        """Put an immutable file in place, durably, unless it is there already with this very content."""

    def tag(self, path: str) -> str | None:
        """Return what identifies the present content of a file that changes; None if there is none."""

    def replace(self, path: str, content: bytes, tag: str | None) -> None:
        """Replace a file that changes, durably and at once.

        Raises `LostRaceError`, and changes nothing, if its content is no longer the one that ``tag`` identifies.
        """

    def adopt(self, file: Path, path: str) -> None:
        """Move a finished local file to its place, durably, unless it is there already in full length."""

    def link(self, file: Path, path: str) -> None:
        """Give a local immutable file a place here as well, in place of one that is there: a link, or a copy."""

    def names(self) -> Iterator[str]:
        """Iterate over the paths of all files below ``v1`` and ``metadata``."""

    def remove(self, path: str) -> int:
        """Remove a file; return how many bytes it had."""

    def local(self, path: str) -> Path:
        """Return where a file lies, or would lie, on this machine: to map it, or to link it elsewhere."""
