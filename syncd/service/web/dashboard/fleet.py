"""The matchers: who may pull, the versions each instance has loaded, and those that lag. Pure."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from syncd.model import ListName
from syncd.report.judged import Overview
from syncd.report.lagging import InstanceView, MatcherView
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import Mark, list_link, moment, past, prose, section, state, table_section
from syncd.units import count

_NAMED: Final = 10
"""Most lagging instances that the overview names."""
_SHOWN: Final = 200
"""Most rows of a table; lagging instances come first."""
_ADDRESS: Final = re.compile(r"[0-9]+(?:\.[0-9]+){0,3}")
_INSTANCE: Final = ("Instance", "Matcher", "State", "Loaded", "Last check-in")


def matchers_page(seen: Overview) -> Html:
    """Return the page of all matchers and instances."""
    return join(heading("Matchers"), _checked_in(seen), _registered(seen.matchers))


def matchers_in_short(seen: Overview) -> Html:
    """Return the lagging instances, or a note that no instance lags: a part of the overview."""
    late = [one for one in _late_first(seen) if one[1].behind or one[1].silent]
    link, summary = h("a", "All matchers", href="/matchers"), _fleet(seen)
    if not late:
        return section("matchers", "Matchers", h("p", summary), beside=link)
    rows = [_instance_row(*one, seen) for one in late[:_NAMED]]
    after = h("p", summary, class_="faint")
    return table_section("matchers", "Matchers that lag", _INSTANCE, rows, beside=link, after=after)


def loaded_by(seen: Overview, name: ListName) -> Html:
    """Return the instances that have loaded one list: a part of its page."""
    standings = (each for one in seen.matchers for instance in one.instances for each in instance.standings)
    its = [standing for standing in standings if standing.loaded.list == name]
    late_first = sorted(its, key=lambda one: (not one.behind, not one.silent))
    columns = ("Instance", "Matcher", "State", "Version#", "Due#", "Loaded", "Last check-in")
    rows = [
        (
            one.loaded.instance,
            one.loaded.matcher,
            _lag(behind=one.behind, silent=one.silent),
            one.loaded.version,
            one.due,
            past(one.loaded.loaded_at, seen.now),
            past(one.loaded.seen_at, seen.now),
        )
        for one in late_first[:_SHOWN]
    ]
    empty = "No matcher has reported that it loaded this list."
    return table_section("loaded", "Loaded by", columns, rows, after=_more(len(its)), empty=empty)


def _late_first(seen: Overview) -> Sequence[tuple[str, InstanceView]]:
    """Return every instance with the name of its matcher: first those behind, then the silent ones, then the others."""
    every = [(one.matcher.name, instance) for one in seen.matchers for instance in one.instances]
    return sorted(every, key=lambda one: (not one[1].behind, not one[1].silent))


def _fleet(seen: Overview) -> str:
    every = [instance for one in seen.matchers for instance in one.instances]
    if not every:
        return "No matcher has checked in."
    counted = (
        f"{count(len(every), 'instance')} of {count(sum(bool(one.instances) for one in seen.matchers), 'matcher')}"
    )
    behind, silent = sum(one.behind for one in every), sum(one.silent for one in every)
    if not behind and not silent:
        return f"{counted}: all have loaded the current versions."
    return f"{counted}: {behind:,} behind, {silent:,} silent."


def _instance_row(matcher: str, one: InstanceView, seen: Overview) -> Sequence[Child]:
    lists = (
        h(
            "li",
            list_link(each.loaded.list),
            f" version {each.loaded.version}",
            h("strong", f": {each.due} is due") if each.behind else None,
        )
        for each in one.standings
    )
    loaded = h("ul", lists, class_="plain")
    return one.name, matcher, _lag(behind=one.behind, silent=one.silent), loaded, past(one.seen_at, seen.now)


def _lag(*, behind: bool, silent: bool) -> Html:
    if behind:
        return state(Mark.ACT, "behind, silent" if silent else "behind")
    return state(Mark.WATCH, "silent") if silent else state(Mark.GOOD, "current")


def _more(number: int) -> Html | None:
    if number <= _SHOWN:
        return None
    return h("p", prose(f"{number - _SHOWN:,} more: `syncd matchers --json` lists all."), class_="faint")


def _checked_in(seen: Overview) -> Html:
    hosts: dict[tuple[str, str], list[InstanceView]] = {}
    for matcher, instance in _late_first(seen):
        hosts.setdefault((matcher, _host_of(instance.name)), []).append(instance)
    rows = [
        _instance_row(matcher, processes[0], seen) if len(processes) == 1 else _host_row(matcher, host, processes, seen)
        for (matcher, host), processes in hosts.items()
    ]
    beside = h("p", _fleet(seen), class_="faint")
    return table_section("instances", "Instances", _INSTANCE, rows[:_SHOWN], beside=beside, after=_more(len(rows)))


def _host_of(instance: str) -> str:
    """Return the name of an instance without the process number: instances of one host differ only in that."""
    host, _, process = instance.rpartition(".")
    return host if process.isdecimal() and not _ADDRESS.fullmatch(instance) else instance


def _host_row(matcher: str, host: str, processes: Sequence[InstanceView], seen: Overview) -> Sequence[Child]:
    """Return the row of a host with several processes. Those that lag are named, the most serious first."""
    late = [process for process in processes if process.behind or process.silent]
    names = h("ul", (h("li", f"{process.name} {process.why(seen.now)}") for process in late[:_NAMED]), class_="plain")
    more = h("small", f"and {len(late) - _NAMED:,} more") if len(late) > _NAMED else None
    name = join(host, h("small", f"{len(processes):,} processes"), names if late else None, more)
    versions: dict[str, set[int]] = {}
    for loaded in (standing.loaded for process in processes for standing in process.standings):
        versions.setdefault(loaded.list, set()).add(loaded.version)
    lists = h(
        "ul",
        (h("li", list_link(ListName(known)), f" version {_span_of(versions[known])}") for known in sorted(versions)),
        class_="plain",
    )
    worst = processes[0]
    last = past(max(process.seen_at for process in processes), seen.now)
    return name, matcher, _lag(behind=worst.behind, silent=worst.silent), lists, last


def _span_of(versions: Collection[int]) -> str:
    return "-".join(map(str, dict.fromkeys((min(versions), max(versions)))))


def _registered(matchers: Sequence[MatcherView]) -> Html:
    columns = ("Matcher", "Lists", "Instances#", "Since (UTC)", "Added by")
    empty = prose("No matcher may pull yet. `syncd matchers add NAME` makes a token for one.")
    rows = [
        (
            one.matcher.name,
            "all" if one.matcher.lists is None else ", ".join(one.matcher.lists),
            len(one.instances),
            moment(one.matcher.created_at),
            one.matcher.created_by,
        )
        for one in matchers
    ]
    return table_section("registered", "Permitted matchers", columns, rows, empty=empty)
