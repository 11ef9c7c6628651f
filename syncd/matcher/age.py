"""The ages of a matcher's lists, and the refusal of look-ups in stale ones.

Both need only the loaded copy, the signed times and limits in it, and the clocks of this host: no daemon, no network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.errors import StaleList
from syncd.feed.snapshot import Snapshot
from syncd.format.freshness import UNSTATED, AgeVerdict, MaxAge, judge_age
from syncd.matcher.load import Generation
from syncd.model import ListName
from syncd.units import clock_is_behind, span

CHECK_EVERY: Final = 1.0
"""Seconds between two readings of the clock by look-ups. Limits and signed times are in whole seconds."""
_PULL: Final = "; look-ups that name only other lists are still answered"

Timer = Callable[[], float]
"""Returns seconds of a monotonic clock."""


def limits_of(snapshot: Snapshot) -> MaxAge:
    """Return the limits of a list's age: those in its manifest, or a reader's own."""
    return snapshot.manifest.max_age or UNSTATED


@dataclass(frozen=True)
class _LoadedAge:
    verified_at: datetime
    age: timedelta
    """when it was loaded"""
    loaded: float
    """of the timer"""


class ListAges:
    """The age of each loaded list, by the clock of the host.

    If the clock is set back while the list is loaded, its age is counted on from the load: within a process, only a
    newer verification makes a list younger.
    """

    def __init__(self, clock: Callable[[], datetime], timer: Timer) -> None:
        self.clock, self.timer = clock, timer
        self._loaded: Mapping[ListName, _LoadedAge] = {}

    def load(self, generation: Generation) -> None:
        """Take over the times of verification in a new generation."""
        now, ticks, loaded = self.clock(), self.timer(), {}
        for name, trusted in generation.vouching.items():
            fresh, known = trusted.freshness.get(name), self._loaded.get(name)
            if known and fresh and known.verified_at == fresh.verified_at:
                loaded[name] = known
            elif fresh:
                loaded[name] = _LoadedAge(fresh.verified_at, now - fresh.verified_at, ticks)
        self._loaded = loaded

    def of(self, name: ListName) -> timedelta | None:
        """Return the age of a list; None if its feed does not state it. Below zero: the clock was wrong at the load."""
        known = self._loaded.get(name)
        if known is None:
            return None
        by_clock = self.clock() - known.verified_at
        counted = known.age + timedelta(seconds=self.timer() - known.loaded)
        return counted if clock_is_behind(by_clock - counted) else by_clock

    def verdict(self, snapshot: Snapshot) -> AgeVerdict | None:
        """Judge the age of a list; None if it is retired, so that its age does not matter."""
        if snapshot.manifest.retired:
            return None
        return judge_age(self.of(snapshot.manifest.list), limits_of(snapshot))


class StaleGuard:
    """Refuses look-ups that would search a stale list.

    A look-up calls `check` only if a list is stale or ``due`` has passed, so it usually costs one comparison.
    """

    def __init__(self, ages: ListAges) -> None:
        self._ages = ages
        self._checked: Generation | None = None
        self.timer = ages.timer
        self.due = float("-inf")
        self.stale: Mapping[ListName, StaleList] = {}

    def check(self, generation: Generation, lists: Sequence[str]) -> None:
        """Raise `StaleList` if one of ``lists`` (if empty, any list) is stale in ``generation``."""
        ticks = self.timer()
        if ticks >= self.due or generation is not self._checked:
            snapshots = generation.snapshots.items()
            judged = ((name, snapshot, self._ages.verdict(snapshot)) for name, snapshot in snapshots)
            self.stale = {
                name: stale_list(name, self._ages.of(name), limits_of(snapshot))
                for name, snapshot, verdict in judged
                if verdict is AgeVerdict.STALE
            }
            self._checked, self.due = generation, ticks + CHECK_EVERY
        wanted = {lists} if isinstance(lists, str) else set(lists)
        for name, error in self.stale.items():
            if not wanted or name in wanted:
                raise error.again()


def stale_list(name: ListName, age: timedelta | None, limits: MaxAge) -> StaleList:
    """Return the error of a look-up in a stale list."""
    limit = timedelta(seconds=limits.critical)
    if age is None:
        message, hint = "its feed does not say when it was last verified", "ask the feed's operator"
    elif clock_is_behind(age):
        message, hint = f"the local clock is {span(-age)} behind its last verification", "correct the clock"
    else:
        message = f"it was last verified {span(age)} ago (stale after {span(limit)})"
        hint = "pull again; if that changes nothing, ask the feed's operator why syncs fail"
    return StaleList(name, age, limit, f"the list {name} is stale: {message}", hint=hint + _PULL)
