"""Staying up to date: the loop of ``syncd pull --watch``."""

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
from syncd.matcher.threads import Wait
from syncd.model import ListName


@dataclass(frozen=True)
class PullAttempt:
    """One pull of many: what came of it, or the error that kept it from anything, and what comes next."""

    pulled: PullResult | None
    error: SyncdError | None
    wait: float
    """seconds until the next, at the latest"""

    @property
    def errors(self) -> list[SyncdError]:
        """What kept the pull, or lists in it, from going on."""
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
    jitter: float = JITTER,
    wait: Wait = threading.Event.wait,
    rng: Random = random.random,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Pull at once, for ``news``, and every ``interval`` seconds, give or take, until ``stop`` is set.

    No `SyncdError` ends it. A peer that cannot be reached, or asks for patience, is left alone longer and longer; a
    rejected feed is asked again at the usual pace and reported each time, while the copy stays as it was. ``wait`` also
    returns where the ``news`` wake it.
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
            news.tell(pacer, clock(), on_stream)


def _attempt(pull_once: Callable[[], PullResult]) -> tuple[PullResult | None, SyncdError | None]:
    try:
        return pull_once(), None
    except Exception as fault:  # noqa: BLE001 - whatever it was, the next pull may do better
        return None, as_known(fault)
