"""Base classes of log events. ``syncd.events`` defines the events themselves.

An event is named after its class, in lower case with underscores. An event that belongs to a sync carries its
``sync_id``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from syncd.outcomes import Level, Outcome
from syncd.units import stamp


def name_of(kind: type) -> str:
    """Return a class's name in lower case with underscores, without "Event" at its end."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Event")).lower()


@dataclass(frozen=True)
class Event:
    """One log event."""

    level: ClassVar[Level] = Level.INFO

    @classmethod
    def name(cls) -> str:
        """Return the event's name in the log."""
        return name_of(cls)

    @property
    def importance(self) -> Level:
        """The level of this event; usually that of its class."""
        return self.level

    def document(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


Emit = Callable[[Event], None]
"""Logs an event, or does something else with it."""


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return stamp(value)
        case StrEnum():
            return str(value)
        case tuple():
            return [_plain(item) for item in value]
    return value


@dataclass(frozen=True)
class FaultEvent(Event):
    """A failure that a person must act on."""

    level = Level.ERROR
    message: str
    to_do: str


@dataclass(frozen=True)
class SyncEvent(Event):
    """An event of one sync."""

    sync_id: str
    source: str


@dataclass(frozen=True)
class SyncEnded(SyncEvent):
    """The end of a sync, or of one list in it."""

    outcome: Outcome

    @property
    def importance(self) -> Level:
        """The level of the outcome."""
        return self.outcome.level


@dataclass(frozen=True)
class HoldEvent(Event):
    """An event of one hold."""

    hold: int
    source: str
    list: str
    lane: str
    """``additions``, ``removals``, ``both``, or ``suppressions``"""
    rows: int
