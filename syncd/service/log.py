"""Events on standard error: a line of JSON each, or readable where a person looks on."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from syncd.event import Event

Emit = Callable[[Event], None]


def emitter(stream: TextIO, clock: Callable[[], datetime]) -> Emit:
    """What writes an event to ``stream``; from any thread."""
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
        with contextlib.suppress(OSError, ValueError):  # whoever read the log has gone: the work goes on
            getattr(logger, level)(event.name(), timestamp=at, level=level, **fields)

    return emit


def _printable(value: Any) -> Any:
    """Without control characters: a partner's words, if any came through, cannot forge a line on a terminal."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in value)
    return [_printable(one) for one in value] if isinstance(value, list) else value
