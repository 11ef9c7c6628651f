"""The coordinates of a number over time, drawn as steps. Pure; `chart` makes the figure.

The figure is an SVG that is stretched to the available width; lines keep their width. The labels at the axes are text
of the page, evenly spread, so that they keep their size on a phone and need no style of their own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

WIDTH: Final = 1000
HEIGHT: Final = 240
"""Height of the drawing; like `WIDTH`, in its own units."""
TIMES: Final = 5
"""Labels of the time axis, both ends included."""
_MOST_MARKS: Final = 6
_NICE: Final = (1, 2, 5, 10)


@dataclass(frozen=True)
class Point:
    """The value from ``at`` until the next point."""

    at: datetime
    value: int
    name: str = ""


@dataclass(frozen=True)
class Plot:
    """A line of steps, with its axes."""

    points: tuple[Point, ...]
    """by time; at least one"""
    until: datetime
    marks: tuple[int, ...]
    """labels of the value axis: round, evenly spread, the lowest first"""

    @property
    def lowest(self) -> Point:
        """The first point with the lowest value."""
        return min(self.points, key=lambda point: point.value)

    @property
    def highest(self) -> Point:
        """The first point with the highest value."""
        return max(self.points, key=lambda point: point.value)

    @property
    def times(self) -> tuple[datetime, ...]:
        """Labels of the time axis, evenly spread."""
        step = (self.until - self.points[0].at) / (TIMES - 1)
        return tuple(self.points[0].at + number * step for number in range(TIMES))

    def x(self, at: datetime) -> float:
        """Return the x coordinate of a time."""
        return WIDTH * ((at - self.points[0].at) / (self.until - self.points[0].at))

    def y(self, value: int) -> float:
        """Return the y coordinate of a value; 0 is the top."""
        return HEIGHT * (1 - (value - self.marks[0]) / (self.marks[-1] - self.marks[0]))

    def path(self) -> str:
        """Return the line, as the ``d`` of an SVG path: each value holds until the next."""
        first = self.points[0]
        steps = "".join(f"H{_n(self.x(point.at))}V{_n(self.y(point.value))}" for point in self.points[1:])
        return f"M{_n(self.x(first.at))} {_n(self.y(first.value))}{steps}H{WIDTH}"

    def area(self) -> str:
        """Return the line, closed along the lower edge."""
        return f"{self.path()}V{HEIGHT}H0Z"


def plot(points: Sequence[Point], until: datetime) -> Plot | None:
    """Lay out points that are sorted by time; None if there are no points.

    The last value holds ``until`` now. A clock that was set back does not reverse the axis.
    """
    if not points:
        return None
    last = max(until, points[-1].at, points[0].at + timedelta(seconds=1))
    values = [point.value for point in points]
    return Plot(tuple(points), last, round_marks(min(values), max(values)))


def round_marks(low: int, high: int) -> tuple[int, ...]:
    """Return at most six round, evenly spread whole numbers around ``low`` to ``high``; never below 0."""
    step = _step(max(high - low, 1))
    first = low // step
    last = max(-(-high // step), first + 1)
    if high == low and first > 0:  # puts the line in the middle, not along an edge
        first -= 1
        last = first + 2
    return tuple(number * step for number in range(first, last + 1))


def _step(span: int) -> int:
    rough = span / (_MOST_MARKS - 2)
    size = 10 ** max(0, math.floor(math.log10(rough))) if rough >= 1 else 1
    return next(nice * size for nice in _NICE if nice * size >= rough)


def time_words(times: Sequence[datetime]) -> Iterator[str]:
    """Yield the labels of the time axis, as short as possible while they differ."""
    span = times[-1] - times[0]
    form = "%d %b %Y" if span > timedelta(days=300) else "%d %b" if span > timedelta(days=30) else "%d %b %H:%M"
    if span < timedelta(hours=20) and times[0].astimezone(UTC).date() == times[-1].astimezone(UTC).date():
        form = "%H:%M" if span > timedelta(minutes=5) else "%H:%M:%S"
    return (
        at.astimezone(UTC).strftime(form).lstrip("0") if form[1] == "d" else f"{at.astimezone(UTC):{form}}"
        for at in times
    )


def _n(number: float) -> str:
    return f"{number:.1f}".rstrip("0").rstrip(".")
