"""The input and the results of preparing a source: the protocol of the first half of the road."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from syncd.catalog.records import Position
from syncd.errors import SyncdError
from syncd.fetch import Meter
from syncd.format.manifest import EndState, ManifestRef, SegmentRef
from syncd.model import Algorithm, ListName
from syncd.pipeline.values import Over, Staged, Unchanged, UpToDate, Waiting
from syncd.sources.kinds import AnySource
from syncd.sources.source import Memory

Progress = Callable[[str, int, int], None]
"""Receives the stage, the amount done, and the total (0 if not known)."""


@dataclass(frozen=True)
class LocalList:
    """The held state of a list, and the part of it that is still on this disk."""

    ref: ManifestRef | None = None
    """the upstream's version that is held; None if nothing is held or the source was given another root"""
    retrusted: bool = False
    """true if the operator gave the source another root after that version"""
    over: Over = Over.NOTHING
    """the state that ``stack`` gives"""
    stack: tuple[SegmentRef, ...] = ()
    """the origin's, or the head's if ``owed`` was lost"""
    end_state: Mapping[Algorithm, EndState] = field(default_factory=dict)
    """the end state of ``stack``"""
    rows: int = 0
    """entries of the origin"""
    fork: ManifestRef | None = None
    """the newest upstream version that does not descend from ``ref`` and waits or was discarded"""
    fork_waits: bool = False
    position: Position | None = None
    """how far it was read, if its partner signs nothing"""
    waiting: "WaitingList | None" = None
    """if its partner signs nothing: the whole list that waits to become the origin"""

    @property
    def complete(self) -> bool:
        """True if the whole origin is on this disk."""
        return self.over is Over.ORIGIN


@dataclass(frozen=True)
class WaitingList:
    """A whole list that a partner stated and that waits for an operator, or was discarded: the next poll goes on."""

    stack: tuple[SegmentRef, ...]
    end_state: Mapping[Algorithm, EndState]
    position: Position


@dataclass(frozen=True)
class Request:
    """The input of a preparation. It contains no keys, and nothing from the catalog except this source's held state."""

    source: AnySource
    folder: Path
    """the source's own folder; the caller holds its lock"""
    memory: Memory
    """the source's memory from its last sync"""
    held: Mapping[ListName, LocalList]
    now: datetime

    def of(self, name: ListName) -> LocalList:
        """Return the held state of a list."""
        return self.held.get(name, LocalList())


@dataclass(frozen=True)
class VerifiedSource:
    """The source's trust was verified; ``memory`` is the memory to keep for the next sync.

    For a signed feed this step comes first: its metadata is verified before any list.
    """

    memory: Memory
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """by a short reason: fingerprints and fields of a partner that signs nothing which were not used"""


@dataclass(frozen=True)
class Prepared:
    """The result for one list."""

    name: ListName
    result: UpToDate | Unchanged | Waiting | Staged | SyncdError


Preparing = Generator[VerifiedSource | Prepared, None, None]
Prepare = Callable[[Request, Progress, Meter], Preparing]
"""Prepares the lists of one source one after the other: `prepare` in this process, or a worker process that runs it.
The meter counts every byte from the source, even if the sync fails.

Raises `SyncdError` if the whole source fails. Closing the generator ends the work.
"""
