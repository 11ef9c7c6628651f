"""The pages of one list, and of one source. Pure: from what was read to markup."""

from collections import Counter
from collections.abc import Sequence

from syncd.catalog.records import HeadRecord, SyncRecord, VersionSummary
from syncd.model import Counts
from syncd.outcomes import reasons_in_words
from syncd.report.holds import commands_of
from syncd.report.overview import ListView, Overview, SourceView
from syncd.service.web.dashboard.chart import chart
from syncd.service.web.dashboard.fleet import loaded_by
from syncd.service.web.dashboard.found import Found, History
from syncd.service.web.dashboard.frame import heading
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
    prose,
    section,
    size,
    source_link,
    table_section,
)
from syncd.service.web.dashboard.plot import Point
from syncd.service.web.dashboard.tasks import task_list
from syncd.units import in_words, span


def list_page(found: Found, one: ListView, history: History) -> Html:
    """One list: where it stands, its rows over time, its versions, who has loaded it."""
    now = found.overview.now
    points = [Point(each.created_at, each.rows, f"Version {each.version}") for each in history]
    return join(
        heading(one.head.list, _crumb("A list of", _source(found.overview, one.head.source))),
        section(
            "standing", "Where it stands", _matters(found, one.head.source, one.head.list), facts(_list_facts(one))
        ),
        _holds(one),
        section("rows", "Rows over time", chart(points, now)),
        _versions(history),
        loaded_by(found.overview, one.head.list),
    )


def source_page(found: Found, one: SourceView, syncs: Sequence[SyncRecord]) -> Html:
    """One source: when it is synced, its lists, how its last syncs ended."""
    its = [each for each in found.overview.lists if each.head.source == one.name]
    return join(
        heading(one.name, h("p", "A source", class_="crumb")),
        section("standing", "Where it stands", _matters(found, one.name), facts(_source_facts(found.overview, one))),
        _lists_of(its),
        _syncs(syncs),
    )


def _holds(one: ListView) -> Html | None:
    """What waits for an operator. It is ended by a command, so that the audit log knows who did."""
    if not one.holds:
        return None
    columns = ("Hold", "Lane", "Rows#", "Why", "Since", "To do")
    rows = [
        (
            str(hold.id),
            str(hold.lane),
            hold.rows,
            reasons_in_words(hold.reasons),
            past(hold.opened_at, one.now),
            prose(commands_of(hold)),
        )
        for hold in one.holds
    ]
    return table_section("holds", "Held", columns, rows)


def _lists_of(its: Sequence[ListView]) -> Html:
    columns = ("List", "State", "Version#", "Rows#", "Published")
    rows = [
        (list_link(one.head.list), list_state(one), one.head.version, one.rows, past(one.head.published_at, one.now))
        for one in its
    ]
    return table_section("lists", "Its lists", columns, rows)


def _source(seen: Overview, name: str) -> Child:
    """The name of a source; with a link if it has a page: one that is gone, all its lists retired, has none."""
    return source_link(name) if any(one.name == name for one in seen.sources) else name


def _crumb(before: str, link: Child) -> Html:
    return h("p", before, " ", link, class_="crumb")


def _matters(found: Found, source: str, name: str = "") -> Html | None:
    """What needs a person about a source; with ``name``, but for what concerns other lists of it."""
    its = [one for one in found.tasks if one.source == source]
    return task_list([one for one in its if not name or not one.lists or name in one.lists])


def _list_facts(one: ListView) -> Sequence[Fact]:
    return (
        Fact("State", list_state(one)),
        Fact("Version", one.head.version, join("published ", past(one.head.published_at, one.now), _serial(one.head))),
        Fact("Rows", one.rows, _algorithms(one)),
        *_followed_facts(one),
    )


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
        Fact("Last sync", outcome(one.outcome), begun(one.source, one.now)),
        Fact("Next sync", next_sync(one.source, one.now)),
    )


def _serial(head: HeadRecord) -> Html | None:
    """The upstream's own number, where it is another one."""
    serial = head.origin_serial
    return h("small", f"upstream serial {serial}") if serial not in {None, head.version} else None


def _algorithms(one: ListView) -> str | None:
    """Rows of each algorithm, where all of the origin is published."""
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
        Fact("Every", span(one.interval) if one.interval else "no longer configured", "give or take a tenth"),
        Fact("Failures in a row", one.failures, "syncs that did not reach it"),
    )


def _versions(history: History) -> Html:
    columns = ("Version", "Published (UTC)", "Rows#", "Added#", "Removed#", "Relabelled#", "Plan")
    rows = [_version_row(one) for one in reversed(history[-50:])]
    return table_section("versions", "Recent versions", columns, rows)


def _version_row(one: VersionSummary) -> Sequence[Child]:
    return (str(one.version), moment(one.created_at), one.rows, *_changes(one), _plan(one.plan))


def _changes(one: VersionSummary) -> Sequence[Child]:
    """Nothing for the first version, and for one that folds segments."""
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
    return table_section("syncs", "Recent syncs", columns, rows, beside=h("p", _tally(syncs), class_="faint"))


def _reason(one: SyncRecord) -> Html | None:
    """What it said, and the reason's own name, by which documents and logs know it."""
    reason = reasons_in_words(one.reasons)
    if not one.message:
        return join(reason) if reason else None
    return join(one.message, h("small", reason) if reason else None)


def _tally(syncs: Sequence[SyncRecord]) -> str:
    often = Counter(one.outcome for one in syncs).most_common()
    return (
        f"The last {len(syncs)}: " + ", ".join(f"{times} {in_words(ended)}" for ended, times in often) if often else ""
    )
