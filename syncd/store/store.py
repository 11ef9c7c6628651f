"""Places for the published files of a feed: one protocol, and one implementation for each kind of place.

Paths are those of `syncd.feed.layout`. All files except the few that change are immutable: the content of a path never
changes, since readers have it mapped. Segments are mapped, so whatever the place is, this machine has a folder of it:
the place itself, or a cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from syncd.errors import StoreError


@dataclass(frozen=True)
class Content:
    """The content of a file that changes, and the tag that stands for exactly this content in this place."""

    content: bytes = field(repr=False)
    tag: str


class UnknownOutcomeError(StoreError):
    """A request may or may not have been carried out: what is in the place now has to be read."""


class Store(Protocol):
    """The files of one feed. Every method raises `StoreError` if the place fails."""

    @property
    def shared(self) -> bool:
        """True if other machines write to the place too, so that this machine's folder is only a cache of it."""

    def prove(self, *, afresh: bool = False) -> None:
        """Check that the place can be published into: that it honours conditions, if it is shared.

        ``afresh``: do not rely on an earlier check. Raises `ConfigError`, `StoreError`.
        """

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a small file, this machine's copy first; None if it is missing.

        Raises `StoreError` if it has more than ``limit`` bytes.
        """

    def current(self, path: str, limit: int) -> Content | None:
        """Return a file that changes as the place itself has it now; None if it is missing."""

    def length(self, path: str) -> int | None:
        """Return the length of a file in bytes; None if it is missing."""

    def has(self, path: str, length: int) -> bool:
        """Return True if there is a file of this length in bytes."""

    def in_place(self, path: str, length: int) -> bool:
        """Return True if the place itself, not only this machine's copy of it, has a file of this length."""

    def put(self, path: str, content: bytes) -> None:
        """Put an immutable file in place, durably, unless it is there already with the same content."""

    def replace(self, path: str, content: bytes, tag: str | None) -> None:
        """Replace a file that changes, durably and at once, or create it if ``tag`` is None. See `hold`.

        Raises `LostRaceError`, and changes nothing, if ``tag`` no longer stands for its content. A `StoreError` may
        mean that it was replaced nevertheless: read it again.
        """

    def hold(self, path: str, content: bytes) -> None:
        """Keep a copy of a file that changes, as it is in a shared place, on this machine."""

    def adopt(self, file: Path, path: str) -> None:
        """Move a finished local file to its place, durably, unless it is there already in full length."""

    def secure(self, path: str) -> None:
        """Bring an immutable file that another process wrote into this machine's folder to the place."""

    def link(self, other: "Store", existing: str, path: str) -> None:
        """Give an immutable file of another store of the same kind a name here too, replacing a file there."""

    def names(self) -> Mapping[str, int | None]:
        """Return the paths of all files below ``v1`` and ``metadata``, with their lengths if they cost nothing."""

    def lengths(self) -> Mapping[str, int]:
        """Return the paths of all files that the place itself has below ``v1`` and ``metadata``, with their lengths."""

    def remove(self, path: str) -> int | None:
        """Remove a file; return how many bytes it had, None if it is gone already."""

    def local(self, path: str) -> Path:
        """Return where a file lies, or would lie, on this machine. It need not be there."""

    def present(self, path: str, length: int | None = None) -> Path:
        """Return where a file lies on this machine, after fetching it if it is not there in this ``length``."""

    def renew(self, path: str) -> bool:
        """Replace this machine's damaged copy of an immutable file by the place's; False if there is no sound one."""
