"""The figure of a list's rows over time: an SVG, its axes, a caption, and the numbers as a table."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from syncd.service.web.dashboard.html import Html, h, join
from syncd.service.web.dashboard.parts import exact, moment, table
from syncd.service.web.dashboard.plot import HEIGHT, WIDTH, Plot, Point, plot, time_words
from syncd.units import count

_MOST_DOTS: Final = 60
_MOST_ROWS: Final = 100


def chart(points: Sequence[Point], now: datetime) -> Html:
    """Return the figure. ``points``: sorted by time, named by their version."""
    laid = plot(points, now)
    if laid is None:
        return h("p", "Nothing has been published yet.", class_="faint")
    return h(
        "figure",
        h(
            "div",
            h("div", (h("span", mark) for mark in reversed(laid.marks)), class_="y-axis", aria_hidden="true"),
            _picture(laid),
            h("div", (h("span", label) for label in time_words(laid.times)), class_="x-axis", aria_hidden="true"),
            class_="plot",
        ),
        h("figcaption", in_words(laid)),
        _numbers(laid),
        class_="chart",
    )


def spark(points: Sequence[Point], now: datetime) -> Html | None:
    """Return the line alone, the size of a word, for a table row that states the number itself."""
    laid = plot(points, now)
    if laid is None or len(points) < 2:  # noqa: PLR2004 - one point shows no trend
        return None
    line = h("path", d=laid.path(), class_="line")
    return h("svg", line, **_frame("spark"), aria_hidden="true", focusable="false")


def in_words(laid: Plot) -> str:
    """Return the caption: the number of rows now, and the lowest and highest."""
    first, last = laid.points[0], laid.points[-1]
    least, most = laid.lowest, laid.highest
    now = f"{count(last.value, 'row')} now, {last.value - first.value:+,} since {exact(first.at)}."
    cut = f" The axis begins at {laid.marks[0]:,}, not at 0." if laid.marks[0] else ""
    if least.value == most.value:
        return f"{now} It never changed.{cut}"
    return f"{now} Lowest: {least.value:,} ({exact(least.at)}). Highest: {most.value:,} ({exact(most.at)}).{cut}"


def _picture(laid: Plot) -> Html:
    lines = (h("path", d=f"M0 {laid.y(mark):.1f}H{WIDTH}", class_="grid") for mark in laid.marks)
    drawn = join(lines, h("path", d=laid.area(), class_="area"), h("path", d=laid.path(), class_="line"))
    return h("svg", h("title", in_words(laid)), drawn, _dots(laid), **_frame("steps"), role="img")


def _dots(laid: Plot) -> Html | None:
    """Return the dots. Each is a line of length 0 with round ends: a circle would be stretched with the figure."""
    if len(laid.points) > _MOST_DOTS:
        return None
    return join(
        h(
            "path",
            h("title", f"{point.name}: {count(point.value, 'row')}, {exact(point.at)}"),
            d=f"M{laid.x(point.at):.1f} {laid.y(point.value):.1f}h0",
            class_="dot",
        )
        for point in laid.points
    )


def _frame(kind: str) -> dict[str, str]:
    return {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "preserveAspectRatio": "none", "class_": kind}


def _numbers(laid: Plot) -> Html:
    newest = tuple(reversed(laid.points))[:_MOST_ROWS]
    rows = [(point.name, moment(point.at), point.value) for point in newest]
    shown = table("Rows by version, newest first", ("Version", "From (UTC)", "Rows#"), rows)
    return h("details", h("summary", "Show the numbers as a table"), shown, id="rows-numbers")
