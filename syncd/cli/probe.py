"""``syncd status --check``: one line and an exit code, as monitoring plugins give them. Pure.

The format is that of the Monitoring Plugins Development Guidelines, sections 2.1 (exit codes) and 2.6 (performance
data): ``SYNCD OK - text | 'label'=value;warn;crit``.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from syncd.cli.orders import Document
from syncd.errors import SyncdError
from syncd.units import count, span


class ProbeLevel(enum.IntEnum):
    """The exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class ProbeResult:
    """What the monitoring system is told."""

    level: ProbeLevel
    text: str
    data: str = ""

    @property
    def code(self) -> int:
        """The exit code."""
        return int(self.level)

    @property
    def line(self) -> str:
        """One line; a bar would end the text."""
        text = " ".join(self.text.replace("|", "/").split())
        return f"SYNCD {self.level.name} - {text}" + (f" | {self.data}" if self.data else "")


_CRITICAL: Final = frozenset({"rejected", "failed"})
"""Outcomes that do not get better by themselves; a source out of reach may, until its lists are too old."""
_URGENT: Final = frozenset({"within 7 days", "overdue", "expired"})
"""States of metadata."""


def judge(found: Document) -> ProbeResult:
    """The worst of all that a status document tells, and what it is."""
    faults = sorted(_faults(found), key=lambda one: -one[0])
    aged = [one for one in found["lists"] if one["age_seconds"] is not None]
    data = " ".join(f"'{one['list']}'={one['age_seconds']}s;;{one['limit_seconds'] or 0}" for one in aged)
    if faults:
        return ProbeResult(faults[0][0], "; ".join(text for _, text in faults), data)
    retired = sum(bool(one.get("retired_at")) for one in found["lists"])  # a daemon may be older
    if not aged and retired:
        return ProbeResult(ProbeLevel.OK, f"{count(retired, 'list')}, retired")
    if not aged:
        return ProbeResult(ProbeLevel.UNKNOWN, "nothing is published, and no source is configured")
    lists = "1 list" if len(aged) == 1 else f"{len(aged)} lists"
    oldest = timedelta(seconds=max(one["age_seconds"] for one in aged))
    return ProbeResult(ProbeLevel.OK, f"{lists}, the oldest verified {span(oldest)} ago", data)


def unknown(error: SyncdError) -> ProbeResult:
    """The state could not be read."""
    return ProbeResult(ProbeLevel.UNKNOWN, error.message)


def _faults(found: Document) -> Iterator[tuple[ProbeLevel, str]]:
    for one in found["lists"]:
        if one["act"]:
            grave = one["stale"] or _is_grave(one["last_sync"])
            yield _level(grave and _is_followed(one)), f"{one['list']}: {one['act']}"
    for source in found["not_published"]:
        last = source["last_sync"]
        ended = f"the last sync was {last['outcome']}" if last else _first(source)
        yield _level(_is_grave(last)), f"{source['source']}: nothing published yet, {ended}"
    for source in found["sources"]:
        for one in source.get("faults", ()):  # a daemon may be older
            yield _level(one["outcome"] in _CRITICAL), f"{source['source']}: {one['act']}"
    for role in found["metadata"]:
        if role["act"]:
            yield _level(role["state"] in _URGENT), role["act"]
    for certificate in found.get("certificates", ()):  # a daemon may be older
        if certificate["act"]:
            yield ProbeLevel.CRITICAL, certificate["act"]
    yield from (
        (ProbeLevel.CRITICAL, f"{fault['what']}: {fault['message']}") for fault in found.get("storage_faults", ())
    )


def _first(source: Document) -> str:
    running = source.get("running")
    return "the first sync is running" if running and not running["dry_run"] else "never synced"


def _is_followed(one: Document) -> bool:
    """A list whose source was taken out of the configuration cannot get better, and must not page for ever."""
    return one["limit_seconds"] is not None


def _is_grave(last: Document | None) -> bool:
    return last is not None and last["outcome"] in _CRITICAL


def _level(grave: bool) -> ProbeLevel:
    return ProbeLevel.CRITICAL if grave else ProbeLevel.WARNING
