"""Keeping a matcher up to date: reload from its folder and, if it follows a feed itself, pull into the folder."""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from syncd.matcher.folding import BackgroundFold
from syncd.matcher.news import REFUSALS, NewsStream
from syncd.matcher.pace import Pacer
from syncd.matcher.pull import PullResult, pull_if_free
from syncd.matcher.reproof import BackgroundProof
from syncd.matcher.status import ListStatus
from syncd.matcher.threads import Poller, Wait, WakeSignal, drain
from syncd.model import ListName

_LONGEST_PAUSE: Final = 60.0
"""Maximum seconds until a generation that cannot be loaded is tried again."""
_BUSY_PAUSE: Final = 0.025
"""Seconds until the first check for the result of another process that is pulling; later checks are less frequent."""
_LONGEST_BUSY_PAUSE: Final = 0.25
_BUSY_FACTOR: Final = 1.5


Clock = Callable[[], datetime]


class Reloadable(Protocol):
    """The methods of a matcher that watchers use."""

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
        """See `Matcher.versions`."""
        ...


class Watcher(Protocol):
    """Keeps a matcher up to date, from its own threads."""

    proof: BackgroundProof

    def close(self) -> None:
        """End the threads; nothing is called after this returns."""
        ...

    def check_out(self) -> None:
        """Report that this process ends."""
        ...

    def close_inherited(self) -> None:
        """Close what the threads held open, in a forked child, which does not run them."""
        ...


@dataclass
class ReloadStep:
    """Reloads a matcher if there is a new generation; returns the seconds until the next check."""

    matcher: Reloadable
    interval: float
    jitter: float
    on_change: Callable[[list[ListStatus]], None] | None
    on_error: Callable[[SyncdError], None] | None
    failures: int = 0
    changed: bool = False
    """True if the last call loaded a generation"""

    def __call__(self) -> float:
        """Reload once."""
        self.changed = False
        try:
            self.changed = self.matcher.reload()
        except SyncdError as error:
            self.failures += 1
            self.report(error)
        else:
            self.failures = 0
            if self.changed and self.on_change:
                self.on_change(self.matcher.status())
        return self.seconds()

    def seconds(self) -> float:
        """Return the seconds until the next check."""
        pause = min(self.interval * 2 ** min(self.failures, 16), max(self.interval, _LONGEST_PAUSE))
        return vary(pause, self.jitter, random.random())  # noqa: S311 - spreads load, guards nothing

    def report(self, error: SyncdError) -> None:
        """Pass an error to ``on_error``."""
        if self.on_error:
            self.on_error(error)


def _report_all(reload: ReloadStep, errors: Sequence[SyncdError]) -> None:
    for error in errors:
        reload.report(error)


class FolderWatcher:
    """Reloads from the folder; another process pulls into it."""

    def __init__(self, reload: ReloadStep, folder: Path, clock: Clock, wait: Wait) -> None:
        self._poller = Poller(reload, reload.seconds(), wait).start()
        self.proof = BackgroundProof(folder, clock, partial(_report_all, reload))

    def close(self) -> None:
        """See `Watcher.close`."""
        self.proof.close()
        self._poller.stop()

    def check_out(self) -> None:
        """See `Watcher.check_out`."""

    def close_inherited(self) -> None:
        """See `Watcher.close_inherited`."""


@dataclass(frozen=True)
class WatchedFeed:
    """A feed to pull, and the folder to pull into."""

    feed: Feed
    endpoint: Endpoint
    root: bytes
    folder: Path
    clock: Clock


class FeedWatcher:
    """Follows the events of a feed, pulls into the folder, reloads, and reports the loaded versions to the operator.

    If several processes share a copy, one pulls at a time and the others load the result.
    """

    def __init__(self, reload: ReloadStep, source: WatchedFeed) -> None:
        self._wake_signal = WakeSignal()
        api = source.endpoint.api
        self._news = NewsStream(api, self._wake_signal.set) if api else None
        self._check_in = CheckIn(api, process_instance(source.feed.instance_name())) if api else None
        faults: queue.SimpleQueue[SyncdError] = queue.SimpleQueue()
        report = partial(_pass_on, faults, self._wake_signal)
        self._folds = BackgroundFold(source.folder, report)
        self._step = _FeedStep(reload, source, self._news, self._check_in, self._folds, faults)
        # Not a method of this object: the reference cycle would keep the matcher, and its map, after `close`.
        interrupt = partial(_interrupt, self._step, self._wake_signal)
        self._poller = Poller(self._step, 0.0, self._wake_signal.wait, interrupt=interrupt).start()
        self.proof = BackgroundProof(source.folder, source.clock, report)

    def close(self) -> None:
        """See `Watcher.close`."""
        self.proof.close()
        self._poller.stop()
        self._folds.close()
        for follower in (self._news, self._check_in):
            if follower:
                follower.close()

    def check_out(self) -> None:
        """See `Watcher.check_out`."""
        if self._check_in:
            self._check_in.close()

    def close_inherited(self) -> None:
        """See `Watcher.close_inherited`."""
        self._step.deadline.close_inherited()
        for follower in (self._news, self._check_in):
            if follower:
                follower.close_inherited()


def _interrupt(step: "_FeedStep", wake_signal: WakeSignal) -> None:
    step.stopped.set()
    step.deadline.end()
    wake_signal.set()


def _pass_on(faults: "queue.SimpleQueue[SyncdError]", wake_signal: WakeSignal, errors: Sequence[SyncdError]) -> None:
    for error in errors:
        faults.put(error)
    wake_signal.set()


@dataclass
class _FeedStep:
    """Reloads, and pulls if a pull is due; returns the seconds until the next step."""

    reload: ReloadStep
    source: WatchedFeed
    news: NewsStream | None
    check_in: CheckIn | None
    folds: BackgroundFold
    faults: "queue.SimpleQueue[SyncdError]"
    """faults that a proof found in the copy; a pull repairs them"""
    deadline: Deadline = field(default_factory=lambda: Deadline(0.0))
    stopped: threading.Event = field(default_factory=threading.Event)
    busy_pause: float = 0.0
    """seconds until the next check while another process is pulling"""

    def __post_init__(self) -> None:
        feed = self.source.feed
        self.pacer = Pacer(feed.interval, feed.list_names(), now=time.monotonic())

    def __call__(self) -> float:
        seconds = self._reload()
        if self.reload.changed:
            self.pacer.pulled_elsewhere(self.reload.matcher.versions, time.monotonic())
        if self.news:
            self.news.update(self.pacer, time.monotonic(), self._report_refusal)
        self._repair()
        self.busy_pause = self._pull_and_reload() if self.pacer.left(time.monotonic()) <= 0 else 0.0
        return min(seconds, self.busy_pause or self.pacer.left(time.monotonic()))

    def _repair(self) -> None:
        """Report faults that the proof of the copy found, and pull soon: damaged files are then fetched again."""
        for error in drain(self.faults):
            self.reload.report(error)
            self.pacer.hasten(time.monotonic())

    def _report_refusal(self, error: SyncdError | None) -> None:
        """Report only refused access: if the event stream is merely lost, the feed is polled instead."""
        if isinstance(error, HttpStatusError) and error.status in REFUSALS:
            self.reload.report(error)

    def _reload(self) -> float:
        seconds = self.reload()
        if self.check_in:
            self.check_in.report(self.reload.matcher.versions)
        return seconds

    def _pull_and_reload(self) -> float:
        """Pull and reload; return 0, or the seconds until the next attempt if another process is pulling."""
        pulled, errors = self._pull()
        if self.stopped.is_set():
            return 0.0
        if pulled is None and not errors:
            return min(max(_BUSY_PAUSE, self.busy_pause * _BUSY_FACTOR), _LONGEST_BUSY_PAUSE)
        self._reload()
        self.folds.wake()
        self.pacer.pulled(self.reload.matcher.versions, errors, time.monotonic())
        for error in errors:
            self.reload.report(error)
        return 0.0

    def _pull(self) -> tuple[PullResult | None, list[SyncdError]]:
        feed = self.source.feed
        self.deadline = Deadline(feed.deadline)
        if self.stopped.is_set():
            return None, []
        try:
            pulled = pull_if_free(
                self.source.endpoint,
                self.source.root,
                self.source.folder,
                now=self.source.clock(),
                lists=feed.list_names(),
                deadline=self.deadline,
                already_pulled=self._already_pulled,
                fold_later=self.folds.may_wait,
            )
        except Exception as fault:  # noqa: BLE001 - reported, and tried again at the usual interval
            return None, [as_known(fault)]
        return pulled, pulled.errors if pulled else []

    def _already_pulled(self) -> bool:
        """Return True if another process pulled since the last reload. Its result is loaded first if possible."""
        return not self.reload.failures and not self.reload.matcher.is_newest()
