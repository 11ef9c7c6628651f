"""When to pull next. Pure: time and chance are arguments."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from syncd.errors import FeedError, HttpStatusError, SourceError, SyncdError
from syncd.fetch.backoff import JITTER, backoff, vary
from syncd.model import ListName

Random = Callable[[], float]
"""From 0 to 1."""

RELAXED: Final = 600.0
"""Seconds between two polls, at least, while events are followed: they bring the news, a poll brings `verified_at`."""
_BRISK: Final = 1.0
"""Where the wait for a peer begins that we know to be up: its event stream is open."""
_BEHIND: Final = SourceError("the feed does not have yet what its events told of")


class Pacer:
    """Knows when the next pull is due: at once for news, else at the interval, later for a peer in trouble.

    Times are seconds of a monotonic clock. What is told of a list that is not among ``lists`` is not news; none named:
    all are.
    """

    def __init__(
        self,
        interval: float,
        lists: Iterable[ListName] = (),
        *,
        now: float = 0.0,
        jitter: float = JITTER,
        rng: Random = random.random,
    ) -> None:
        self._interval, self._lists, self._jitter, self._rng = interval, frozenset(lists), jitter, rng
        self.due = now
        self._told: dict[ListName, int] = {}
        self._held: Mapping[ListName, int] = {}
        self._following = self._troubled = self._asked_for_patience = False
        self._failures = 0

    def left(self, now: float) -> float:
        """Seconds until the next pull; 0 where it is due."""
        return max(0.0, self.due - now)

    def heard(self, told: Mapping[ListName, int], now: float) -> None:
        """Events told these versions. A peer in trouble is not pulled from any earlier for that."""
        self._told |= told
        if not self._failures and any(self._held.get(name, 0) < told[name] for name in self._relevant(told)):
            self.due = min(self.due, now)

    def follows(self, following: bool, now: float) -> None:
        """The event stream was opened, or was lost."""
        if following == self._following:
            return
        self._following = following
        if self._failures:
            if following and not self._asked_for_patience:  # it is up again
                self.due = min(self.due, now + _BRISK * self._rng())
        elif self.due > now:
            pause = self._usual_pause()
            self.due = now + pause if following else min(self.due, now + pause)

    def pulled(self, held: Mapping[ListName, int], troubles: Sequence[SyncdError], now: float) -> float:
        """A pull ended with these versions here, and these errors. Returns the seconds until the next."""
        self._held = dict(held)
        self._troubled = bool(troubles)
        if any(isinstance(one, FeedError) for one in troubles):
            self._told = {}  # what is rejected will not get better by asking at once
        trouble = next((one for one in troubles if isinstance(one, SourceError)), None)
        if trouble is None and self._is_behind():
            trouble = _BEHIND
        self._asked_for_patience = isinstance(trouble, HttpStatusError) and trouble.retry_after is not None
        self._failures = self._failures + 1 if trouble else 0
        if trouble:
            seconds = backoff(trouble, self._failures, _BRISK if self._following else self._interval, self._rng())
        else:
            seconds = self._usual_pause()
        self.due = now + seconds
        return seconds

    def noticed(self, held: Mapping[ListName, int], now: float) -> None:
        """Another process pulled into the same folder, and these versions are here now."""
        self._held = dict(held)
        if not self._is_behind():
            self._troubled = self._asked_for_patience = False
            self._failures = 0
            self.due = now + self._usual_pause()
        elif not self._failures:
            self.due = min(self.due, now)

    def _is_behind(self) -> bool:
        """Whether there was news that is not here yet. After a pull, a mirror lags behind the events."""
        return any(self._held.get(name, 0) < self._told[name] for name in self._relevant(self._told))

    def _relevant(self, told: Mapping[ListName, int]) -> list[ListName]:
        return [name for name in told if not self._lists or name in self._lists]

    def _usual_pause(self) -> float:
        relaxed = self._following and not self._troubled
        return vary(max(self._interval, RELAXED) if relaxed else self._interval, self._jitter, self._rng())
