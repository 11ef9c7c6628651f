"""``syncd status --check``: one line and an exit code, like a monitoring plugin. Pure.

The format is that of the Monitoring Plugins Development Guidelines, sections 2.1 (exit codes) and 2.6 (performance
data): ``SYNCD OK - text | 'label'=value;warn;crit``.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from syncd.cli.operator import NOT_ANSWERING, NOT_RUNNING, Document, led_elsewhere
from syncd.errors import SyncdError
from syncd.report import runbook
from syncd.units import count, span


class ProbeLevel(enum.IntEnum):
    """A service state; its value is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class ProbeFault(NamedTuple):
    """A fault, how bad it is, and the section of the runbook about it."""

    level: ProbeLevel
    text: str
    section: str = runbook.ALERTS


@dataclass(frozen=True)
class ProbeResult:
    """The report to the monitoring system."""

    level: ProbeLevel
    text: str
    data: str = ""

    @property
    def code(self) -> int:
        """The exit code."""
        return int(self.level)

    @property
    def line(self) -> str:
        """The one line of output. A bar would end its text, so none is left in it."""
        text = " ".join(self.text.replace("|", "/").split())
        return f"SYNCD {self.level.name} - {text}" + (f" | {self.data}" if self.data else "")


_CRITICAL: Final = frozenset({"rejected", "failed"})
"""Outcomes that need a person. An unreachable source may recover by itself, until its lists are too old."""
_URGENT: Final = frozenset({"within 7 days", "overdue", "expired"})
"""States of metadata that need a person now."""


_LAGS: Final = {"warning": ProbeLevel.WARNING, "critical": ProbeLevel.CRITICAL}
"""Lags of matchers that need a person; a probe ignores the others."""
_NAMED: Final = 5
"""Expiring suppressions named one by one."""


def judge(document: Document, refused: str = "", page: str | None = None) -> ProbeResult:
    """Judge a status document by its worst fault, and name all faults, worst first.

    ``refused``: the fault of the configuration on disk, if the daemon runs on an older one. ``page``: the address of
    the runbook; the address of the section about the worst fault is then named last.
    """
    faults = sorted((*_of_daemon(document, refused), *_faults(document)), key=lambda fault: -fault.level)
    aged = [one for one in document["lists"] if one["age_seconds"] is not None]
    data = " ".join(map(_performance, aged))
    if faults:
        where = (f"runbook: {runbook.address(page, faults[0].section)}",) if page else ()
        return ProbeResult(faults[0].level, "; ".join((*(fault.text for fault in faults), *where)), data)
    retired = sum(bool(one.get("retired_at")) for one in document["lists"])  # an older daemon does not report it
    if not aged and retired:
        return ProbeResult(ProbeLevel.OK, f"{count(retired, 'list')}, retired")
    if not aged:
        return ProbeResult(ProbeLevel.UNKNOWN, "nothing is published, and no source is configured")
    oldest = timedelta(seconds=max(one["age_seconds"] for one in aged))
    return ProbeResult(ProbeLevel.OK, f"{count(len(aged), 'list')}, the oldest verified {span(oldest)} ago", data)


def _performance(one: Document) -> str:
    warn = one.get("warn_seconds") or ""  # an older daemon does not report it
    return f"'{one['list']}'={one['age_seconds']}s;{warn};{one['limit_seconds'] or 0}"


def unknown(error: SyncdError) -> ProbeResult:
    """Report a state that could not be read."""
    return ProbeResult(ProbeLevel.UNKNOWN, error.message)


def _faults(document: Document) -> Iterator[ProbeFault]:
    """Yield each fault with its level. An older daemon does not report all kinds of faults."""
    for one in document["lists"]:
        if one["act"]:
            critical = one["stale"] or _is_critical(one["last_sync"])
            # without a limit its source is no longer configured: the list cannot recover and must not page forever
            followed = one["limit_seconds"] is not None
            yield _fault(critical and followed, f"{one['list']}: {one['act']}", one)
    for source in document["not_published"]:
        last = source["last_sync"]
        ended = f"the last sync was {last['outcome']}" if last else _first_sync(source)
        act = f"; {source['act']}" if source.get("act") else ""  # an older daemon does not report it
        text = f"{source['source']}: nothing published yet, {ended}{act}"
        yield _fault(_is_critical(last), text, source)
    yield from _of_sources(document)
    for role in document["metadata"]:
        if role["act"]:
            yield _fault(role["state"] in _URGENT, role["act"], role)
    for certificate in document.get("certificates", ()):
        if certificate["act"]:
            yield _fault(True, certificate["act"], certificate)
    yield from _of_clock(document)
    yield from _of_matchers(document)
    yield from _of_suppressions(document)
    yield from _of_files(document)
    yield from _of_fleet(document)
    storage = document.get("storage_faults", ())
    yield from (_fault(True, f"{fault['what']}: {fault['message']}", fault) for fault in storage)


def _of_sources(document: Document) -> Iterator[ProbeFault]:
    for source in document["sources"]:
        for fault in source.get("faults", ()):
            yield _fault(fault["outcome"] in _CRITICAL, f"{source['source']}: {fault['act']}", fault)
        late = source.get("late_expiry")
        if late:
            yield _fault(False, f"{source['source']}: {late['act']}", late)


def _of_clock(document: Document) -> Iterator[ProbeFault]:
    clock = document.get("clock", {"act": None})
    if clock["act"]:
        yield _fault(True, clock["act"], clock)


def _of_files(document: Document) -> Iterator[ProbeFault]:
    files = document.get("files", {"faults": ()})
    yield from (_fault(True, fault["message"], fault) for fault in files["faults"])
    yield from (_fault(False, fault["message"], fault) for fault in files.get("history", ()))
    if files.get("act"):
        yield _fault(False, files["act"], files)


def _of_fleet(document: Document) -> Iterator[ProbeFault]:
    fleet = document.get("fleet") or {"faults": ()}
    yield from (_fault(fault["urgent"], fault["act"], fault) for fault in fleet["faults"])


def _of_daemon(document: Document, refused: str) -> Iterator[ProbeFault]:
    """Yield the faults of the daemon itself. A state that was only ever synced by `syncd sync` needs no daemon."""
    if document["daemon"] == NOT_ANSWERING:
        yield ProbeFault(ProbeLevel.WARNING, "the daemon does not answer", runbook.DAEMON)
    planned = any(source["next_sync_at"] is not None for source in document["sources"])
    if document["daemon"] == NOT_RUNNING and planned and not led_elsewhere(document):
        yield ProbeFault(ProbeLevel.WARNING, "no daemon is running, so no source is synced", runbook.DAEMON)
    if refused:
        why = f"the configuration on disk is refused: {refused}"
        text = f"a restart of the daemon would fail, because {why}"
        yield ProbeFault(ProbeLevel.WARNING, text, runbook.CONFIGURATION)


def _of_matchers(document: Document) -> Iterator[ProbeFault]:
    for matcher in document["matchers"]:
        level = _LAGS.get(matcher.get("level", ""))  # an older daemon does not report it
        if level is not None:
            yield ProbeFault(level, f"matcher {matcher['matcher']}: {matcher['act']}", _section(matcher))


def _of_suppressions(document: Document) -> Iterator[ProbeFault]:
    found = document.get("suppressions", {"soonest": (), "expiring": 0})
    for one in found["soonest"][:_NAMED]:
        yield _fault(False, one["act"], one)
    if found["expiring"] > _NAMED:
        text = f"{found['expiring'] - _NAMED:,} more suppressions expire within three days"
        yield ProbeFault(ProbeLevel.WARNING, text, runbook.SUPPRESSION)


def _first_sync(source: Document) -> str:
    running = source.get("running")
    return "the first sync is running" if running and not running["dry_run"] else "never synced"


def _fault(critical: bool, text: str, part: Document) -> ProbeFault:
    return ProbeFault(_level(critical), text, _section(part))


def _section(part: Document) -> str:
    """Return the section of the runbook that a part of the document names. An older daemon names none."""
    return part.get("section") or runbook.ALERTS


def _is_critical(last: Document | None) -> bool:
    return last is not None and last["outcome"] in _CRITICAL


def _level(critical: bool) -> ProbeLevel:
    return ProbeLevel.CRITICAL if critical else ProbeLevel.WARNING
