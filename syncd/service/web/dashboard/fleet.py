"""The matchers: who may pull, which version each instance has loaded, who lags. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from syncd.pipeline.laggards import Standing
from syncd.service.web.dashboard.found import Found
from syncd.service.web.dashboard.frame import heading
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import (
    Mark,
    list_link,
    moment,
    past,
    prose,
    section,
    state,
    table_section,
)
from syncd.units import count

_NAMED: Final = 10
"""Instances that lag which the overview names."""
_SHOWN: Final = 200
"""Rows that a table shows, those that lag first."""


def matchers_page(found: Found) -> Html:
    """Who may pull, and which version each instance has loaded."""
    return join(heading("Matchers"), _checked_in(found), _registered(found))


def matchers_in_short(found: Found) -> Html:
    """Those that lag, or that none does: a part of the overview."""
    late = [one for one in _instances(found.standings) if one.lags]
    link = h("a", "All matchers", href="/matchers")
    told = _fleet(found.standings)
    if not late:
        return section("matchers", "Matchers", h("p", told), beside=link)
    rows = [_instance_row(one, found) for one in late[:_NAMED]]
    return table_section(
        "matchers", "Matchers that lag", _INSTANCE, rows, beside=link, after=h("p", told, class_="faint")
    )


@dataclass(frozen=True)
class _Instance:
    """One process or host of a matcher, and what it has loaded."""

    matcher: str
    name: str
    standings: Sequence[Standing]

    @property
    def behind(self) -> bool:
        return any(one.behind for one in self.standings)

    @property
    def silent(self) -> bool:
        return any(one.silent for one in self.standings)

    @property
    def lags(self) -> bool:
        return self.behind or self.silent


def _instances(standings: Sequence[Standing]) -> Sequence[_Instance]:
    """Those that are behind first, then those that are silent."""
    found: dict[tuple[str, str], list[Standing]] = {}
    for one in standings:
        found.setdefault((one.loaded.matcher, one.loaded.instance), []).append(one)
    every = (_Instance(*key, its) for key, its in found.items())
    return sorted(every, key=lambda one: (not one.behind, not one.silent))


def _fleet(standings: Sequence[Standing]) -> str:
    every = _instances(standings)
    if not every:
        return "No matcher has checked in."
    told = f"{count(len(every), 'instance')} of {count(len({one.matcher for one in every}), 'matcher')}"
    behind, silent = sum(one.behind for one in every), sum(one.silent for one in every)
    if not behind and not silent:
        return f"{told}: all have loaded what was published."
    return f"{told}: {behind:,} behind, {silent:,} silent."


_INSTANCE: Final = ("Instance", "Matcher", "State", "Loaded", "Heard of")


def _instance_row(one: _Instance, found: Found) -> Sequence[Child]:
    seen = max(each.loaded.seen_at for each in one.standings)
    loaded = h("ul", (h("li", _loaded(each)) for each in one.standings), class_="plain")
    return one.name, one.matcher, _lag(behind=one.behind, silent=one.silent), loaded, past(seen, found.overview.now)


def _loaded(one: Standing) -> Html:
    late = h("strong", f": {one.due} is due") if one.behind else None
    return join(list_link(one.loaded.list), f" version {one.loaded.version}", late)


def _lag(*, behind: bool, silent: bool) -> Html:
    if behind:
        return state(Mark.ACT, "behind, silent" if silent else "behind")
    return state(Mark.WATCH, "silent") if silent else state(Mark.GOOD, "current")


def loaded_by(standings: Sequence[Standing], found: Found) -> Html:
    """Who has loaded one list, and in which version: a part of its page."""
    if not standings:
        return section("loaded", "Loaded by", h("p", "No matcher has checked in with this list.", class_="faint"))
    late_first = sorted(standings, key=lambda one: (not one.behind, not one.silent))
    columns = ("Instance", "Matcher", "State", "Version#", "Due#", "Loaded", "Heard of")
    rows = [_loaded_row(one, found) for one in late_first[:_SHOWN]]
    return table_section("loaded", "Loaded by", columns, rows, after=_more(len(standings)))


def _loaded_row(one: Standing, found: Found) -> Sequence[Child]:
    its, now = one.loaded, found.overview.now
    mark = _lag(behind=one.behind, silent=one.silent)
    return its.instance, its.matcher, mark, its.version, one.due, past(its.loaded_at, now), past(its.seen_at, now)


def _more(number: int) -> Html | None:
    if number <= _SHOWN:
        return None
    return h("p", prose(f"{number - _SHOWN:,} more: `syncd matchers --json` names all."), class_="faint")


def _checked_in(found: Found) -> Html:
    every = _instances(found.standings)
    told = _fleet(found.standings)
    if not every:
        return section("instances", "Instances", h("p", told))
    rows = [_instance_row(one, found) for one in every[:_SHOWN]]
    beside = h("p", told, class_="faint")
    return table_section("instances", "Instances", _INSTANCE, rows, beside=beside, after=_more(len(every)))


def _registered(found: Found) -> Html:
    columns = ("Matcher", "Lists", "Instances#", "Since (UTC)", "Added by")
    instances = Counter(one.matcher for one in _instances(found.standings))
    rows = [
        (
            one.name,
            ", ".join(one.lists) if one.lists is not None else "all",
            instances[one.name],
            moment(one.created_at),
            one.created_by,
        )
        for one in found.matchers
    ]
    empty = prose("Nobody: `syncd matchers add NAME` lets a matcher pull.")
    return table_section("registered", "Who may pull", columns, rows, empty=empty)
