"""Which instances of matchers do not follow. Pure.

An instance checks in after each change of what it has loaded, and otherwise every five minutes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from syncd.catalog.records import LoadedVersion, MatcherRecord
from syncd.model import ListName
from syncd.units import span, stamp

BEHIND_AFTER: Final = timedelta(minutes=5)
"""How long after publishing everybody is to have loaded it."""
SILENT_AFTER: Final = timedelta(minutes=15)
"""Three check-ins that did not come."""
FORGOTTEN_AFTER: Final = timedelta(days=7)
"""An instance that was silent for so long is gone for good."""


@dataclass(frozen=True)
class InstanceList:
    """How one instance stands with one list."""

    loaded: LoadedVersion
    due: int | None
    """the newest version that it should have by now; None: of that list nothing is"""
    behind: bool
    silent: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "list": self.loaded.list,
            "version": self.loaded.version,
            "loaded_at": stamp(self.loaded.loaded_at),
            "due": self.due,
            "behind": self.behind,
        }


@dataclass(frozen=True)
class InstanceView:
    """One process or host of a matcher, and how it stands with each list that it has loaded: with one at least."""

    name: str
    standings: tuple[InstanceList, ...]

    @property
    def seen_at(self) -> datetime:
        """When it was heard of last."""
        return self.standings[0].loaded.seen_at

    @property
    def silent(self) -> bool:
        """Whether it was not heard of for long."""
        return self.standings[0].silent

    @property
    def behind(self) -> bool:
        """Whether it lacks a version of any list that it should have by now."""
        return any(one.behind for one in self.standings)

    def why(self, now: datetime) -> str:
        """Why somebody should look, as the end of a sentence; '' where nobody need."""
        if self.silent:
            return f"was not heard of for {span(now - self.seen_at)}"
        lacks = (
            f"{one.loaded.list} {one.loaded.version} and should have {one.due}" for one in self.standings if one.behind
        )
        return f"has {', '.join(lacks)}" if self.behind else ""

    def document(self, now: datetime) -> dict[str, Any]:
        """As JSON."""
        return {
            "instance": self.name,
            "seen_at": stamp(self.seen_at),
            "silent": self.silent,
            "act": self.why(now) or None,
            "lists": [one.document() for one in self.standings],
        }


@dataclass(frozen=True)
class MatcherView:
    """One matcher and its instances."""

    matcher: MatcherRecord
    instances: tuple[InstanceView, ...]

    @property
    def laggards(self) -> tuple[InstanceView, ...]:
        """Those that are behind or silent."""
        return tuple(one for one in self.instances if one.behind or one.silent)

    @property
    def seen_at(self) -> datetime | None:
        """When any of them was heard of last."""
        return max((one.seen_at for one in self.instances), default=None)

    def document(self, now: datetime) -> dict[str, Any]:
        """As JSON; no token, and no hash of one."""
        return {
            "name": self.matcher.name,
            "lists": self.matcher.lists,
            "created_at": stamp(self.matcher.created_at),
            "created_by": self.matcher.created_by,
            "seen_at": stamp(self.seen_at) if self.seen_at else None,
            "behind": sum(one.behind for one in self.instances),
            "silent": sum(one.silent for one in self.instances),
            "instances": [one.document(now) for one in self.instances],
        }


def document(found: Iterable[MatcherView], now: datetime) -> dict[str, Any]:
    """What ``syncd matchers --json`` prints. Keys are only ever added."""
    return {"matchers": [one.document(now) for one in found]}


def views(
    matchers: Iterable[MatcherRecord], loaded: Iterable[LoadedVersion], due: Mapping[ListName, int], now: datetime
) -> tuple[MatcherView, ...]:
    """Every matcher, and how its instances stand; as `standings`."""
    found: dict[str, dict[str, list[InstanceList]]] = {}
    for one in standings(loaded, due, now):
        found.setdefault(one.loaded.matcher, {}).setdefault(one.loaded.instance, []).append(one)
    return tuple(
        MatcherView(one, tuple(InstanceView(name, tuple(each)) for name, each in found.get(one.name, {}).items()))
        for one in matchers
    )


def standings(loaded: Iterable[LoadedVersion], due: Mapping[ListName, int], now: datetime) -> tuple[InstanceList, ...]:
    """How everybody stands, but for those that are gone for good.

    ``due``: the newest version of each list that was published `BEHIND_AFTER` ago or earlier, as
    `syncd.catalog.catalog.Catalog.due_versions` gives it. Not the head: of a list that is published every few minutes
    the head is always new, and nobody would ever be behind.
    """
    return tuple(_standing(one, due.get(one.list), now) for one in loaded if now - one.seen_at <= FORGOTTEN_AFTER)


def _standing(one: LoadedVersion, due: int | None, now: datetime) -> InstanceList:
    return InstanceList(one, due, due is not None and one.version < due, now - one.seen_at > SILENT_AFTER)
