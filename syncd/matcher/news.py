"""What the event stream of a feed tells, read by a thread of its own."""

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
from syncd.matcher.threads import Poller, Wait
from syncd.model import LIST_NAME, ListName

PUBLISHED: Final = "published"
TRY_AGAIN: Final = 600.0
"""Seconds after which a server that has no events is asked again."""
REFUSALS: Final = frozenset({401, 403})

_RETRY: Final = 2.0
"""Seconds before connecting again, where the server names none."""
_LONGEST_RETRY: Final = 60.0
_SECONDS_TO_END: Final = 1.0
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


OnStream = Callable[[SyncdError | None], None]
"""Told why events are not followed, once, and None once they are again."""


class NewsStream:
    """Follows the events of the API at ``endpoint`` until it is closed; calls ``wake`` whenever something is new."""

    def __init__(
        self,
        endpoint: Endpoint,
        wake: Callable[[], None],
        *,
        silence: float = SILENCE,
        wait: Wait = threading.Event.wait,
        rng: Random = random.random,
    ) -> None:
        self._endpoint, self._wake, self._silence, self._rng = endpoint, wake, silence, rng
        self.following = False
        """whether the stream is open now"""
        self.trouble: SyncdError | None = None
        """why the last attempt to open it failed; None once one did not"""
        self._lost = False
        self._told: queue.SimpleQueue[tuple[ListName, int]] = queue.SimpleQueue()
        self._last_id, self._retry, self._failures = "", _RETRY, 0
        self._deadline = Deadline(silence)
        self._poller = Poller(self._listen, 0.0, wait, name="syncd-events", interrupt=self._interrupt)
        self._poller.start()

    def tell(self, pacer: Pacer, now: float, on_stream: OnStream | None = None) -> None:
        """Pass on what came since."""
        self._tell_of_stream(on_stream)
        pacer.follows(self.following, now)
        told: dict[ListName, int] = {}
        with contextlib.suppress(queue.Empty):
            while True:
                name, version = self._told.get_nowait()
                told[name] = version
        pacer.heard(told, now)

    def _tell_of_stream(self, on_stream: OnStream | None) -> None:
        trouble = self.trouble
        if self._lost != (trouble is not None):
            self._lost = trouble is not None
            if on_stream:
                on_stream(trouble)

    def close(self) -> None:
        """Stop at once. A thread that is still connecting ends by itself within seconds."""
        self._poller.stop(_SECONDS_TO_END)

    def leave(self) -> None:
        """In a forked child: let go of the parent's connection."""
        self._deadline.close_inherited()

    def _interrupt(self) -> None:
        self._deadline.end()

    def _listen(self) -> float:
        """Connect, read until it ends; returns the seconds until the next attempt."""
        self._deadline = Deadline(self._silence)
        if self._poller.stopping:
            return 0.0
        try:
            error = self._read()
        finally:
            was_open, self.following = self.following, False
            if was_open:
                self._wake()
        if not was_open and not self._poller.stopping:
            self.trouble = error
            self._wake()
        return self._pause(error)

    def _read(self) -> SyncdError:
        peer: EventPeer | None = None
        try:
            with contextlib.closing(EventPeer(self._endpoint, self._deadline)) as peer:
                for event in peer.events(self._last_id, self._opened):
                    self._hear(event)
                    self._last_id = event.id
            return UnreachableError(f"{self._endpoint.host} ended its events", hint="it is asked again soon")
        except SyncdError as error:
            return error
        finally:
            if peer is not None:
                self._retry = min(peer.parser.retry or self._retry, _LONGEST_RETRY)
                self._failures = 1 if peer.parser.lines else self._failures + 1

    def _opened(self) -> None:
        self.following, self.trouble = True, None
        self._wake()

    def _hear(self, event: ServerSentEvent) -> None:
        published = read_published(event)
        if published is not None:
            self._told.put(published)
            self._wake()

    def _pause(self, error: SyncdError) -> float:
        status = error.status if isinstance(error, HttpStatusError) else 0
        passing = isinstance(error, (UnreachableError, CutShortError))
        if isinstance(error, SourceError) and (passing or status >= _SERVER_ERROR or status == _TOO_MANY):
            return backoff(error, self._failures, self._retry, self._rng())
        return vary(TRY_AGAIN, JITTER, self._rng())


def read_published(event: ServerSentEvent) -> tuple[ListName, int] | None:
    """List and version that an event tells of; None where it tells of something else, or of nothing that can be."""
    if event.kind != PUBLISHED:
        return None
    try:
        told = json.loads(event.data)
        name, version = told["list"], told["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    if not isinstance(name, str) or not LIST_NAME.fullmatch(name) or type(version) is not int or version < 1:
        return None
    return ListName(name), version
