"""The picture of a list's rows over time: an SVG, its axes, what it shows in words, and the numbers as a table."""

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
    """Rows over time. ``points``: by time, named by their version."""
    laid = plot(points, now)
    if laid is None:
        return h("p", "Nothing was published yet.", class_="faint")
    return h(
        "figure",
        h(
            "div",
            h("div", (h("span", one) for one in reversed(laid.marks)), class_="y-axis", aria_hidden="true"),
            _picture(laid),
            h("div", (h("span", one) for one in time_words(laid.times)), class_="x-axis", aria_hidden="true"),
            class_="plot",
        ),
        h("figcaption", in_words(laid)),
        _numbers(laid),
        class_="chart",
    )


def spark(points: Sequence[Point], now: datetime) -> Html | None:
    """The same in the size of a word, for a row of a table that states the number itself."""
    laid = plot(points, now)
    if laid is None or len(points) < 2:  # noqa: PLR2004 - one point is no course
        return None
    line = h("path", d=laid.path(), class_="line")
    return h("svg", line, **_frame("spark"), aria_hidden="true", focusable="false")


def in_words(laid: Plot) -> str:
    """What the picture shows."""
    first, last = laid.points[0], laid.points[-1]
    least, most = laid.lowest, laid.highest
    now = f"{count(last.value, 'row')} now, {last.value - first.value:+,} since {exact(first.at)}."
    if least.value == most.value:
        return f"{now} It was never another number."
    return f"{now} Least {least.value:,} ({exact(least.at)}), most {most.value:,} ({exact(most.at)})."


def _picture(laid: Plot) -> Html:
    lines = (h("path", d=f"M0 {laid.y(one):.1f}H{WIDTH}", class_="grid") for one in laid.marks)
    drawn = join(lines, h("path", d=laid.area(), class_="area"), h("path", d=laid.path(), class_="line"))
    return h("svg", h("title", in_words(laid)), drawn, _dots(laid), **_frame("steps"), role="img")


def _dots(laid: Plot) -> Html | None:
    """A dot is a line of no length with round ends: a circle would be stretched with the picture."""
    if len(laid.points) > _MOST_DOTS:
        return None
    return join(
        h("path", h("title", _told(one)), d=f"M{laid.x(one.at):.1f} {laid.y(one.value):.1f}h0", class_="dot")
        for one in laid.points
    )


def _told(one: Point) -> str:
    return f"{one.name}: {count(one.value, 'row')}, {exact(one.at)}"


def _frame(kind: str) -> dict[str, str]:
    return {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "preserveAspectRatio": "none", "class_": kind}


def _numbers(laid: Plot) -> Html:
    newest = tuple(reversed(laid.points))[:_MOST_ROWS]
    rows = [(one.name, moment(one.at), one.value) for one in newest]
    shown = table("Rows by version, the newest first", ("Version", "From (UTC)", "Rows#"), rows)
    return h("details", h("summary", "The numbers as a table"), shown, id="rows-numbers")
