"""What a watching matcher does: look at its folder and, where it follows a feed by itself, pull into it."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from syncd.errors import HttpStatusError, SyncdError, as_known
from syncd.fetch.backoff import vary
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.matcher.check_in import CheckIn, process_instance
from syncd.matcher.feed import Feed
from syncd.matcher.news import REFUSALS, NewsStream
from syncd.matcher.pace import Pacer
from syncd.matcher.pull import PullResult, pull_in_turn
from syncd.matcher.status import ListStatus
from syncd.matcher.threads import Poller, Wait, Wake
from syncd.model import ListName

_LONGEST_PAUSE: Final = 60.0
"""Seconds after which a generation that cannot be loaded is tried again, at most."""
_TURN: Final = 0.025
"""Seconds until the first look at what another process is pulling; later ones come less often."""
_LONGEST_TURN: Final = 0.25
_SLOWER: Final = 1.5


class Loads(Protocol):
    """What is asked of a matcher."""

    def reload(self) -> bool:
        """See `Matcher.reload`."""
        ...

    def is_newest(self) -> bool:
        """See `Matcher.is_newest`."""
        ...

    def status(self) -> list[ListStatus]:
        """See `Matcher.status`."""
        ...

    @property
    def versions(self) -> Mapping[ListName, int]:
        """What is answered from."""
        ...


class Watcher(Protocol):
    """Keeps a matcher up to date from threads of its own."""

    def close(self) -> None:
        """End them, and wait until nothing is called any more."""
        ...

    def leave(self) -> None:
        """In a forked child, where the threads did not come along: let go of what they held open."""
        ...


@dataclass
class Look:
    """One look of a watching matcher; returns the seconds until the next."""

    matcher: Loads
    interval: float
    jitter: float
    on_change: Callable[[list[ListStatus]], None] | None
    on_error: Callable[[SyncdError], None] | None
    failures: int = 0
    changed: bool = False
    """whether the last one loaded something"""

    def __call__(self) -> float:
        """Look."""
        self.changed = False
        try:
            self.changed = self.matcher.reload()
        except SyncdError as error:
            self.failures += 1
            self.tell(error)
        else:
            self.failures = 0
            if self.changed and self.on_change:
                self.on_change(self.matcher.status())
        return self.seconds()

    def seconds(self) -> float:
        """Until the next."""
        pause = min(self.interval * 2 ** min(self.failures, 16), max(self.interval, _LONGEST_PAUSE))
        return vary(pause, self.jitter, random.random())  # noqa: S311 - spreads load, guards nothing

    def tell(self, error: SyncdError) -> None:
        """Say what went wrong."""
        if self.on_error:
            self.on_error(error)


class FolderWatcher:
    """Looks at the folder; somebody else pulls."""

    def __init__(self, look: Look, wait: Wait) -> None:
        self._poller = Poller(look, look.seconds(), wait).start()

    def close(self) -> None:
        """See `Watcher.close`."""
        self._poller.stop()

    def leave(self) -> None:
        """See `Watcher.leave`."""


@dataclass(frozen=True)
class WatchedFeed:
    """What to pull, and where to."""

    feed: Feed
    endpoint: Endpoint
    root: bytes
    folder: Path
    clock: Callable[[], datetime]


class FeedWatcher:
    """Follows the events of a feed, pulls into the folder, loads, and tells the operator what is loaded.

    Of the processes that keep one copy, one pulls at a time; the others see what came of it.
    """

    def __init__(self, look: Look, source: WatchedFeed) -> None:
        self._wake = Wake()
        api = source.endpoint.api
        self._news = NewsStream(api, self._wake) if api else None
        self._check_in = CheckIn(api, process_instance(source.feed.instance_name())) if api else None
        self._step = _FeedStep(look, source, self._news, self._check_in)
        # Not a method of this object: in a cycle it would keep the matcher, and so the map, after `close`.
        interrupt = partial(_interrupt, self._step, self._wake)
        self._poller = Poller(self._step, 0.0, self._wake.wait, interrupt=interrupt).start()

    def close(self) -> None:
        """See `Watcher.close`."""
        self._poller.stop()
        for one in (self._news, self._check_in):
            if one:
                one.close()

    def leave(self) -> None:
        """See `Watcher.leave`."""
        self._step.deadline.close_inherited()
        for one in (self._news, self._check_in):
            if one:
                one.leave()


def _interrupt(step: "_FeedStep", wake: Wake) -> None:
    step.stopped.set()
    step.deadline.end()
    wake()


@dataclass
class _FeedStep:
    """One turn: look, and pull where that is due. Returns the seconds until the next."""

    look: Look
    source: WatchedFeed
    news: NewsStream | None
    check_in: CheckIn | None
    deadline: Deadline = field(default_factory=lambda: Deadline(0.0))
    stopped: threading.Event = field(default_factory=threading.Event)
    turn: float = 0.0
    """seconds until the next look where another process is pulling"""

    def __post_init__(self) -> None:
        feed = self.source.feed
        self.pacer = Pacer(feed.interval, feed.list_names(), now=time.monotonic())

    def __call__(self) -> float:
        seconds = self._looked()
        if self.look.changed:
            self.pacer.noticed(self.look.matcher.versions, time.monotonic())
        if self.news:
            self.news.tell(self.pacer, time.monotonic(), self._tell_refusal)
        self.turn = self._pulled() if self.pacer.left(time.monotonic()) <= 0 else 0.0
        return min(seconds, self.turn or self.pacer.left(time.monotonic()))

    def _tell_refusal(self, trouble: SyncdError | None) -> None:
        """That events are lost is no error: it is polled instead. That we are not let in is one."""
        if isinstance(trouble, HttpStatusError) and trouble.status in REFUSALS:
            self.look.tell(trouble)

    def _looked(self) -> float:
        seconds = self.look()
        if self.check_in:
            self.check_in.report(self.look.matcher.versions)
        return seconds

    def _pulled(self) -> float:
        """Pull and load; where another process is at it, return the seconds until the next try, else 0."""
        pulled, errors = self._pull()
        if self.stopped.is_set():
            return 0.0
        if pulled is None and not errors:
            return min(max(_TURN, self.turn * _SLOWER), _LONGEST_TURN)
        self._looked()
        self.pacer.pulled(self.look.matcher.versions, errors, time.monotonic())
        for error in errors:
            self.look.tell(error)
        return 0.0

    def _pull(self) -> tuple[PullResult | None, list[SyncdError]]:
        feed = self.source.feed
        self.deadline = Deadline(feed.deadline)
        if self.stopped.is_set():
            return None, []
        try:
            pulled = pull_in_turn(
                self.source.endpoint,
                self.source.root,
                self.source.folder,
                now=self.source.clock(),
                lists=feed.list_names(),
                deadline=self.deadline,
                overtaken=self._overtaken,
            )
        except Exception as fault:  # noqa: BLE001 - told, and tried again at the usual pace, whatever it was
            return None, [as_known(fault)]
        return pulled, pulled.errors if pulled else []

    def _overtaken(self) -> bool:
        """What another process pulled since our look is to be loaded first, unless it cannot be."""
        return not self.look.failures and not self.look.matcher.is_newest()
