"""The log: one line per event, as JSON or as readable text. A line for the journal begins with its priority.

The newest events are also kept in memory, for the dashboard.
"""

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog

from syncd import journal
from syncd.config import LogFormat
from syncd.event import Emit, Event
from syncd.outcomes import Level

MOST_RECENT: Final = 200
"""Events that are kept in memory."""
_PRIORITIES: Final = {Level.INFO: journal.INFO, Level.WARNING: journal.WARNING, Level.ERROR: journal.ERROR}


def emitter(stream: TextIO, clock: Callable[[], datetime], form: LogFormat = "auto") -> Emit:
    """Return a function that writes events to ``stream``, from any thread.

    ``form``: "auto" is readable text on a terminal and JSON elsewhere.
    """
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "text" or (form == "auto" and stream.isatty()):
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[renderer, _Prefix()] if journal.is_journal(stream) else [renderer],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )

    def emit(event: Event) -> None:
        at = clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        level = str(event.importance)
        fields = {key: _printable(value) for key, value in event.document().items()}
        with contextlib.suppress(OSError, ValueError):  # the log has no reader any more: work goes on
            getattr(logger, level)(event.name(), timestamp=at, level=level, **fields)

    return emit


@dataclass(frozen=True)
class LoggedEvent:
    """An event, and when it was logged."""

    at: datetime
    event: Event


class RecentEvents:
    """An `Emit` that keeps the newest events and passes all on. Safe to share between threads."""

    def __init__(self, emit: Emit, clock: Callable[[], datetime], most: int = MOST_RECENT) -> None:
        self._emit, self._clock = emit, clock
        self._kept: deque[LoggedEvent] = deque(maxlen=most)

    def __call__(self, event: Event) -> None:
        """Keep an event, and pass it on."""
        self._kept.append(LoggedEvent(self._clock(), event))
        self._emit(event)

    def newest(self) -> tuple[LoggedEvent, ...]:
        """Return the kept events, the newest first."""
        return tuple(reversed(self._kept.copy()))


class _Prefix:
    """Prefixes a line with the journal's priority for its level."""

    def __call__(self, _logger: Any, level: str, line: Any) -> str:
        return journal.with_priority(line, _PRIORITIES[Level(level)])


def _printable(value: Any) -> Any:
    """Escape control characters, so that text from a partner, if any gets here, cannot forge a line on a terminal."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return [_printable(item) for item in value] if isinstance(value, list) else value
