"""The newest events of the daemon, kept in memory for the dashboard."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.event import Emit, Event

MOST: Final = 200


@dataclass(frozen=True)
class LoggedEvent:
    """An event, and when it was logged."""

    at: datetime
    event: Event


class RecentEvents:
    """An `Emit` that keeps the newest events and passes all on. Safe to share between threads."""

    def __init__(self, emit: Emit, clock: Callable[[], datetime], most: int = MOST) -> None:
        self._emit, self._clock = emit, clock
        self._kept: deque[LoggedEvent] = deque(maxlen=most)

    def __call__(self, event: Event) -> None:
        """Keep an event, and pass it on."""
        self._kept.append(LoggedEvent(self._clock(), event))
        self._emit(event)

    def newest(self) -> tuple[LoggedEvent, ...]:
        """Return the kept events, the newest first."""
        return tuple(reversed(self._kept.copy()))
