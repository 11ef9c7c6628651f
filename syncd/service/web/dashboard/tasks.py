"""Tasks: problems that need a person, why, and what to do about them. Pure.

The problems and their reasons come from `syncd.report.judged`. Here they are grouped by cause, so that a partner that
cannot be reached is one task however many lists it has, and the next step is added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from syncd.catalog.decisions import HoldRecord
from syncd.catalog.records import VersionSummary
from syncd.certificates import CertificateView, Validity
from syncd.format.freshness import AgeVerdict
from syncd.outcomes import CANARY_CURE, Outcome, cure, reasons_in_words
from syncd.report import runbook
from syncd.report.expiry import OF_OPERATORS, Expiry
from syncd.report.fleet import ALL_DAEMONS
from syncd.report.holds import hold_in_words, reasons_of
from syncd.report.judged import ListView, Overview
from syncd.report.lagging import LagLevel, in_words
from syncd.report.suppressions import keep, why_soon
from syncd.service.web.dashboard.html import Child, Html, h, join
from syncd.service.web.dashboard.parts import Mark, list_link, prose, source_link, state
from syncd.trust.keys import OFFLINE_ROLES
from syncd.trust.overlong import TO_DO
from syncd.units import clock_is_behind, span

_STAYS: Final = "The last verified version stays served."
_BEHIND: Final = "Read the matcher's log on that host: its last pull failed, or did not run."
_SILENT: Final = "Check that it runs, and that it can reach this host. If it is gone: `syncd matchers forget {}`."
_NAMED: Final = 3
"""Most suppressions that have a task of their own; the others are counted."""


History = Sequence[VersionSummary]
"""Versions of a list, by number."""


@dataclass(frozen=True)
class Task:
    """A problem that needs a person. ``urgent``: to be fixed now, rather than watched."""

    urgent: bool
    subject: Html
    why: str
    to_do: str
    section: str
    """of the runbook"""
    source: str = ""
    """the source that it is about"""
    lists: tuple[str, ...] = ()
    """the lists of the source that it is about; (): all of them"""


@dataclass(frozen=True)
class PageData:
    """The state of everything at one time, and the tasks."""

    overview: Overview
    tasks: Sequence[Task]
    runbook: str | None = None
    """the configured address of the runbook"""


def tasks(seen: Overview) -> tuple[Task, ...]:
    """Return all tasks, the urgent ones first."""
    stored = (*_of_clock(seen), *_of_faults(seen), *_of_roles(seen.roles), *_of_certificates(seen.certificates))
    sources = (*_of_lists(seen.lists), *_of_source_faults(seen), *_of_waiting(seen), *_of_late_expiries(seen))
    every = (*sources, *stored, *_of_fleet(seen), *_of_files(seen), *_of_suppressions(seen), *_of_matchers(seen))
    return tuple(sorted(every, key=lambda one: not one.urgent))


def _of_lists(lists: Sequence[ListView]) -> Iterator[Task]:
    by_cause: dict[tuple[str, str, Outcome | None], list[ListView]] = {}
    for one in lists:
        if one.why:
            by_cause.setdefault((one.head.source, one.why, _ended(one)), []).append(one)
    for (source, why, ended), concerned in by_cause.items():
        first, names = concerned[0], tuple(one.head.list for one in concerned)
        bad = any(_is_clock(one) or one.stale or one.holds for one in concerned)
        urgent = first.source.configured and ((ended is not None and ended.urgent) or bad)
        subject = join((", " if number else None, list_link(name)) for number, name in enumerate(names))
        yield Task(urgent, subject, why, _to_do(first), first.section, source=source, lists=names)


def _to_do(one: ListView) -> str:
    name = one.source.name
    if not one.source.configured:
        return f"Add [sources.{name}] to the configuration again, or run `syncd retire LIST --reason R`. {_STAYS}"
    ended = _ended(one)
    if one.holds:
        first = f"{ended.to_do(name)} " if ended and ended is not Outcome.HELD else ""
        to_do = cure(one.held_for, (hold.id for hold in one.holds))
        return f"{first}{to_do[0].upper()}{to_do[1:]}. {_STAYS}"
    if ended is Outcome.UNREACHABLE and one.freshness is not AgeVerdict.FRESH:
        return f"Check the network of this host, and ask the partner: this has lasted too long. {_STAYS}"
    if ended is not None:
        return f"{ended.to_do(name)} {_STAYS}"
    return _to_do_without_fault(one)


def _to_do_without_fault(one: ListView) -> str:
    if _is_clock(one):
        return "Correct the clock, as its own task says. Until then the ages shown here are wrong."
    if one.freshness is not AgeVerdict.FRESH:
        return f"Check the daemon's log for errors, and start a sync: `syncd sync {one.source.name}`."
    if one.pin:
        return f"Ask the partner whether the list is right again. Then {one.pin.to_do}."
    if one.canaries and one.canaries.missing:
        return f"{CANARY_CURE[0].upper()}{CANARY_CURE[1:]}."
    return f"Correct the known-good file, then `syncd sync {one.source.name}`."


def _is_clock(one: ListView) -> bool:
    return one.age is not None and clock_is_behind(one.age)


def _ended(one: ListView) -> Outcome | None:
    """Return the outcome of the last sync of a list, if it was bad."""
    return one.fault.outcome if one.fault else None


def _of_source_faults(seen: Overview) -> Iterator[Task]:
    for one in seen.source_faults:
        name, ended = one.source.name, one.fault.outcome
        lists = (one.list,) if one.list else ()
        to_do = _decide(one.holds) if one.holds else ended.to_do(name)
        yield Task(ended.urgent, source_link(name), one.why, f"{to_do} {_STAYS}", one.section, source=name, lists=lists)


def _decide(holds: Sequence[HoldRecord]) -> str:
    to_do = cure(reasons_of(holds), (hold.id for hold in holds))
    return f"{to_do[0].upper()}{to_do[1:]}."


def _of_waiting(seen: Overview) -> Iterator[Task]:
    for one in seen.waiting:
        link, last, holds = source_link(one.name), one.last, seen.first_holds_of(one.name)
        section = one.section(holds)
        if holds:
            why = "; ".join(f"{hold.list}: {hold_in_words(hold)}" for hold in holds)
            yield Task(True, link, f"nothing published yet: {why}", _decide(holds), section, one.name)
        elif last is None:
            first = one.running and not one.running.dry_run
            made = "the first sync is running" if first else "no sync has run"
            yield Task(False, link, f"nothing published yet: {made}", "Wait for the first sync.", section, one.name)
        elif to_do := last.outcome.to_do(one.name):
            why = last.message or reasons_in_words(last.reasons) or "the last sync failed"
            yield Task(last.outcome.urgent, link, f"nothing published yet: {why}", to_do, section, one.name)


def _of_faults(seen: Overview) -> Iterator[Task]:
    for one in seen.faults:
        to_do = one.to_do[0].upper() + one.to_do[1:]
        why = f"for {span(seen.now - one.since)}: {one.message}"
        yield Task(True, join(f"Storage: {one.what}"), why, f"{to_do}. {_STAYS}", one.section)


def _of_clock(seen: Overview) -> Iterator[Task]:
    if seen.clock:
        to_do = f"{seen.clock.to_do[0].upper()}{seen.clock.to_do[1:]}. {_STAYS}"
        yield Task(True, join("Clock"), seen.clock.why, to_do, runbook.CLOCK)


def _of_fleet(seen: Overview) -> Iterator[Task]:
    for fault in seen.fleet.faults if seen.fleet else ():
        subject = "Daemons" if fault.subject == ALL_DAEMONS else f"Daemon on {fault.subject}"
        to_do = f"{fault.to_do[0].upper()}{fault.to_do[1:]}. {_STAYS}"
        yield Task(fault.urgent, join(subject), fault.why, to_do, fault.section)


def _of_files(seen: Overview) -> Iterator[Task]:
    """Yield the faults that the daily proof of files found, and the warning if the last proof is too old."""
    found = ((True, seen.proof.faults, runbook.FILES), (False, seen.proof.history, runbook.HISTORY))
    for urgent, faults, section in found:
        for fault in faults:
            to_do = f"{fault.to_do[0].upper()}{fault.to_do[1:]}."
            yield Task(urgent, join("Files of ", list_link(fault.list)), fault.message, to_do, section)
    why = seen.proof.why(seen.now)
    if why:
        to_do = f"{seen.proof.to_do[0].upper()}{seen.proof.to_do[1:]}. {_STAYS}"
        yield Task(False, join("Proof of files"), why, to_do, runbook.PROOF)


def _of_late_expiries(seen: Overview) -> Iterator[Task]:
    for one in seen.sources:
        if one.late_expiry:
            to_do = f"{TO_DO[0].upper()}{TO_DO[1:]}. {_STAYS}"
            yield Task(False, source_link(one.name), one.late_expiry.why, to_do, runbook.PARTNER_CLOCK, one.name)


def _of_roles(roles: Sequence[Expiry]) -> Iterator[Task]:
    for one in roles:
        if one.warning:
            yield Task(one.red, join(f"Signed metadata: {one.role}"), one.why, _sign(one.role), one.section)


def _sign(role: str) -> str:
    if role in OFFLINE_ROLES:
        expired = "Once it has expired, matchers accept nothing new."
        return f"Sign it again with the offline keys: {OF_OPERATORS.offline}. {expired}"
    return "The daemon should have signed it long ago: check its log for errors, and that its online keys are in place."


def _of_certificates(certificates: Sequence[CertificateView]) -> Iterator[Task]:
    for one in certificates:
        if one.why:
            to_do = one.to_do[0].upper() + one.to_do[1:]
            section = runbook.of_certificate(early=one.validity is Validity.EARLY)
            yield Task(True, join("Certificate"), one.why, f"{to_do}. {_STAYS}", section, one.certificate.source)


def _of_suppressions(seen: Overview) -> Iterator[Task]:
    view = seen.suppressions
    for one in view.soon[:_NAMED]:
        to_do = f"Decide whether it may match again; {keep(one)}."
        yield Task(False, join(f"Suppression {one.id}"), why_soon(one, seen.now), to_do, runbook.SUPPRESSION)
    if view.ending > _NAMED:
        more = f"{view.ending - _NAMED:,} more expire within three days"
        yield Task(False, join("Suppressions"), more, "Look at `syncd suppressions`.", runbook.SUPPRESSION)


def _of_matchers(seen: Overview) -> Iterator[Task]:
    """Yield one task for each matcher and kind of lag: a site that is cut off is one task, not a hundred."""
    for one in seen.matchers:
        subject = join(f"Matcher {one.matcher.name}")
        for silent, to_do in ((False, _BEHIND), (True, _SILENT)):
            late = one.late(silent=silent)
            if late:
                urgent = not silent or one.level is LagLevel.CRITICAL
                yield Task(
                    urgent,
                    subject,
                    in_words(late, seen.now),
                    to_do.format(one.matcher.name),
                    one.section(silent=silent),
                )


def task_list(tasks: Sequence[Task], page: str | None) -> Html | None:
    """Return the tasks as a list; None if there are no tasks. ``page``: the address of the runbook, if configured."""
    return h("ul", (_task(one, page) for one in tasks), class_="tasks") if tasks else None


def _task(one: Task, page: str | None) -> Html:
    mark = state(Mark.ACT, "Act now") if one.urgent else state(Mark.WATCH, "Watch")
    what = h("div", mark, h("strong", one.subject), class_="what")
    link = h("a", one.section, href=runbook.address(page, one.section)) if page else None
    lines = (_line("Why", one.why), _line("To do", prose(one.to_do)), _line("Runbook", link) if link else None)
    return h("li", what, lines, class_="task act" if one.urgent else "task watch")


def _line(word: str, text: Child) -> Html:
    return h("p", h("span", word, " ", class_="word"), h("span", text))
