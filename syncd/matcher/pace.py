"""Scheduling of pulls. Pure: time and random numbers are arguments."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from syncd.errors import FeedError, HttpStatusError, SourceError, SyncdError
from syncd.fetch.backoff import JITTER, backoff, vary
from syncd.model import ListName

Random = Callable[[], float]
"""Returns a random number from 0 to 1."""

RELAXED: Final = 600.0
"""Minimum seconds between polls while events are followed: events announce versions, polls bring `verified_at`."""
_BRISK: Final = 1.0
"""First wait for a peer in trouble whose event stream is open, so that it is known to be up."""
_BEHIND: Final = SourceError("the feed does not yet have a version that its events announced")


class Pacer:
    """The schedule of pulls: at once for an announced version, else at the interval, later if the peer is in trouble.

    Times are seconds of a monotonic clock. If ``lists`` is not empty, announcements of other lists are ignored.
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
        self._announced: dict[ListName, int] = {}
        self._held: Mapping[ListName, int] = {}
        self._following = self._troubled = self._asked_for_patience = False
        self._failures = 0

    def left(self, now: float) -> float:
        """Return the seconds until the next pull; 0 if it is due."""
        return max(0.0, self.due - now)

    def announced(self, versions: Mapping[ListName, int], now: float) -> None:
        """Note versions that events announced. They do not hasten the pull from a peer in trouble."""
        self._announced |= versions
        if not self._failures and any(self._held.get(name, 0) < versions[name] for name in self._relevant(versions)):
            self.due = min(self.due, now)

    def hasten(self, now: float) -> None:
        """Make the next pull due now, unless the last one failed: then its pause is kept."""
        if not self._failures:
            self.due = min(self.due, now)

    def stream_changed(self, following: bool, now: float) -> None:
        """Note that the event stream is open, or that it is not."""
        if following == self._following:
            return
        self._following = following
        if self._failures:
            if following and not self._asked_for_patience:  # it is up again
                self.due = min(self.due, now + _BRISK * self._rng())
        elif self.due > now:
            pause = self._usual_pause()
            self.due = now + pause if following else min(self.due, now + pause)

    def pulled(self, held: Mapping[ListName, int], errors: Sequence[SyncdError], now: float) -> float:
        """Note that a pull ended, with the versions held now and its errors. Return the seconds until the next pull."""
        self._held = dict(held)
        self._troubled = bool(errors)
        if any(isinstance(error, FeedError) for error in errors):
            self._announced = {}  # a rejected version does not get better by asking at once
        trouble = next((error for error in errors if isinstance(error, SourceError)), None)
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

    def pulled_elsewhere(self, held: Mapping[ListName, int], now: float) -> None:
        """Note that another process pulled into the same folder, with the versions held now."""
        self._held = dict(held)
        if not self._is_behind():
            self._troubled = self._asked_for_patience = False
            self._failures = 0
            self.due = now + self._usual_pause()
        elif not self._failures:
            self.due = min(self.due, now)

    def _is_behind(self) -> bool:
        """Return True if an announced version is not held yet. If so after a pull, a mirror lags behind the events."""
        return any(self._held.get(name, 0) < self._announced[name] for name in self._relevant(self._announced))

    def _relevant(self, versions: Mapping[ListName, int]) -> list[ListName]:
        return [name for name in versions if not self._lists or name in self._lists]

    def _usual_pause(self) -> float:
        relaxed = self._following and not self._troubled
        return vary(max(self._interval, RELAXED) if relaxed else self._interval, self._jitter, self._rng())
