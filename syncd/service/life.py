"""What systemd hears of the daemon: how it stands, and that it lives."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from syncd.errors import SyncdError
from syncd.service import notify

_BEAT: Final = 10.0


class Life:
    """``answers`` says whether the daemon does, within so many seconds; ``describe`` in words how it stands."""

    def __init__(
        self, environment: Mapping[str, str], answers: Callable[[float], bool], describe: Callable[[], str]
    ) -> None:
        self._environment, self._answers, self._describe = environment, answers, describe
        self.beat: Final = (notify.watchdog_seconds(environment) or 3 * _BEAT) / 3
        """seconds between two signs of life"""
        self._last_beat = time.monotonic()

    def note_beat(self) -> None:
        """The scheduler runs its jobs: this is one."""
        self._last_beat = time.monotonic()

    def show(self) -> None:
        """Tell the watchdog only what was seen: the scheduler runs its jobs, and the daemon answers."""
        if time.monotonic() - self._last_beat < 3 * self.beat and self._answers(self.beat):
            self.tell("WATCHDOG=1")

    def tell(self, *states: str) -> None:
        """Tell it as it is."""
        with suppress(SyncdError):  # systemd restarts what it does not hear of
            notify.notify(self._environment, *states)

    def tell_status(self, *states: str) -> None:
        """The same, and how the daemon stands."""
        self.tell(*states, f"STATUS={self._describe()}")
