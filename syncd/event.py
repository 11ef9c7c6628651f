"""What an event is, of which ``syncd.events`` has every one, and what several of them share.

An event's name in the log is its class's, in lower case with underscores. What belongs to a sync carries its
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
    """A class's name in lower case with underscores, as logs have it."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@dataclass(frozen=True)
class Event:
    """What happened."""

    level: ClassVar[Level] = Level.INFO

    @classmethod
    def name(cls) -> str:
        """As the log names it."""
        return name_of(cls)

    @property
    def importance(self) -> Level:
        """The level of this one; most events have that of their class."""
        return self.level

    def document(self) -> dict[str, Any]:
        """Its fields, as values that JSON has."""
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
            return [_plain(one) for one in value]
    return value


@dataclass(frozen=True)
class FaultEvent(Event):
    """Something did not work, and a person must act."""

    level = Level.ERROR
    message: str
    to_do: str


@dataclass(frozen=True)
class SyncEvent(Event):
    """Of one sync."""

    sync_id: str
    source: str


@dataclass(frozen=True)
class SyncEnded(SyncEvent):
    """What came of it, or of a part of it."""

    outcome: Outcome

    @property
    def importance(self) -> Level:
        """That of the outcome."""
        return self.outcome.level
