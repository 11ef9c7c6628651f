"""Following the upstream: an update at once after each of its events, otherwise at an interval."""

import queue
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from syncd import events
from syncd.errors import FeedError, SyncdError
from syncd.event import Emit
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.matcher.check_in import CheckIn
from syncd.matcher.news import NewsStream
from syncd.matcher.pull import PullResult
from syncd.matcher.reproof import BackgroundProof
from syncd.matcher.threads import WakeSignal
from syncd.matcher.watch import PullAttempt, follow
from syncd.mirror.replica import Replica
from syncd.mirror.tokens import ANSWER_WITHIN, TokenWatch, UpstreamTokens
from syncd.model import ListName

Announce = Callable[[ListName, int], None]
"""Called with each list and its version after an update."""


class Updates:
    """The thread that brings a mirror up to date. Each update first has the upstream confirm the tokens in force.

    So no version is ever served to a token that was revoked before the mirror fetched it.
    """

    def __init__(
        self,
        replica: Replica,
        endpoint: Endpoint,
        tokens: UpstreamTokens,
        *,
        interval: float,
        deadline: float,
        instance: str,
        announce: Announce,
        emit: Emit,
        clock: Callable[[], datetime],
    ) -> None:
        self._replica, self._endpoint, self._tokens = replica, endpoint, tokens
        self._interval, self._seconds, self._instance = interval, deadline, instance
        self._announce, self._emit, self._clock = announce, emit, clock
        self._deadline = Deadline(deadline)
        self._stop, self._wake_signal = threading.Event(), WakeSignal()
        self._faults: queue.SimpleQueue[SyncdError] = queue.SimpleQueue()
        self._reported = ""
        self._thread: threading.Thread | None = None
        self.succeeded_at: datetime | None = None
        """when the mirror was last known to have the upstream's newest state"""
        self.failures = self.received = 0
        """failed updates, and bytes received, since the start"""

    def once(self) -> PullResult:
        """Update now. Raises as `Replica.update` and `UpstreamTokens.refresh`."""
        if self._stop.is_set():
            return PullResult(())
        self._deadline = Deadline(ANSWER_WITHIN)
        try:
            self._tokens.refresh(self._deadline)
        except SyncdError as error:
            error.serving = self._replica.served.words
            raise
        self._deadline = Deadline(self._seconds)
        result = self._replica.update(self._endpoint, self._tokens.scope, self._clock(), self._deadline)
        self.received += result.bytes
        if not result.errors:
            self.succeeded_at = self._clock()
        for name, version in self._replica.served.versions.items():
            self._announce(name, version)
        return result

    def start(self, watch: TokenWatch) -> None:
        """Follow the upstream from now on. ``watch`` is notified when tokens may have changed."""
        self._thread = threading.Thread(target=self._follow, args=(watch,), name="syncd-mirror", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True from `start` until the thread has ended, also if a bug ended it."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """End the thread; what it was fetching is continued at the next start."""
        self._stop.set()
        self._deadline.end()
        self._wake_signal.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _follow(self, watch: TokenWatch) -> None:
        api = self._endpoint.api
        assert api is not None  # noqa: S101 - checked at the start: without an API there are no tokens to admit
        news = NewsStream(api, self._wake_signal.set, on_access=watch.look_now)
        check_in = CheckIn(api, self._instance)
        proof = BackgroundProof(self._replica.feed.root, self._clock, self._found, self._replica.held_versions)
        try:
            follow(
                self.once,
                interval=self._interval,
                stop=self._stop,
                on_event=self._ended,
                news=news,
                check_in=check_in,
                faults=self._faults,
                wait=self._wake_signal.wait,
            )
        finally:
            for part in (proof, news, check_in):
                part.close()

    def _found(self, errors: Sequence[SyncdError]) -> None:
        for error in errors:
            self._faults.put(error)
        self._wake_signal.set()

    def _ended(self, attempt: PullAttempt) -> None:
        """Report the versions that are new, and a fault once until it is over."""
        if self._stop.is_set():
            return
        for change in attempt.pulled.lists if attempt.pulled else ():
            if change.before != change.after and change.after is not None:
                self._emit(events.MirrorUpdated(change.list, change.after, change.before, change.forked))
        if not attempt.errors:
            self._reported = ""
            return
        self.failures += 1
        for error in attempt.errors[:1]:
            if self._reported != error.message:
                self._reported = error.message
                rejected = isinstance(error, FeedError)
                self._emit(events.MirrorNotUpdated(error.message, error.hint, error.serving, rejected))
