"""The wall clock, watched: one that is set back would have the schedule wait until it is again where it was."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

TOLERATED: Final = timedelta(seconds=5)
"""A clock that is slewed, or stepped by less, needs no attention."""


class WallClock:
    """Compares ``wall`` with ``steady`` (seconds that only go up), from one look to the next."""

    def __init__(self, wall: Callable[[], datetime], steady: Callable[[], float]) -> None:
        self._wall, self._steady = wall, steady
        self._before = wall(), steady()

    def went_back(self) -> timedelta | None:
        """By how much it was set back since the last look; None: it was not. Set forward, what is due is run."""
        wall, steady = self._before
        self._before = self._wall(), self._steady()
        behind = timedelta(seconds=self._before[1] - steady) - (self._before[0] - wall)
        return behind if behind > TOLERATED else None
