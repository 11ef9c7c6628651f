"""The loop of ``syncd pull --watch``."""

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from syncd.errors import SyncdError, as_known
from syncd.fetch.backoff import JITTER
from syncd.matcher.check_in import CheckIn
from syncd.matcher.news import NewsStream, OnStream
from syncd.matcher.pace import Pacer, Random
from syncd.matcher.pull import PullResult
from syncd.matcher.threads import Wait, drain
from syncd.model import ListName


@dataclass(frozen=True)
class PullAttempt:
    """One pull in the loop: its result or error, and the time until the next one."""

    pulled: PullResult | None
    error: SyncdError | None
    wait: float
    """seconds until the next pull, at the latest"""

    @property
    def errors(self) -> list[SyncdError]:
        """The error of the pull, or the errors of its lists."""
        return [self.error] if self.error else self.pulled.errors if self.pulled else []


def follow(
    pull_once: Callable[[], PullResult],
    *,
    interval: float,
    stop: threading.Event,
    on_event: Callable[[PullAttempt], None],
    lists: Iterable[ListName] = (),
    news: NewsStream | None = None,
    check_in: CheckIn | None = None,
    on_stream: OnStream | None = None,
    faults: "queue.SimpleQueue[SyncdError] | None" = None,
    jitter: float = JITTER,
    wait: Wait = threading.Event.wait,
    rng: Random = random.random,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Pull now, after each of the ``news``, and about every ``interval`` seconds, until ``stop`` is set.

    No `SyncdError` ends the loop. A peer that cannot be reached, or asks for patience, is asked less and less often. A
    rejected feed is asked again at the usual interval and reported each time, while the copy stays as it was. ``wait``
    must also return if there are ``news``. ``faults``: those that a proof found in the copy; they are reported, and the
    pull that repairs them is made at once.
    """
    pacer = Pacer(interval, lists, now=clock(), jitter=jitter, rng=rng)
    held: Mapping[ListName, int] = {}
    while not stop.is_set():
        left = pacer.left(clock())
        if left > 0:
            if wait(stop, left):
                return
        else:
            pulled, error = _attempt(pull_once)
            held = pulled.versions if pulled else held
            errors = [error] if error else pulled.errors if pulled else []
            on_event(PullAttempt(pulled, error, pacer.pulled(held, errors, clock())))
            if check_in and pulled:
                check_in.report(held)
        if news:
            news.update(pacer, clock(), on_stream)
        for error in drain(faults) if faults else ():
            pacer.hasten(clock())
            on_event(PullAttempt(None, error, pacer.left(clock())))


def _attempt(pull_once: Callable[[], PullResult]) -> tuple[PullResult | None, SyncdError | None]:
    try:
        return pull_once(), None
    except Exception as fault:  # noqa: BLE001 - the next pull may succeed, whatever the fault
        return None, as_known(fault)
