"""``syncd status --check``: one line and an exit code, as monitoring plugins give them. Pure.

The format is that of the Monitoring Plugins Development Guidelines, sections 2.1 (exit codes) and 2.6 (performance
data): ``SYNCD OK - text | 'label'=value;warn;crit``.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from syncd.errors import SyncdError
from syncd.feed.expiry import Urgency
from syncd.units import span

if TYPE_CHECKING:
    from syncd.pipeline.overview import ListView, Overview


class Level(enum.IntEnum):
    """The exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Result:
    """What the monitoring system is told."""

    level: Level
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


def judge(found: "Overview") -> Result:
    """The worst of all that was found, and what it is."""
    faults = sorted(_faults(found), key=lambda one: -one[0])
    data = " ".join(_age(row) for row in found.lists if row.age is not None)
    if faults:
        return Result(faults[0][0], "; ".join(text for _, text in faults), data)
    ages = [row.age for row in found.lists if row.age is not None]
    if not ages:
        return Result(Level.UNKNOWN, "nothing is published, and no source is configured")
    lists = "1 list" if len(ages) == 1 else f"{len(ages)} lists"
    return Result(Level.OK, f"{lists}, the oldest verified {span(max(ages))} ago", data)


def unknown(error: SyncdError) -> Result:
    """The state could not be read."""
    return Result(Level.UNKNOWN, error.message)


def _faults(found: "Overview") -> Iterator[tuple[Level, str]]:
    for row in found.lists:
        if row.why:
            grave = row.stale or (row.source.last is not None and row.source.last.outcome in _CRITICAL)
            yield (Level.CRITICAL if grave else Level.WARNING), f"{row.head.list}: {row.why}"
    for source in found.waiting:
        name, last = source.name, source.last
        told = f"the last sync was {last.outcome}" if last else "never synced"
        grave = last is not None and last.outcome in _CRITICAL
        yield (Level.CRITICAL if grave else Level.WARNING), f"{name}: nothing published yet, {told}"
    for role in found.roles:
        if role.warning:
            grave = role.urgency in {Urgency.EXPIRED, Urgency.URGENT, Urgency.OVERDUE}
            yield (Level.CRITICAL if grave else Level.WARNING), role.warning


def _age(row: "ListView") -> str:
    """Seconds since the upstream was last verified; critical where patience ends."""
    age = int(row.age.total_seconds()) if row.age is not None else 0
    limit = int(row.source.patience.total_seconds()) if row.source.patience is not None else 0
    return f"'{row.head.list}'={age}s;;{limit}"
