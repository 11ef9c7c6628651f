"""Times and amounts in words, as every report, table and document of ours shows them."""

from datetime import UTC, datetime, timedelta
from typing import Final

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""By which clocks of hosts may differ."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_BYTES: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_LARGE: Final = 100
_OF_ROWS: Final = frozenset({"check", "stage", "compare"})
"""The stages of a sync that are measured in rows; all others are in bytes."""


def stamp(time: datetime) -> str:
    """A time as documents state it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(time: datetime) -> str:
    """A time as tables show it."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def span(length: timedelta) -> str:
    """A length of time in its largest unit, rounded down: ``3 days``."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (1, "second")):
        if seconds >= size or size == 1:
            return count(seconds // size, unit)
    raise AssertionError("unreachable: a second is the smallest unit")


def ago(age: timedelta) -> str:
    """How long ago something was; a clock that was set back is not read as "just now"."""
    return "in the future" if clock_is_behind(age) else f"{span(age)} ago"


def clock_is_behind(age: timedelta) -> bool:
    """Whether the age of something past shows that the local clock was set back; clocks of hosts differ a little."""
    return age < -CLOCK_TOLERANCE


def count(number: int, one: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def done_of(stage: str, done: int, total: int) -> str:
    """How far a stage is: ``12.3 of 320 MB``, ``1,200,000 of 10,000,000 rows``; '' where nothing is known."""
    if not total:
        return ""
    if stage in _OF_ROWS:
        return f"{done:,} of {count(total, 'row')}"
    size, unit = next((one for one in _BYTES if total >= one[0]), (1, "bytes"))
    return f"{_short(done, size)} of {_short(total, size)} {unit}"


def _short(number: int, size: int) -> str:
    amount = number / size
    return f"{amount:,.0f}" if size == 1 or amount >= _LARGE else f"{amount:.1f}"


def in_words(outcome: str) -> str:
    """How a sync ended, as people read it."""
    return "would be published" if outcome == "staged" else outcome.replace("_", " ")


def brief(text: str, length: int = 100) -> str:
    """What another party wrote, for a message: ASCII, on one line, and no longer than that."""
    return ascii(text)[1:-1][:length]
