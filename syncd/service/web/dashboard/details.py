"""The pages of one list and of one source. Pure: turns data into markup."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

from syncd.catalog.records import SyncRecord, VersionSummary
from syncd.format.freshness import limit_in_words
from syncd.model import Counts
from syncd.outcomes import reasons_in_words
from syncd.report.judged import ListView, Overview, SourceView
from syncd.report.pins import PinView
from syncd.service.web.dashboard.actions import act_link
from syncd.service.web.dashboard.chart import chart
from syncd.service.web.dashboard.fleet import loaded_by
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.holds import open_holds
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.overview import list_state
from syncd.service.web.dashboard.parts import (
    Fact,
    begun,
    exact,
    facts,
    lasted,
    list_link,
    moment,
    next_sync,
    outcome,
    past,
    section,
    size,
    source_link,
    table_section,
)
from syncd.service.web.dashboard.plot import Point
from syncd.service.web.dashboard.tasks import History, PageData, task_list
from syncd.units import in_words, span


def list_page(data: PageData, one: ListView, history: History, *, acting: bool = False) -> Html:
    """Return the page of one list: its state, rows over time, versions, and the matchers that have loaded it.

    ``acting``: with links to acts.
    """
    now = data.overview.now
    points = [Point(version.created_at, version.rows, f"Version {version.version}") for version in history]
    return join(
        heading(one.head.list, h("p", "A list of ", _source(data.overview, one.head.source), class_="crumb")),
        section("standing", "State", _tasks(data, one.head.source, one.head.list), facts(_list_facts(one))),
        h("p", _acts(one), class_="acts") if acting and not one.retired else None,
        open_holds(one.holds, one.now, acting=acting) if one.holds else None,
        section("rows", "Rows over time", chart(points, now)),
        _versions(history),
        loaded_by(data.overview, one.head.list),
    )


def _acts(one: ListView) -> Iterator[Child]:
    yield act_link("suppress", one.head.list, "Suppress a digest")
    yield act_link("rollback", one.head.list, "Roll back")
    if one.pin:
        yield act_link("unpin", one.head.list, "Unpin")


def source_page(data: PageData, one: SourceView, syncs: Sequence[SyncRecord], *, acting: bool = False) -> Html:
    """Return the page of one source: its state, its lists, and its last syncs."""
    lists = [view for view in data.overview.lists if view.head.source == one.name]
    return join(
        heading(one.name, h("p", "A source", class_="crumb")),
        h("p", act_link("sync", one.name, "Sync now"), class_="acts") if acting and one.configured else None,
        section("standing", "State", _tasks(data, one.name), facts(_source_facts(data.overview, one))),
        _lists_of(lists),
        _syncs(syncs),
    )


def _lists_of(lists: Sequence[ListView]) -> Html:
    columns = ("List", "State", "Version#", "Rows#", "Published")
    rows = [
        (list_link(one.head.list), list_state(one), one.head.version, one.rows, past(one.head.published_at, one.now))
        for one in lists
    ]
    return table_section("lists", "Lists of this source", columns, rows)


def _source(seen: Overview, name: str) -> Child:
    """Return the name of a source, with a link if it has a page. A removed source whose lists are retired has none."""
    return source_link(name) if any(one.name == name for one in seen.sources) else name


def _tasks(data: PageData, source: str, name: str = "") -> Html | None:
    """Return the tasks of a source; with ``name``, without those that concern only other lists."""
    its = [task for task in data.tasks if task.source == source]
    shown = [task for task in its if not name or not task.lists or name in task.lists]
    return task_list(shown, data.runbook)


def _list_facts(one: ListView) -> Sequence[Fact]:
    serial = one.head.origin_serial  # shown if it differs from our own number
    upstream = h("small", f"upstream serial {serial}") if serial not in {None, one.head.version} else None
    return (
        Fact("State", list_state(one)),
        Fact("Version", one.head.version, join("published ", past(one.head.published_at, one.now), upstream)),
        Fact("Rows", one.rows, _algorithms(one)),
        *_pin_facts(one.pin, one.now),
        *_followed_facts(one),
    )


def _pin_facts(pin: PinView | None, now: datetime) -> Sequence[Fact]:
    if pin is None:
        return ()
    beside = join(past(pin.since, now), f" by {pin.by}: {pin.pin.reason}")
    return (Fact("Pinned", f"to version {pin.version}", beside),)


def _followed_facts(one: ListView) -> Sequence[Fact]:
    origin, ended = one.origin, one.head.retired_at
    retired = (Fact("Retired", past(ended, one.now), exact(ended)),) if ended is not None else ()
    if one.over:
        return retired
    return (
        *retired,
        Fact(
            "Verified",
            past(origin.verified_at if origin else None, one.now),
            exact(origin.verified_at) if origin else None,
        ),
        *_limits(one),
        Fact("Last sync", outcome(one.outcome), begun(one.source, one.now)),
        Fact("Next sync", next_sync(one.source, one.now)),
    )


def _limits(one: ListView) -> Sequence[Fact]:
    if one.limits is None or one.retired:
        return ()
    late, stale = limit_in_words(one.limits.warn), limit_in_words(one.limits.critical)
    return (Fact("Limits", f"late after {late}", f"stale after {stale}; its manifest states both"),)


def _algorithms(one: ListView) -> str | None:
    """Return the rows of each algorithm, if the whole origin is published."""
    if one.origin is None or one.origin.rows != one.rows:
        return None
    return ", ".join(f"{end.rows:,} {algorithm}" for algorithm, end in sorted(one.origin.end_state.items()))


def _source_facts(seen: Overview, one: SourceView) -> Sequence[Fact]:
    last, verified = one.last, one.last_success_at
    return (
        Fact("Last sync", outcome(last.outcome if last else None), begun(one, seen.now)),
        Fact("Verified", past(verified, seen.now), exact(verified) if verified else None),
        Fact(
            "Next sync",
            next_sync(one, seen.now),
            exact(one.next_run_at) if one.next_run_at and one.configured else None,
        ),
        Fact("Every", span(one.interval) if one.interval else "no longer configured", "plus or minus a tenth"),
        Fact("Failures in a row", one.failures, "syncs that could not reach it"),
    )


def _versions(history: History) -> Html:
    columns = ("Version", "Published (UTC)", "Rows#", "Added#", "Removed#", "Relabelled#", "Plan")
    rows = [
        (str(one.version), moment(one.created_at), one.rows, *_changes(one), _plan(one.plan))
        for one in reversed(history[-50:])
    ]
    return table_section("versions", "Recent versions", columns, rows)


def _changes(one: VersionSummary) -> Sequence[Child]:
    """Return the changes of a version; nothing for the first one, and for a compaction."""
    if not one.counts:
        return None, None, None
    total = sum(one.counts.values(), Counts())
    return _signed("+", total.added), _signed("\N{MINUS SIGN}", total.removed), total.relabelled


def _signed(sign: str, number: int) -> str:
    return f"{sign}{number:,}" if number else "0"


def _plan(plan: str) -> str:
    kind, _, reason = plan.partition(":")
    return f"{kind}: {reason.replace('_', ' ')}" if reason else kind.replace("_", " ")


def _syncs(syncs: Sequence[SyncRecord]) -> Html:
    columns = ("Started (UTC)", "Outcome", "Why", "Took#", "Received#")
    rows = [(moment(one.started_at), outcome(one.outcome), _reason(one), lasted(one), size(one.bytes)) for one in syncs]
    often = Counter(one.outcome for one in syncs).most_common()
    tally = ", ".join(f"{times} {in_words(ended)}" for ended, times in often)
    beside = h("p", f"The last {len(syncs)}: {tally}" if tally else "", class_="faint")
    return table_section("syncs", "Recent syncs", columns, rows, beside=beside)


def _reason(one: SyncRecord) -> Html | None:
    """Return the message of a sync, and the reasons by the names that documents and logs use."""
    reason = reasons_in_words(one.reasons)
    if not one.message:
        return join(reason) if reason else None
    return join(one.message, h("small", reason) if reason else None)
