"""Staying up to date: the loop of ``syncd pull --watch``, and the thread behind `Matcher.watch`."""

import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from syncd.errors import SourceError, SyncdError
from syncd.fetch.patience import JITTER, backoff, vary
from syncd.matcher.pull import Pulled

Wait = Callable[[threading.Event, float], bool]
"""Waits until the event is set, at most so many seconds; returns whether it is: `threading.Event.wait`."""
Random = Callable[[], float]
"""From 0 to 1."""


@dataclass(frozen=True)
class Attempt:
    """One pull of many: what came of it, or the error that kept it from anything, and what comes next."""

    pulled: Pulled | None
    error: SyncdError | None
    wait: float
    """seconds until the next"""

    @property
    def errors(self) -> list[SyncdError]:
        """What kept the pull, or lists in it, from going on."""
        return [self.error] if self.error else self.pulled.errors if self.pulled else []


def follow(
    pull_once: Callable[[], Pulled],
    *,
    interval: float,
    stop: threading.Event,
    on_event: Callable[[Attempt], None],
    jitter: float = JITTER,
    wait: Wait = threading.Event.wait,
    rng: Random = random.random,
) -> None:
    """Pull every ``interval`` seconds, give or take, until ``stop`` is set. No `SyncdError` ends it.

    A peer that cannot be reached, or asks for patience, is left alone longer and longer; a rejected feed is asked
    again at the usual pace and reported each time, while the copy stays as it was.
    """
    failures = 0
    while not stop.is_set():
        pulled, error = _attempt(pull_once)
        troubles = [error] if error else pulled.errors if pulled else []
        unreachable = next((one for one in troubles if isinstance(one, SourceError)), None)
        failures = failures + 1 if unreachable else 0
        seconds = backoff(unreachable, failures, interval, rng()) if unreachable else vary(interval, jitter, rng())
        on_event(Attempt(pulled, error, seconds))
        if wait(stop, seconds):
            return


def _attempt(pull_once: Callable[[], Pulled]) -> tuple[Pulled | None, SyncdError | None]:
    try:
        return pull_once(), None
    except SyncdError as error:
        return None, error


class Poller:
    """A daemon thread that calls ``step``, waits the seconds that it returns, and so on until it is stopped."""

    def __init__(self, step: Callable[[], float], first: float, wait: Wait = threading.Event.wait) -> None:
        self._step, self._first, self._wait = step, first, wait
        self.start()

    def start(self) -> None:
        """Start the thread; again in a forked child, where it did not come along."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="syncd-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for its end unless it is the one that asks."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, stop: threading.Event) -> None:
        seconds = self._first
        while not self._wait(stop, seconds):
            try:
                seconds = self._step()
            except Exception:  # noqa: BLE001 - a callback's fault is shown; ending the thread would freeze the lists
                _show_fault(threading.current_thread())


def _show_fault(thread: threading.Thread) -> None:
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
