"""Holds: the tables of the open and the discarded ones, and their page. Pure: turns data into markup."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from syncd.catalog.decisions import HoldRecord, HoldState
from syncd.report.holds import commands_of
from syncd.service.web.dashboard.actions import act_link, rows_by_algorithm
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import list_link, past, prose, table_section


def holds_page(holds: Iterable[HoldRecord], published: Collection[str], now: datetime, *, acting: bool) -> Html:
    """Return the page of all holds. ``published``: the lists that have a page; ``acting``: with links to acts."""
    holds = tuple(holds)
    waiting = [hold for hold in holds if hold.state is HoldState.OPEN]
    refused = [hold for hold in holds if hold.state is HoldState.DISCARDED]
    return join(
        heading("Holds", h("p", "Changes that wait for a decision, and those that were refused", class_="crumb")),
        open_holds(waiting, now, acting=acting, published=published),
        _discarded(refused, published, now, acting=acting),
    )


def open_holds(
    holds: Sequence[HoldRecord], now: datetime, *, acting: bool, published: Collection[str] | None = None
) -> Html:
    """Return the open holds. ``published``: as in `holds_page`; None: they are shown on the page of their list."""
    columns = ("Hold", *(() if published is None else ("List",)), "Lane", "Rows#", "Why", "Since", "To do")
    rows = [
        (
            str(hold.id),
            *_list_of(hold, published),
            str(hold.lane),
            _rows(hold),
            hold.message,
            past(hold.opened_at, now),
            _ways_out(hold) if acting else prose(commands_of(hold)),
        )
        for hold in holds
    ]
    return table_section("holds", "Open holds", columns, rows, empty="Nothing is held.")


def _discarded(holds: Sequence[HoldRecord], published: Collection[str], now: datetime, *, acting: bool) -> Html | None:
    if not holds:
        return None
    columns = ("Hold", "List", "Lane", "Rows#", "By", "When", "Reason", "To do")
    rows = [
        (
            str(hold.id),
            *_list_of(hold, published),
            str(hold.lane),
            _rows(hold),
            hold.ended_by,
            past(hold.ended_at, now),
            hold.ended_reason,
            _release(hold) if acting else prose(f"`syncd release {hold.id} --reason R` publishes it after all"),
        )
        for hold in holds
    ]
    return table_section("refused", "Discarded holds", columns, rows)


def _list_of(hold: HoldRecord, published: Collection[str] | None) -> Sequence[Child]:
    if published is None:
        return ()
    return (list_link(hold.list) if hold.list in published else hold.list,)


def _rows(hold: HoldRecord) -> Html:
    counts = rows_by_algorithm(hold)
    return join(hold.rows, h("small", counts) if counts else None)


def _ways_out(hold: HoldRecord) -> Html:
    return h("span", _release(hold), act_link("discard", hold.id, "Discard", f"hold {hold.id}"), class_="acts")


def _release(hold: HoldRecord) -> Html:
    return act_link("release", hold.id, "Release", f"hold {hold.id}")
