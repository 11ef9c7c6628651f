"""The building blocks of pages: tables, times, states in words, facts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from syncd.catalog.records import SyncRecord
from syncd.outcomes import Outcome
from syncd.report.judged import SourceView
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.units import ago, count, day, in_words, span, stamp

OVERDUE: Final = timedelta(minutes=5)
_UNITS: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class Mark(StrEnum):
    """A state. Each has its own shape, with words beside it, so that nothing depends on colour alone."""

    GOOD = "good"
    WATCH = "watch"
    ACT = "act"
    IDLE = "idle"


_SHAPES: Final[Mapping[Mark, str]] = {
    Mark.GOOD: "M2.5 6.5 5 9l4.5-6",
    Mark.WATCH: "M6 1.5 11 10.5H1ZM6 5v2.5M6 9v.01",
    Mark.ACT: "M3.9 1H8.1L11 3.9V8.1L8.1 11H3.9L1 8.1V3.9ZM6 3.5v3M6 8.4v.01",
    Mark.IDLE: "M3 6h6",
}


def state(mark: Mark, words: Child) -> Html:
    """Return a state: its shape and its words."""
    shape = h("svg", h("path", d=_SHAPES[mark]), viewBox="0 0 12 12", aria_hidden="true", focusable="false")
    return h("span", shape, h("span", words), class_=f"state {mark}")


def outcome_mark(outcome: Outcome) -> Mark:
    """Return the mark for the outcome of a sync."""
    if outcome.good:
        return Mark.GOOD
    if outcome is Outcome.RUNNING:
        return Mark.IDLE
    return Mark.ACT if outcome.urgent else Mark.WATCH


def outcome(ended: Outcome | None) -> Html:
    """Return the outcome of a sync, or of one list in it."""
    return state(Mark.IDLE, "never") if ended is None else state(outcome_mark(ended), in_words(ended))


def begun(source: SourceView, now: datetime) -> Html:
    """Return when the last sync of a source began, with a note if one is running."""
    running = source.running
    kind = "a dry run is running" if running and running.dry_run else "running"
    return join(past(source.last.started_at if source.last else None, now), h("small", kind) if running else None)


def past(at: datetime | None, now: datetime, otherwise: str = "never") -> Html:
    """Return how long ago something was; the page keeps it current. The exact time is its title."""
    if at is None:
        return h("span", otherwise, class_="faint")
    return h("time", ago(now - at), datetime=stamp(at), data_tick="ago", title=exact(at))


def exact(at: datetime) -> str:
    """Return a time in words, for a title or a table."""
    return f"{day(at)} UTC"


def moment(at: datetime) -> Html:
    """Return a time as an element that does not change."""
    return h("time", day(at), datetime=stamp(at), class_="moment")


def due(left: timedelta) -> str:
    """Return when something is due; the page's script uses the same words."""
    if left < -OVERDUE:
        return "overdue"
    return f"in {span(left)}" if left > timedelta(0) else "now"


def next_sync(source: SourceView, now: datetime) -> Html:
    """Return when a source is synced next, with the reason if it cools down after failures."""
    if not source.configured:
        return h("span", "none: no longer configured", class_="faint")
    at = source.next_run_at
    if at is None:
        return h("span", "not planned", class_="faint")
    shown = h("time", due(at - now), datetime=stamp(at), data_tick="due", title=exact(at))
    cooling = source.cool_down_until is not None and source.cool_down_until > now
    row = " in a row" if source.failures > 1 else ""
    reason = f"paused after {count(source.failures, 'failure')}{row}" if cooling else None
    return join(shown, h("small", reason) if reason else None)


def size(number: int) -> str:
    """Return a number of bytes in the largest fitting unit."""
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def lasted(one: SyncRecord) -> str:
    """Return the duration of a sync; '' while it runs."""
    if one.finished_at is None:
        return ""
    seconds = max(0.0, (one.finished_at - one.started_at).total_seconds())
    return f"{seconds:.1f} s" if seconds < 60 else span(timedelta(seconds=seconds))  # noqa: PLR2004 - a minute


def list_link(name: str) -> Html:
    """Return a link to a list's page."""
    return h("a", name, href=f"/lists/{quote(name, safe='')}")


def source_link(name: str) -> Html:
    """Return a link to a source's page."""
    return h("a", name, href=f"/sources/{quote(name, safe='')}")


def prose(text: str) -> Html:
    """Return a sentence in which `` `this` `` becomes code."""
    return join(h("code", part) if number % 2 else part for number, part in enumerate(text.split("`")))


@dataclass(frozen=True)
class Fact:
    """A name and its value, with a remark."""

    name: str
    value: Child
    beside: Child = None


def facts(found: Iterable[Fact]) -> Html:
    """Return facts, side by side."""
    return h(
        "dl",
        (
            h("div", h("dt", one.name), h("dd", one.value, h("small", one.beside) if one.beside else None))
            for one in found
        ),
        class_="facts",
    )


def section(key: str, title: str, *content: Child, beside: Child = None, level: int = 2) -> Html:
    """Return a part of a page under a heading. The page's script replaces it when something in it has changed."""
    return h("section", _head(key, title, beside, level), *content, **_live(key))


def table_section(
    key: str,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    beside: Child = None,
    after: Child = None,
    empty: Child = "None yet.",
) -> Html:
    """Return a part of a page that is one `table`; its heading is the caption. ``empty``: shown without rows."""
    if not rows:
        return section(key, title, h("p", empty, class_="faint"), beside=beside)
    return h("section", table(_head(key, title, beside), columns, rows), after, **_live(key))


def _head(key: str, title: str, beside: Child, level: int = 2) -> Html:
    return h("div", h(f"h{level}", title, id=f"{key}-title"), beside, class_="head")


def _live(key: str) -> dict[str, str]:
    return {"id": key, "data_live": key, "aria_labelledby": f"{key}-title"}


def table(caption: Child, columns: Sequence[str], rows: Iterable[Sequence[Child]]) -> Html:
    """Return a table whose first column names the row; columns whose name ends in ``#`` hold numbers.

    Roles are stated although the elements imply them: on a narrow screen rows are laid out as blocks, and some
    browsers then no longer treat this as a table.
    """
    head = h(
        "tr",
        (h("th", one.removesuffix("#"), scope="col", role="columnheader", class_=_number(one)) for one in columns),
        role="row",
    )
    body = (
        h(
            "tr",
            (_cell(name, cell, first=not n) for n, (name, cell) in enumerate(zip(columns, row, strict=True))),
            role="row",
        )
        for row in rows
    )
    return h(
        "table",
        h("caption", caption),
        h("thead", head, role="rowgroup"),
        h("tbody", body, role="rowgroup"),
        role="table",
    )


def _cell(column: str, value: Child, *, first: bool) -> Html:
    if first:
        return h(
            "th", value, scope="row", role="rowheader", class_=_number(column), data_label=column.removesuffix("#")
        )
    return h("td", value, role="cell", class_=_number(column), data_label=column.removesuffix("#"))


def _number(column: str) -> str | None:
    return "number" if column.endswith("#") else None
