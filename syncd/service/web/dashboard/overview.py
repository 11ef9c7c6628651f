"""The overview: everything at a glance, with the tasks first. Pure: turns data into markup."""

from collections.abc import Mapping, Sequence
from typing import Final

from syncd.catalog.decisions import Suppression
from syncd.format.freshness import AgeVerdict
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.report.expiry import Expiry, Urgency
from syncd.report.fleet import DaemonRole, FleetView
from syncd.report.judged import ListView, Overview
from syncd.report.suppressions import scope_in_words
from syncd.service.web.dashboard.actions import act_link
from syncd.service.web.dashboard.chart import spark
from syncd.service.web.dashboard.fleet import matchers_in_short
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import (
    Mark,
    begun,
    list_link,
    moment,
    next_sync,
    outcome,
    past,
    section,
    source_link,
    state,
    table_section,
)
from syncd.service.web.dashboard.plot import Point
from syncd.service.web.dashboard.tasks import History, PageData, task_list
from syncd.units import ago, count, in_words, span


def overview_page(data: PageData, histories: Mapping[ListName, History], *, acting: bool = False) -> Html:
    """Return the overview. ``acting``: with links to acts."""
    seen = data.overview
    return join(
        _tasks(data, sum(not one.retired for one in seen.lists)),
        _lists(seen, histories),
        _sources(seen),
        _suppressions(seen, acting=acting),
        matchers_in_short(seen),
        _daemons(seen.fleet),
        _metadata(seen.roles),
    )


def _tasks(data: PageData, lists: int) -> Html:
    tasks = data.tasks
    urgent = sum(one.urgent for one in tasks)
    watched = len(tasks) - urgent
    if not tasks:
        summary = f"{count(lists, 'list')}, verified and current." if lists else "No list is published now."
        return section("tasks", "Nothing to do", h("p", summary, class_="lead"), level=1)
    title = f"{count(urgent, 'problem')} to fix now" if urgent else "Nothing to fix now"
    beside = h("p", f"{watched:,} to keep an eye on", class_="faint") if watched else None
    return section("tasks", title, task_list(tasks, data.runbook), beside=beside, level=1)


def _lists(seen: Overview, histories: Mapping[ListName, History]) -> Html:
    columns = ("List", "State", "Version#", "Rows#", "Trend", "Verified", "Last sync", "Next sync")
    rows = [
        (
            list_link(one.head.list),
            list_state(one),
            one.head.version,
            one.rows,
            spark([Point(version.created_at, version.rows) for version in histories.get(one.head.list, ())], one.now),
            *_followed(one),
        )
        for one in seen.lists
    ]
    proved = h("p", "All files proved ", past(seen.proof.proved_at, seen.now, "not yet"), class_="faint")
    return table_section("lists", "Lists", columns, rows, after=proved if seen.proof.watched_since else None)


def _followed(one: ListView) -> Sequence[Child]:
    """Return the times of verification, last and next sync; nothing if no source changes the list any more."""
    if one.over:
        return None, None, None
    return (
        past(one.origin.verified_at if one.origin else None, one.now),
        join(begun(one.source, one.now), h("small", in_words(one.outcome)) if one.outcome else None),
        next_sync(one.source, one.now),
    )


def list_state(one: ListView) -> Html:
    """Return the state of a list in a word or two; `ListView.why` has the details."""
    if one.retired and not one.why:
        return state(Mark.IDLE, "retired")
    if not one.source.configured:
        return state(Mark.WATCH, "no longer followed")
    if one.stale:
        return state(Mark.ACT, "stale")
    if one.fault:
        return outcome(Outcome.HELD if one.sync_holds else one.fault.outcome)
    return state(Mark.WATCH, _watched(one)) if one.why else state(Mark.GOOD, "current")


def _watched(one: ListView) -> str:
    """Return why a list without a fault is not current, in a word or two."""
    if one.freshness is not AgeVerdict.FRESH:
        return "late"
    if one.holds:
        return "suppressions wait"
    return f"pinned to {one.pin.version}" if one.pin else "canaries"


def _sources(seen: Overview) -> Html:
    columns = ("Source", "Last sync", "When", "Verified", "Next sync", "Every")
    rows = [
        (
            source_link(one.name),
            outcome(one.last.outcome if one.last else None),
            begun(one, seen.now),
            past(one.last_success_at, seen.now),
            next_sync(one, seen.now),
            span(one.interval) if one.interval is not None else "",
        )
        for one in seen.sources
    ]
    return table_section("sources", "Sources", columns, rows)


def _suppressions(seen: Overview, *, acting: bool) -> Html | None:
    """Return the suppressions in force, the soonest to expire first; None if there is nothing to show."""
    view = seen.suppressions
    if not view.number and not acting:
        return None
    columns = ("Number", "Scope", "Entries#", "Reason", "By", "Expires (UTC)", *(("To do",) if acting else ()))
    rows = [
        (
            str(one.id),
            scope_in_words(one),
            one.rows,
            one.reason,
            one.author,
            _expires(one, soon=one in view.soon),
            *((act_link("unsuppress", one.id, "End", f"suppression {one.id}"),) if acting else ()),
        )
        for one in view.first
    ]
    more = view.number - len(rows)
    after = h("p", f"{more:,} more: ", h("code", "syncd suppressions"), class_="faint") if more else None
    beside = act_link("suppress", "", "Suppress a digest") if acting else None
    title = f"{count(view.number, 'suppression')} in force"
    return table_section("suppressions", title, columns, rows, beside=beside, after=after)


def _expires(one: Suppression, *, soon: bool) -> Child:
    if one.expires_at is None:
        return "never"
    return state(Mark.WATCH, moment(one.expires_at)) if soon else moment(one.expires_at)


def _daemons(fleet: FleetView | None) -> Html | None:
    """Return the daemons on this catalog, and who leads; None on one machine."""
    if fleet is None:
        return None
    since = fleet.leads_since
    leads = join(f"The daemon on {fleet.leader.host} leads since ", moment(since), " UTC.") if since else "None leads."
    columns = ("Daemon", "Role", "syncd", "Started (UTC)", "Seen")
    rows = [
        (
            one.record.host,
            state(_ROLES[one.role], str(one.role)),
            one.record.version,
            moment(one.record.started_at),
            "now" if one.answers else ago(one.seen),
        )
        for one in fleet.daemons
    ]
    return table_section("daemons", "Daemons", columns, rows, after=h("p", leads, class_="faint"))


_ROLES: Final = {
    DaemonRole.LEADER: Mark.GOOD,
    DaemonRole.STANDBY: Mark.GOOD,
    DaemonRole.UNABLE: Mark.WATCH,
    DaemonRole.SILENT: Mark.WATCH,
}


def _metadata(roles: Sequence[Expiry]) -> Html:
    columns = ("Role", "State", "Version#", "Expires", "When (UTC)")
    return table_section("metadata", "Signed metadata", columns, [_role_row(one) for one in roles])


def _role_row(one: Expiry) -> Sequence[Child]:
    mark = Mark.ACT if one.red else Mark.WATCH if one.warning else Mark.GOOD
    words = "current" if one.urgency is Urgency.FINE else str(one.urgency)
    return one.role, state(mark, words), one.version, one.shown, moment(one.expires)
