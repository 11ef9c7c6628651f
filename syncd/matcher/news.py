"""The event stream of a feed, read by its own thread."""

import contextlib
import json
import queue
import random
import threading
from collections.abc import Callable
from typing import Final

from syncd.errors import HttpStatusError, SourceError, SyncdError
from syncd.fetch.api import SILENCE, EventPeer
from syncd.fetch.backoff import JITTER, backoff, vary
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.event_stream import ServerSentEvent
from syncd.fetch.peer import CutShortError, UnreachableError
from syncd.matcher.pace import Pacer, Random
from syncd.matcher.threads import Conversation, Poller, Wait, drain
from syncd.model import LIST_NAME, ListName

PUBLISHED: Final = "published"
ACCESS: Final = "access"
"""To mirrors only: tokens or scopes may have changed."""
TRY_AGAIN: Final = 600.0
"""Seconds until a server without events is asked again."""
REFUSALS: Final = frozenset({401, 403})

_RETRY: Final = 2.0
"""Seconds before connecting again, if the server does not state them."""
_LONGEST_RETRY: Final = 60.0
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


OnStream = Callable[[SyncdError | None], None]
"""Called once with the error if events can no longer be followed, and with None once they are followed again."""


class NewsStream(Conversation):
    """A follower of the events of the API at ``endpoint``, until it is closed. Calls ``on_news`` after each change.

    ``on_access``: called once the stream is open, and when tokens may have changed; only mirrors are notified.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        on_news: Callable[[], None],
        *,
        on_access: Callable[[], None] = lambda: None,
        silence: float = SILENCE,
        wait: Wait = threading.Event.wait,
        rng: Random = random.random,
    ) -> None:
        self._endpoint, self._on_news, self._silence, self._rng = endpoint, on_news, silence, rng
        self._on_access = on_access
        self.following = False
        """True while the stream is open"""
        self.error: SyncdError | None = None
        """the error of the last attempt to open the stream; None if it succeeded"""
        self._reported_lost = False
        self._published: queue.SimpleQueue[tuple[ListName, int]] = queue.SimpleQueue()
        self._last_id, self._retry, self._failures = "", _RETRY, 0
        self._deadline = Deadline(silence)
        self._poller = Poller(self._listen, 0.0, wait, name="syncd-events", interrupt=self._interrupt)
        self._poller.start()

    def update(self, pacer: Pacer, now: float, on_stream: OnStream | None = None) -> None:
        """Pass the events since the last call to ``pacer``, and a change of the stream to ``on_stream``."""
        error = self.error
        if self._reported_lost != (error is not None):
            self._reported_lost = error is not None
            if on_stream:
                on_stream(error)
        pacer.stream_changed(self.following, now)
        pacer.announced(dict(drain(self._published)), now)

    def _interrupt(self) -> None:
        self._deadline.end()

    def _listen(self) -> float:
        """Connect and read until the stream ends; return the seconds until the next attempt."""
        self._deadline = Deadline(self._silence)
        if self._poller.stopping:
            return 0.0
        try:
            error = self._read()
        finally:
            was_open, self.following = self.following, False
            if was_open:
                self._on_news()
        if not was_open and not self._poller.stopping:
            self.error = error
            self._on_news()
        return self._pause(error)

    def _read(self) -> SyncdError:
        peer: EventPeer | None = None
        try:
            with contextlib.closing(EventPeer(self._endpoint, self._deadline)) as peer:
                for event in peer.events(self._last_id, self._opened):
                    published = read_published(event)
                    if published is not None:
                        self._published.put(published)
                        self._on_news()
                    elif event.kind == ACCESS:
                        self._on_access()
                    self._last_id = event.id
            return UnreachableError(f"{self._endpoint.host} ended its event stream", hint="syncd connects again soon")
        except SyncdError as error:
            return error
        finally:
            if peer is not None:
                self._retry = min(peer.parser.retry or self._retry, _LONGEST_RETRY)
                self._failures = 1 if peer.parser.lines else self._failures + 1

    def _opened(self) -> None:
        self.following, self.error = True, None
        self._on_news()
        self._on_access()

    def _pause(self, error: SyncdError) -> float:
        status = error.status if isinstance(error, HttpStatusError) else 0
        passing = isinstance(error, (UnreachableError, CutShortError))
        if isinstance(error, SourceError) and (passing or status >= _SERVER_ERROR or status == _TOO_MANY):
            return backoff(error, self._failures, self._retry, self._rng())
        return vary(TRY_AGAIN, JITTER, self._rng())


def read_published(event: ServerSentEvent) -> tuple[ListName, int] | None:
    """Return the list and version that an event announces; None if it is another kind of event, or malformed."""
    if event.kind != PUBLISHED:
        return None
    try:
        document = json.loads(event.data)
        name, version = document["list"], document["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or not LIST_NAME.fullmatch(name) or type(version) is not int or version < 1:
        return None
    return ListName(name), version
