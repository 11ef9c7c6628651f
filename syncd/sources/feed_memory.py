"""The memory of a signed feed between two syncs. Kept apart, so that it can be read without importing a follower."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from syncd.errors import RESTORE_CATALOG, StoreError
from syncd.sources.source import Memory
from syncd.trust.values import Floors


@dataclass(frozen=True)
class FeedMemory:
    """The memory of a signed feed: the lowest versions still accepted, and the SHA-256 of the pinned root they belong
    to."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    floors: Floors = field(default_factory=Floors)
    root_sha256: str | None = None
    """None if nothing has been verified yet"""
    retrusts: int = 0
    """the number of times that the source was retrusted"""
    type: Literal["feed"] = "feed"

    @classmethod
    def of(cls, memory: Memory) -> "FeedMemory":
        """Parse a source's memory. Raises `StoreError`."""
        try:
            return _MEMORY.validate_python(memory)
        except ValidationError:
            raise StoreError("the state of a signed feed in the catalog cannot be read", hint=RESTORE_CATALOG) from None

    def as_json(self) -> Memory:
        """Return it as JSON."""
        document: dict[str, Any] = _MEMORY.dump_python(self, mode="json")
        if not self.retrusts:
            del document["retrusts"]  # the release before this one does not know it
        return document

    def retrusted(self, root: bytes) -> "FeedMemory":
        """Return the memory for another pinned root: only the clock floor is kept."""
        return FeedMemory(Floors(clock=self.floors.clock), root_sha256(root), self.retrusts + 1)

    def verified(self, floors: Floors, root: str) -> "FeedMemory":
        """Return the memory after a verification by the root with this SHA-256."""
        return replace(self, floors=floors, root_sha256=root)

    def with_clock(self, clock: datetime) -> "FeedMemory":
        """Return the memory with another clock floor; the floors of versions stay."""
        return replace(self, floors=replace(self.floors, clock=clock))


_MEMORY: Final = TypeAdapter(FeedMemory)
_KIND: Final = "feed"


def clock_floor(memory: Memory) -> datetime | None:
    """Return the time, by our clock, when a signed feed was last verified; None for other kinds, or if it never was.

    Raises `StoreError` if the memory cannot be read.
    """
    return FeedMemory.of(memory).floors.clock if memory.get("type", _KIND) == _KIND else None


def root_sha256(root: bytes) -> str:
    """Return the SHA-256 of a pinned root, as a memory records it."""
    return hashlib.sha256(root).hexdigest()
