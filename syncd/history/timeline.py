"""The timeline of each entry, replayed from rows of the history. Pure."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from syncd.catalog.history_records import HistoryKind, HistoryRecord
from syncd.history.rows import HEAD, ORIGIN, HistoryRow
from syncd.history.search import Found, Supported

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class EntryChange(enum.StrEnum):
    """The change of one entry by one publication."""

    ADDED = "added"
    RELABELLED = "relabelled"
    REMOVED = "removed"


@dataclass(frozen=True)
class EntryEvent:
    """One change of one entry: of what we publish, of what the partner states, or of both at once."""

    number: int
    at: datetime
    change: EntryChange
    label: str | None
    """afterwards; of a removal: before, None if unknown"""
    before: str | None = None
    """the label that a relabelled entry had"""
    version: int | None = None
    """of the head; None if only the partner's state changed: the row was held, refused or suppressed"""
    serial: int | None = None
    """of the partner, that stated it; None: unknown, or not the partner's doing"""
    stated: bool = False
    """true if the partner's state changed too"""
    certain: bool = True
    """false if the state before is unknown, so that an entry that was added may have been there under another label"""
    record: HistoryRecord | None = None
    """None if the catalog has lost it"""
    stated_by: HistoryRecord | None = None
    """the record in which the partner stated it"""


_Change = tuple[EntryChange, str | None, bool]
"""A change, the label before, and whether the state before is certain."""


@dataclass
class _Side:
    """The state of one entry in the head or in the origin."""

    known: bool
    label: str | None = None
    """None: it is absent"""

    def set(self, label: str | None) -> _Change | None:
        """Change the label; None removes it. Returns what changed; None if nothing did."""
        known, before = self.known, self.label
        self.known, self.label = True, label
        if label is None:
            return None if known and before is None else (EntryChange.REMOVED, before, known)
        if not known or before is None:
            return EntryChange.ADDED, None, known
        return None if before == label else (EntryChange.RELABELLED, before, True)


@dataclass
class _Entry:
    head: _Side
    origin: _Side
    stated: tuple[int | None, HistoryRecord | None] = (None, None)
    """the partner's serial that stated it last, and its record"""
    events: list[EntryEvent] = field(default_factory=list)

    def note(
        self,
        step: HistoryRow,
        record: HistoryRecord | None,
        change: _Change,
        label: str | None,
        *,
        version: int | None,
        stated: bool,
    ) -> None:
        """Add an event."""
        kind, before, certain = change
        event = EntryEvent(
            number=step.number,
            at=_EPOCH + timedelta(microseconds=step.at),
            change=kind,
            label=before if kind is EntryChange.REMOVED else label,
            before=before if kind is EntryChange.RELABELLED else None,
            version=version,
            serial=self.stated[0],
            stated=stated,
            certain=certain,
            record=record,
            stated_by=self.stated[1],
        )
        self.events.append(event)


@dataclass
class Replay:
    """Plays the history of one list for one digest. ``complete``: it begins with the list's first version."""

    complete: bool
    entries: dict[str, _Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._known = self.complete

    def entry(self, name: str) -> _Entry:
        """Return an entry; a new one is absent, or unknown if the history does not reach back to the beginning."""
        return self.entries.setdefault(name, _Entry(_Side(self._known), _Side(self._known)))

    def run(self, found: Found) -> "Replay":
        """Play all publications in order."""
        steps: list[tuple[int, HistoryRecord | tuple[HistoryRow, ...]]] = []
        steps += [(state.number, state) for state in found.states]
        steps += [(number, tuple(rows)) for number, rows in groupby(found.rows, lambda row: row.number)]
        for number, step in sorted(steps, key=lambda step: step[0]):
            if isinstance(step, HistoryRecord):
                self._state(step, found.stacks.get(number))
            else:
                self._rows(step, found.records.get(number))
        return self

    def contradictions(self, now: Supported) -> tuple[str, ...]:
        """Return the entries whose state now is not the one that the history leads to: rows of it were lost."""
        wrong = [name for name, entry in self.entries.items() if entry.head.known and entry.head.label != now.get(name)]
        missing = [name for name in now if self._known and name not in self.entries]
        return tuple(sorted({*wrong, *missing}))

    def _state(self, record: HistoryRecord, stack: Supported | None) -> None:
        if stack is None:  # lost: nothing is known from here on
            self._known = False
            for entry in self.entries.values():
                entry.head.known = entry.origin.known = False
            return
        for name in sorted({*self.entries, *stack}):
            entry, label = self.entry(name), stack.get(name)
            if record.kind is HistoryKind.ENDED:
                if not entry.head.known:
                    entry.head = _Side(True, label)
                label = None
            self._apply(entry, record, _step_of(record), head=(label,), origin=(label,))
        self._known = True

    def _rows(self, rows: Sequence[HistoryRow], record: HistoryRecord | None) -> None:
        for name, some in groupby(rows, lambda row: row.entry):
            entry = self.entry(name)
            if record is not None and record.over_head:
                entry.origin = _Side(entry.head.known, entry.head.label)
            of_entry = tuple(some)
            head, origin = (_label(of_entry, side) for side in (HEAD, ORIGIN))
            self._apply(entry, record, of_entry[0], head=head, origin=origin)

    def _apply(
        self,
        entry: _Entry,
        record: HistoryRecord | None,
        step: HistoryRow,
        *,
        head: tuple[str | None, ...],
        origin: tuple[str | None, ...],
    ) -> None:
        """Set the label of both sides; ``()`` leaves a side as it is."""
        stated = entry.origin.set(origin[0]) if origin else None
        published = entry.head.set(head[0]) if head else None
        if origin:
            entry.stated = (step.serial or None, record)
        if published is not None:
            both = stated is not None and stated[0] is published[0]
            entry.note(step, record, published, head[0], version=step.version or None, stated=both)
        if stated is not None and (published is None or (published[0], head) != (stated[0], origin)):
            entry.note(step, record, stated, origin[0], version=None, stated=True)


def _label(rows: Iterable[HistoryRow], side: int) -> tuple[str | None, ...]:
    """Return the label that rows of one entry set on a side: (None,) if they remove it, () if they leave it."""
    mine = [row for row in rows if row.of & side]
    return ((None if mine[-1].removed else mine[-1].label),) if mine else ()


def _step_of(record: HistoryRecord) -> HistoryRow:
    at = round((record.at - _EPOCH).total_seconds() * 1_000_000)
    both = HEAD | ORIGIN
    return HistoryRow(
        record.number, record.version or 0, record.serial or 0, at, entry="", label="", removed=False, of=both
    )


def in_force(events: Sequence[EntryEvent], now: bool, version: int | None, *, complete: bool) -> bool | None:
    """Return True if an entry was in force in a version; None if that is unknown.

    ``now``: whether it is in force now. ``version`` None: before the first version that the history knows.
    """
    if version is None:
        return False if complete else None
    published = [event for event in events if event.version is not None]
    last = next((event for event in reversed(published) if (event.version or 0) <= version), None)
    if last is not None:
        return last.change is not EntryChange.REMOVED
    following = next(iter(published), None)
    if following is None:
        return now
    if following.change is EntryChange.ADDED:
        return False if following.certain else None
    return True


def label_in(events: Sequence[EntryEvent], now: str | None, version: int | None) -> str | None:
    """Return the label of an entry in a version in which it was in force; None if it is unknown.

    ``now``: the label that it has now; None if it is not in force.
    """
    published = [event for event in events if event.version is not None]
    last = next((event for event in reversed(published) if (event.version or 0) <= (version or 0)), None)
    if last is not None:
        return last.label
    following = next(iter(published), None)
    if following is None:
        return now
    return following.label if following.change is EntryChange.REMOVED else following.before
