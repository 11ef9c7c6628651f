"""The lock of a feed: one process at a time reads its state, computes the next one and publishes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from syncd.errors import LostRaceError
from syncd.feed.folder import FeedFolder
from syncd.locks import lock

Done = TypeVar("Done")

_RACES: Final = 3
"""Attempts if other processes publish first."""


@dataclass(frozen=True)
class FeedLock:
    """Proof that the caller holds the lock of ``feed`` on this machine: nothing is published without it."""

    feed: FeedFolder
    last: int = 0
    """the newest commit of the ledger before anything was read: what is published follows it, or nothing is"""


def with_lock(
    feed: FeedFolder,
    purpose: str,
    act: Callable[[FeedLock], Done],
    patience: float = 0.0,
    last: Callable[[], int] = lambda: 0,
) -> Done:
    """Call ``act`` with the feed's lock held; return its result.

    ``act`` reads the state, judges it and publishes. It is called again, with the lock still held, if its commit finds
    that another process published first: one on another machine, since it does not have this lock. ``last`` returns the
    newest commit of the ledger. Raises what ``act`` raises, and `RefusedError` if the lock is not free within
    ``patience`` seconds.
    """
    with lock(feed.lock, purpose, patience):
        for _ in range(_RACES - 1):
            try:
                return act(FeedLock(feed, last()))
            except LostRaceError:
                continue
        return act(FeedLock(feed, last()))
