"""What needs a person: what stands how, why, and what to do about it. Pure.

That something is wrong, and why, comes from `syncd.report.overview`; here it is gathered by cause, so that a partner
that cannot be reached is one matter however many lists it has, and the next step is added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.certificates import CertificateView
from syncd.outcomes import Outcome, cure, reasons_in_words
from syncd.report.expiry import Expiry
from syncd.report.lagging import BEHIND_AFTER, SILENT_AFTER, InstanceView
from syncd.report.overview import ListView, Overview
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import Mark, list_link, prose, source_link, state
from syncd.trust.keys import OFFLINE_ROLES
from syncd.units import clock_is_behind, span

_STAYS: Final = "What was proved last stays served."
_BEHIND: Final = "Look at the log of the matcher there: its last pull failed, or it was not made."
_SILENT: Final = "See whether it runs, and whether it reaches this host."
_NAMED: Final = 3
"""Instances that a matter names, the others being counted."""


@dataclass(frozen=True)
class Task:
    """One matter. ``urgent``: now, rather than to be kept an eye on."""

    urgent: bool
    subject: Html
    why: str
    to_do: str
    source: str = ""
    """the one that it is about"""
    lists: tuple[str, ...] = ()
    """of its lists, those that it is about; (): all of it"""


def tasks(found: Overview) -> tuple[Task, ...]:
    """Every matter, the urgent ones first."""
    stored = (*_of_faults(found), *_of_roles(found.roles), *_of_certificates(found.certificates))
    sources = (*_of_lists(found.lists), *_of_untold(found), *_of_waiting(found))
    every = (*sources, *stored, *_of_matchers(found))
    return tuple(sorted(every, key=lambda one: not one.urgent))


def _of_lists(lists: Sequence[ListView]) -> Iterator[Task]:
    matters: dict[tuple[str, str, Outcome | None], list[ListView]] = {}
    for one in lists:
        if one.why:
            matters.setdefault((one.head.source, one.why, _ended(one)), []).append(one)
    for (source, why, ended), concerned in matters.items():
        first, names = concerned[0], tuple(one.head.list for one in concerned)
        bad = any(_is_clock(one) or one.stale or one.holds for one in concerned)
        urgent = first.source.configured and ((ended is not None and ended.urgent) or bad)
        yield Task(urgent, _commas(names), why, _to_do(first), source, names)


def _commas(names: Sequence[str]) -> Html:
    return join((", " if number else None, list_link(name)) for number, name in enumerate(names))


def _to_do(one: ListView) -> str:
    name = one.source.name
    if not one.source.configured:
        return f"Configure [sources.{name}] again, or let the list go: `syncd retire LIST --reason R`. {_STAYS}"
    ended = _ended(one)
    if one.holds:
        first = f"{ended.to_do(name)} " if ended and ended is not Outcome.HELD else ""
        to_do = cure(one.held_for, (hold.id for hold in one.holds))
        return f"{first}{to_do[0].upper()}{to_do[1:]}. {_STAYS}"
    if ended is Outcome.UNREACHABLE and one.stale:
        return f"Look at the network from this host, and ask the partner: this has lasted too long. {_STAYS}"
    if ended is not None:
        return f"{ended.to_do(name)} {_STAYS}"
    if _is_clock(one):
        return "Set the clock of this host: `timedatectl` shows it. Until then ages say little."
    return f"See whether the daemon logs errors; ask for a sync now: `syncd sync {name}`."


def _is_clock(one: ListView) -> bool:
    return one.age is not None and clock_is_behind(one.age)


def _ended(one: ListView) -> Outcome | None:
    """What a list came to, where that was not good."""
    return one.fault.outcome if one.fault else None


def _of_untold(found: Overview) -> Iterator[Task]:
    for one in found.untold:
        name, ended = one.source.name, one.fault.outcome
        lists = (one.list,) if one.list else ()
        yield Task(ended.urgent, source_link(name), one.why, f"{ended.to_do(name)} {_STAYS}", name, lists)


def _of_waiting(found: Overview) -> Iterator[Task]:
    for one in found.waiting:
        link, last = source_link(one.name), one.last
        if last is None:
            first = one.running and not one.running.dry_run
            made = "the first sync is running" if first else "no sync was made"
            yield Task(False, link, f"nothing published yet: {made}", "Wait for the first sync.", one.name)
        elif to_do := last.outcome.to_do(one.name):
            why = last.message or reasons_in_words(last.reasons) or "the last sync came to nothing"
            yield Task(last.outcome.urgent, link, f"nothing published yet: {why}", to_do, one.name)


def _of_faults(found: Overview) -> Iterator[Task]:
    for one in found.faults:
        to_do = one.to_do[0].upper() + one.to_do[1:]
        why = f"for {span(found.now - one.since)}: {one.message}"
        yield Task(True, join(f"Storage: {one.what}"), why, f"{to_do}. {_STAYS}")


def _of_roles(roles: Sequence[Expiry]) -> Iterator[Task]:
    for one in roles:
        if one.warning:
            yield Task(one.red, join(f"Signed metadata: {one.role}"), one.why, _sign(one.role))


def _sign(role: str) -> str:
    if role in OFFLINE_ROLES:
        return "Sign it anew with the offline keys: `syncd feed renew`. Once it has expired, matchers take nothing new."
    return (
        "The daemon should have signed it long ago: see whether it logs errors, and whether its online keys are there."
    )


def _of_certificates(certificates: Sequence[CertificateView]) -> Iterator[Task]:
    for one in certificates:
        if one.why:
            to_do = one.to_do[0].upper() + one.to_do[1:]
            yield Task(True, join("Certificate"), one.why, f"{to_do}. {_STAYS}", one.certificate.source)


def _of_matchers(found: Overview) -> Iterator[Task]:
    """One matter for each matcher and each way of lagging: a site that is cut off is not a hundred matters."""
    for one in found.matchers:
        subject = join(f"Matcher {one.matcher.name}")
        for silent, to_do in ((False, _BEHIND), (True, _SILENT)):
            late = [each for each in one.laggards if each.silent is silent]
            if late:
                yield Task(not silent, subject, _late(late, found.now), to_do)


def _late(late: Sequence[InstanceView], now: datetime) -> str:
    first = late[0]
    if len(late) == 1:
        return f"{first.name} {first.why(now)}"
    more = len(late) - _NAMED
    named = ", ".join(one.name for one in late[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    if first.silent:
        return f"{len(late):,} instances ({named}) were not heard of for over {span(SILENT_AFTER)}"
    return f"{len(late):,} instances ({named}) lack what was published over {span(BEHIND_AFTER)} ago"


def task_list(matters: Sequence[Task]) -> Html | None:
    """Matters as a page shows them; None where there is none."""
    return h("ul", map(_task, matters), class_="tasks") if matters else None


def _task(one: Task) -> Html:
    mark = state(Mark.ACT, "Act now") if one.urgent else state(Mark.WATCH, "Watch")
    what = h("div", mark, h("strong", one.subject), class_="what")
    said = (_said("Why", one.why), _said("To do", prose(one.to_do)))
    return h("li", what, said, class_="task act" if one.urgent else "task watch")


def _said(word: str, told: Child) -> Html:
    return h("p", h("span", word, " ", class_="word"), h("span", told))
