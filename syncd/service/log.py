"""The log: one line of JSON per event, or readable text on a terminal."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from syncd.event import Emit, Event


def emitter(stream: TextIO, clock: Callable[[], datetime]) -> Emit:
    """Return a function that writes events to ``stream``, from any thread."""
    renderer: Any = structlog.processors.JSONRenderer()
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer(colors=True, sort_keys=False)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream), processors=[renderer], wrapper_class=structlog.make_filtering_bound_logger(0)
    )

    def emit(event: Event) -> None:
        at = clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        level = str(event.importance)
        fields = {key: _printable(value) for key, value in event.document().items()}
        with contextlib.suppress(OSError, ValueError):  # the log has no reader any more: work goes on
            getattr(logger, level)(event.name(), timestamp=at, level=level, **fields)

    return emit


def _printable(value: Any) -> Any:
    """Escape control characters, so that text from a partner, if any gets here, cannot forge a line on a terminal."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return [_printable(item) for item in value] if isinstance(value, list) else value
