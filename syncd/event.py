"""What an event is, of which ``syncd.events`` has every one, and what several of them share.

An event's name in the log is its class's, in lower case with underscores. What belongs to a sync carries its
``sync_id``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from syncd.units import stamp


class Level(StrEnum):
    """How much an event matters to a person."""

    INFO = "info"
    """things go their way"""
    WARNING = "warning"
    """something did not work that is tried again by itself"""
    ERROR = "error"
    """a person must act"""


@dataclass(frozen=True)
class Event:
    """What happened."""

    level: ClassVar[Level] = Level.INFO

    @classmethod
    def name(cls) -> str:
        """As the log names it."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    def importance(self) -> Level:
        """The level of this one; most events have that of their class."""
        return self.level

    def document(self) -> dict[str, Any]:
        """Its fields, as values that JSON has."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return stamp(value)
        case tuple():
            return [_plain(one) for one in value]
    return value


@dataclass(frozen=True)
class Fault(Event):
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

    outcome: str

    @property
    def importance(self) -> Level:
        """That of the outcome."""
        return _LEVELS.get(self.outcome, Level.INFO)


_LEVELS: Final[Mapping[str, Level]] = {
    "held": Level.ERROR,
    "rejected": Level.ERROR,
    "failed": Level.ERROR,
    "refused": Level.WARNING,
    "unreachable": Level.WARNING,
    "interrupted": Level.WARNING,
}
