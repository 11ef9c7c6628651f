"""The API beside a feed, as a matcher uses it: events as they happen, and check-ins with the loaded versions.

The rules of every fetch apply (`HttpPeer`): redirects are not followed, and every wait is bounded.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from syncd.errors import DeadlineExceeded, SourceError
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.event_stream import EventParser, ServerSentEvent
from syncd.fetch.http import OK, HttpPeer
from syncd.fetch.peer import UnreachableError
from syncd.model import ListName

SILENCE: Final = 45.0
"""Seconds without a complete line after which a stream counts as dead; the server sends a beat every 15."""
EVENTS: Final = "events"
CHECK_IN: Final = "checkin"

_EVENT_STREAM: Final = "text/event-stream"
_NO_EVENTS: Final = "to get events, pull from the /feed/ of a syncd daemon; until then the feed is polled"
_NO_CONTENT: Final = 204
_SENDABLE_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


class NoEventsError(SourceError):
    """The answer is not an event stream, and will not soon be one."""


class EventPeer(HttpPeer):
    """One connection to an event stream. Each complete line renews the `Deadline` ``silence``."""

    def __init__(self, endpoint: Endpoint, silence: Deadline) -> None:
        super().__init__(endpoint, silence, connections=1, inactivity=SILENCE)
        self.parser = EventParser()

    def events(self, last_id: str, connected: Callable[[], None]) -> Iterator[ServerSentEvent]:
        """Yield events as they come until the server ends the stream, after ``last_id`` if the server knows it.

        ``connected`` is called once the stream is open. Raises `NoEventsError` if the answer is not an event stream,
        otherwise as `HttpPeer.stream`; silence is an `UnreachableError`.
        """
        headers = {"Accept": _EVENT_STREAM, "Cache-Control": "no-store"}
        if _SENDABLE_ID.fullmatch(last_id):
            headers["Last-Event-ID"] = last_id
        with self._no_silence(), self._answer(EVENTS, headers=headers) as response:
            self._require(response, EVENTS, OK)
            if response.headers.get("content-type", "").partition(";")[0].strip().lower() != _EVENT_STREAM:
                raise NoEventsError(
                    f"{self._endpoint.host} did not answer {EVENTS} with an event stream", hint=_NO_EVENTS
                )
            connected()
            for chunk in self._chunks(response, EVENTS):
                before = self.parser.lines
                yield from self.parser.feed(chunk)
                if self.parser.lines != before:
                    self._deadline.renew()

    @contextlib.contextmanager
    def _no_silence(self) -> Iterator[None]:
        try:
            yield
        except DeadlineExceeded as error:
            raise UnreachableError(f"{self._endpoint.host} stopped responding at {EVENTS}", hint=error.hint) from error


def check_in(endpoint: Endpoint, instance: str, lists: Mapping[ListName, int], deadline: Deadline) -> None:
    """Report to the API at ``endpoint`` which version of each list ``instance`` has loaded. Raises `SourceError`."""
    content = json.dumps({"instance": instance, "lists": dict(lists)}).encode()
    with _CheckInPeer(endpoint, deadline, connections=1, inactivity=10.0) as peer:
        peer.send(content)


class _CheckInPeer(HttpPeer):
    def send(self, content: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        with self._answer(CHECK_IN, "POST", headers, content) as response:
            self._require(response, CHECK_IN, _NO_CONTENT)
