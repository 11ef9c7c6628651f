"""The API beside a feed, as matchers and mirrors use it: events as they happen, check-ins, and the tokens in force.

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
from syncd.fetch.peer import UnreachableError, too_large
from syncd.model import ListName

SILENCE: Final = 45.0
"""Seconds without a complete line after which a stream counts as dead; the server sends a beat every 15."""
EVENTS: Final = "events"
CHECK_IN: Final = "checkin"
ACCESS: Final = "mirror/access"
CHECK_INS: Final = "mirror/checkins"
MAX_ACCESS: Final = 64 << 20
"""Largest document of the tokens in force, in bytes."""

_EVENT_STREAM: Final = "text/event-stream"
_NO_EVENTS: Final = "to get events, pull from the /feed/ of a syncd daemon; until then the feed is polled"
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
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
    with _ApiPeer(endpoint, deadline, connections=1, inactivity=10.0) as peer:
        peer.send(CHECK_IN, content, _NO_CONTENT)


def pass_check_ins(endpoint: Endpoint, content: bytes, deadline: Deadline) -> None:
    """Send a batch of check-ins, as a document of the API, for matchers of this mirror. Raises `SourceError`."""
    with _ApiPeer(endpoint, deadline, connections=1, inactivity=10.0) as peer:
        peer.send(CHECK_INS, content, OK)


def fetch_access(endpoint: Endpoint, tag: str, deadline: Deadline) -> tuple[bytes, str] | None:
    """Return the document of the tokens in force, and its entity tag; None if ``tag`` still identifies it.

    Raises `SourceError`, as `HttpStatusError` if this is not a mirror's token.
    """
    with _ApiPeer(endpoint, deadline, connections=1, inactivity=10.0) as peer:
        return peer.access(tag)


class _ApiPeer(HttpPeer):
    def send(self, path: str, content: bytes, status: int) -> None:
        with self._answer(path, "POST", {"Content-Type": "application/json"}, content) as response:
            self._require(response, path, status)

    def access(self, tag: str) -> tuple[bytes, str] | None:
        with self._answer(ACCESS, headers={"If-None-Match": tag} if tag else {}) as response:
            if tag and response.status_code == _NOT_MODIFIED:
                return None
            self._require(response, ACCESS, OK)
            content = bytearray()
            for chunk in self._chunks(response, ACCESS):
                content += chunk
                if len(content) > MAX_ACCESS:
                    raise too_large(ACCESS, MAX_ACCESS)
            return bytes(content), response.headers.get("etag", "")
