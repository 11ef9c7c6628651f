"""The records of the history: publications that changed a list, and the versions that matchers loaded. No SQL here."""

import enum
from dataclasses import dataclass, field
from datetime import datetime

from syncd.format.manifest import SegmentRef
from syncd.model import Algorithm, ListName


class HistoryKind(enum.StrEnum):
    """The kind of change that one record of the history describes."""

    DELTA = "delta"
    """rows were added or removed"""
    FIRST = "first"
    """the list's first version; its segments are the whole stack"""
    WHOLE = "whole"
    """a whole stack replaced the previous version, without a delta"""
    ENDED = "ended"
    """the list was retired; the segments are the stack that ended"""
    LOST = "lost"
    """the rows of this record were lost from the disk before they were kept"""


@dataclass(frozen=True)
class HistoryRecord:
    """One publication that changed the head of a list, its origin, or both."""

    number: int
    """rises with every record; microseconds since 1970, so that a restored catalog does not use a number again"""
    list: ListName
    """the published name"""
    source: str
    at: datetime
    plan: str
    kind: HistoryKind = HistoryKind.DELTA
    version: int | None = None
    """of the head; None if it did not move"""
    serial: int | None = None
    """of the origin afterwards; None if the list follows no source"""
    head: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """the head's delta, or the stack that ``kind`` names"""
    origin: tuple[SegmentRef, ...] = field(default=(), repr=False)
    """the partner's delta, as the origin took it"""
    over_head: bool = False
    """true if the partner's delta applies to the head, because the origin's own rows were lost"""
    keys: tuple[str, ...] = ()
    """ids of the keys that signed the partner's manifest"""
    upstream: str = ""
    """SHA-256 of the partner's manifest"""
    sync_id: str | None = None
    actor: str = ""
    """the operator who asked for it; empty for a sync"""
    reason: str = ""
    folded: bool = False
    """true if its rows lie in a month's file"""

    @property
    def segments(self) -> tuple[SegmentRef, ...]:
        """Every segment that it names, each once."""
        return tuple(dict.fromkeys((*self.head, *self.origin)))


@dataclass(frozen=True)
class HistoryMonth:
    """The number of rows that the files of one month have, by kind of digest; fewer mean that a file was lost."""

    list: ListName
    algorithm: Algorithm
    width: int
    """bytes of a digest"""
    month: str
    """``2026-11``, in UTC"""
    rows: int


@dataclass(frozen=True)
class Load:
    """One instance of a matcher began to use another version of a list. ``version`` 0: it no longer has the list."""

    list: ListName
    matcher: str
    instance: str
    at: datetime
    version: int
