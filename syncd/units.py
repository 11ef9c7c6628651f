"""Times and quantities as text, in the same form in all reports, tables and documents."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""The difference between clocks of hosts that is tolerated."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_BYTES: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_LARGE: Final = 100
_OF_ROWS: Final = frozenset({"check", "stage", "compare"})
"""Stages of a sync whose progress is in rows; all others are in bytes."""


def stamp(time: datetime) -> str:
    """Format a time for documents."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(time: datetime) -> str:
    """Format a time for tables."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def span(length: timedelta) -> str:
    """Format a length of time in its largest unit, rounded down: ``3 days``."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (1, "second")):
        if seconds >= size or size == 1:
            return count(seconds // size, unit)
    raise AssertionError("unreachable: a second is the smallest unit")


def ago(age: timedelta) -> str:
    """Format an age: ``3 days ago``, or ``in the future`` if the local clock was set back."""
    return "in the future" if clock_is_behind(age) else f"{span(age)} ago"


def clock_is_behind(age: timedelta) -> bool:
    """Return True if the age of a past event shows that the local clock was set back by more than the tolerance."""
    return age < -CLOCK_TOLERANCE


def count(number: int, noun: str) -> str:
    """Format a count: ``1 row``, ``1,200 rows``, ``2 entries``."""
    if number == 1:
        return f"{number:,} {noun}"
    return f"{number:,} {noun.removesuffix('ry')}ries" if noun.endswith("ry") else f"{number:,} {noun}s"


def ranges(numbers: Iterable[int], to: str = "-") -> str:
    """Format numbers as ranges: ``1-3, 7``, with ``to`` between first and last; '' if there are none."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}{to}{last}" for first, last in found)


def done_of(stage: str, done: int, total: int) -> str:
    """Format progress: ``12.3 of 320 MB``, ``1,200,000 of 10,000,000 rows``; '' if the total is not known."""
    if not total:
        return ""
    if stage in _OF_ROWS:
        return f"{done:,} of {count(total, 'row')}"
    size, unit = next((step for step in _BYTES if total >= step[0]), (1, "bytes"))
    return f"{_short(done, size)} of {_short(total, size)} {unit}"


def _short(number: int, size: int) -> str:
    amount = number / size
    return f"{amount:,.0f}" if size == 1 or amount >= _LARGE else f"{amount:.1f}"


def in_words(outcome: str) -> str:
    """Return the outcome of a sync in words."""
    return "would be published" if outcome == "staged" else outcome.replace("_", " ")


def brief(text: str, length: int = 100) -> str:
    """Return text of another party for use in a message: ASCII, on one line, at most ``length`` characters."""
    return ascii(text)[1:-1][:length]
