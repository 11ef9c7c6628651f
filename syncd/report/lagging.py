"""Matcher instances that are behind or silent. Pure.

An instance checks in after each change of what it has loaded, and otherwise every five minutes.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from syncd.catalog.records import LoadedVersion, MatcherRecord
from syncd.model import ListName
from syncd.report import runbook
from syncd.units import span, stamp

BEHIND_AFTER: Final = timedelta(minutes=5)
"""The time after publishing by which every instance should have loaded a version."""
SILENT_AFTER: Final = timedelta(minutes=15)
"""Three missed check-ins."""
FORGOTTEN_AFTER: Final = timedelta(days=7)
"""An instance that was silent for this long is considered removed."""
_NAMED: Final = 3
"""Most instances that a sentence names; the others are counted."""


class LagLevel(enum.StrEnum):
    """How serious the lag of a matcher is; equal to the severity of its alert in ``syncd/alerts.yml``."""

    NONE = "none"
    INFO = "info"
    """some instances are silent: SyncdInstancesSilent"""
    WARNING = "warning"
    """an instance is behind: SyncdMatcherBehind"""
    CRITICAL = "critical"
    """every instance is silent: SyncdMatcherSilent"""


@dataclass(frozen=True)
class InstanceList:
    """One list on one instance: the version loaded, and the version due."""

    loaded: LoadedVersion
    due: int | None
    """the newest version that it should have by now; None if none is due"""
    behind: bool
    silent: bool

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "list": self.loaded.list,
            "version": self.loaded.version,
            "loaded_at": stamp(self.loaded.loaded_at),
            "due": self.due,
            "behind": self.behind,
        }


@dataclass(frozen=True)
class InstanceView:
    """One process or host of a matcher, with each list that it has loaded (at least one)."""

    name: str
    standings: tuple[InstanceList, ...]

    @property
    def seen_at(self) -> datetime:
        """The time of its last check-in."""
        return self.standings[0].loaded.seen_at

    @property
    def silent(self) -> bool:
        """True if it has missed its check-ins."""
        return self.standings[0].silent

    @property
    def behind(self) -> bool:
        """True if it lacks a due version of any list."""
        return any(standing.behind for standing in self.standings)

    def why(self, now: datetime) -> str:
        """Return why a person should look at it, as the end of a sentence; '' if there is no need."""
        if self.silent:
            return f"has not checked in for {span(now - self.seen_at)}"
        lacks = (
            f"{standing.loaded.list} {standing.loaded.version} and should have {standing.due}"
            for standing in self.standings
            if standing.behind
        )
        return f"has {', '.join(lacks)}" if self.behind else ""

    def document(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "instance": self.name,
            "via": self.standings[0].loaded.via or None,
            "seen_at": stamp(self.seen_at),
            "silent": self.silent,
            "act": self.why(now) or None,
            "lists": [standing.document() for standing in self.standings],
        }


@dataclass(frozen=True)
class MatcherView:
    """One matcher and its instances."""

    matcher: MatcherRecord
    instances: tuple[InstanceView, ...]

    @property
    def laggards(self) -> tuple[InstanceView, ...]:
        """The instances that are behind or silent."""
        return tuple(instance for instance in self.instances if instance.behind or instance.silent)

    @property
    def seen_at(self) -> datetime | None:
        """The time of the last check-in of any instance."""
        return max((instance.seen_at for instance in self.instances), default=None)

    @property
    def level(self) -> LagLevel:
        """How serious its lag is. Whether a silent instance is also behind is not known."""
        if self.instances and all(instance.silent for instance in self.instances):
            return LagLevel.CRITICAL
        if self.late(silent=False):
            return LagLevel.WARNING
        return LagLevel.INFO if self.laggards else LagLevel.NONE

    def why(self, now: datetime) -> str:
        """Return why a person should look at it, in a sentence for each kind of lag; '' if there is none."""
        return "; ".join(in_words(late, now) for late in (self.late(silent=False), self.late(silent=True)) if late)

    def late(self, *, silent: bool) -> tuple[InstanceView, ...]:
        """Return the instances that are silent, or those that are only behind."""
        return tuple(instance for instance in self.laggards if instance.silent is silent)

    def section(self, *, silent: bool) -> str:
        """Return the section of the runbook about its silent instances, or about those that are only behind."""
        if not silent:
            return runbook.MATCHER_BEHIND
        return runbook.MATCHER_SILENT if self.level is LagLevel.CRITICAL else runbook.INSTANCES_SILENT

    def document(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON, without the token or its hash."""
        return {
            "name": self.matcher.name,
            "mirror": self.matcher.mirror,
            "lists": self.matcher.lists,
            "created_at": stamp(self.matcher.created_at),
            "created_by": self.matcher.created_by,
            "seen_at": stamp(self.seen_at) if self.seen_at else None,
            "behind": sum(instance.behind for instance in self.instances),
            "silent": sum(instance.silent for instance in self.instances),
            "instances": [instance.document(now) for instance in self.instances],
        }


def in_words(late: Sequence[InstanceView], now: datetime) -> str:
    """Say how instances lag. Either all of them are silent, or none is."""
    first = late[0]
    if len(late) == 1:
        return f"{first.name} {first.why(now)}"
    more = len(late) - _NAMED
    named = ", ".join(instance.name for instance in late[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    if first.silent:
        return f"{len(late):,} instances ({named}) have not checked in for over {span(SILENT_AFTER)}"
    return f"{len(late):,} instances ({named}) lack a version published over {span(BEHIND_AFTER)} ago"


def document(matchers: Iterable[MatcherView], now: datetime) -> dict[str, Any]:
    """Return the document of ``syncd matchers --json``. Keys are only ever added."""
    return {"matchers": [matcher.document(now) for matcher in matchers]}


def views(
    matchers: Iterable[MatcherRecord], loaded: Iterable[LoadedVersion], due: Mapping[ListName, int], now: datetime
) -> tuple[MatcherView, ...]:
    """Return every matcher with its instances; arguments as for `standings`."""
    by_matcher: dict[str, dict[str, list[InstanceList]]] = {}
    for standing in standings(loaded, due, now):
        instances = by_matcher.setdefault(standing.loaded.matcher, {})
        instances.setdefault(standing.loaded.instance, []).append(standing)
    return tuple(
        MatcherView(
            matcher, tuple(InstanceView(name, tuple(lists)) for name, lists in by_matcher.get(matcher.name, {}).items())
        )
        for matcher in matchers
    )


def standings(loaded: Iterable[LoadedVersion], due: Mapping[ListName, int], now: datetime) -> tuple[InstanceList, ...]:
    """Return the standing of every instance and list, except of instances that are considered removed.

    ``due``: the newest version of each list that was published `BEHIND_AFTER` ago or earlier, from
    `syncd.catalog.catalog.Catalog.due_versions`. The head would not do: if a list is published every few minutes, its
    head is always new and no instance would ever be behind.
    """
    return tuple(
        InstanceList(
            loaded=version,
            due=due.get(version.list),
            behind=version.version < due.get(version.list, version.version),
            silent=now - version.seen_at > SILENT_AFTER,
        )
        for version in loaded
        if now - version.seen_at <= FORGOTTEN_AFTER
    )
