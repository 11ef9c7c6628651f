"""An explanation of a digest: which lists and entries support it or did, and what was in force when. Values only."""

from dataclasses import dataclass, field
from datetime import datetime

from syncd.catalog.decisions import HoldRecord, Suppression
from syncd.catalog.history_records import HistoryRecord
from syncd.history.search import Gap
from syncd.history.timeline import EntryEvent
from syncd.model import Digest, ListName


@dataclass(frozen=True)
class ExplainedEntry:
    """One entry that supports the digest, or did. ``label``: at the time asked for, or else its last known one."""

    entry: str
    label: str | None
    in_force: bool | None
    """at the time asked for; None: unknown"""
    events: tuple[EntryEvent, ...]
    since_before: bool
    """true if it was there already where the history begins"""


@dataclass(frozen=True)
class ExplainedMatcher:
    """The number of instances of a matcher that had a version of the list loaded at the time asked for."""

    matcher: str
    version: int
    instances: int
    in_force: bool | None
    """True if that version has the digest; None: unknown"""


@dataclass(frozen=True)
class ExplainedList:
    """All that is known of the digest in one list."""

    list: ListName
    source: str
    version: int | None
    """in force at the time asked for; None: none yet, or unknown"""
    in_force: bool | None
    known_from: HistoryRecord | None
    """the first version whose changes the history knows; None: it knows none"""
    complete: bool
    """true if that is the list's first version"""
    retired_at: datetime | None
    entries: tuple[ExplainedEntry, ...]
    matchers: tuple[ExplainedMatcher, ...]
    holds: tuple[HoldRecord, ...]
    """the open and discarded ones that keep rows of the digest back"""
    suppressions: tuple[Suppression, ...]
    """those that apply to this list"""
    gaps: tuple[Gap, ...] = ()

    @property
    def ever(self) -> bool:
        """True if the list ever supported the digest, or rows of it wait."""
        return bool(self.entries or self.holds)


@dataclass(frozen=True)
class Explanation:
    """The answer for one digest. ``at``: the time asked for; None: now."""

    digest: Digest
    at: datetime | None
    lists: tuple[ExplainedList, ...]
    """those that ever supported it"""
    others: tuple[ExplainedList, ...] = field(default=(), repr=False)
    """those that never did, as far as their history goes"""
    suppressions: tuple[Suppression, ...] = ()
    """all of this digest, those of no list included"""
    loads_from: datetime | None = None
    """when the record of loaded versions begins"""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Every part of the history that could not be read."""
        return tuple(gap for one in (*self.lists, *self.others) for gap in one.gaps)

    @property
    def in_force(self) -> bool | None:
        """True if any list had it in force at the time asked for; None if that is unknown."""
        answers = {one.in_force for one in (*self.lists, *self.others)}
        return True if True in answers else None if None in answers else False
