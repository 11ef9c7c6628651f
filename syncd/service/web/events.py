"""The stream of publications: server-sent events (WHATWG HTML, 9.2) as plain ASGI, for a thousand matchers at once.

All streams of the same scope send the same bytes object; a publication wakes each stream once. A matcher needs only the
newest version of a list, so a slow reader gets the newest one next, and nothing queues up.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from syncd.model import ListName
from syncd.service.access import READERS, Access, Kind, Visitor
from syncd.service.admission import Admission, TokenRefusal
from syncd.service.news import Announcements, Item, wake
from syncd.service.web.answers import document, header, too_many_tokens
from syncd.service.web.connection import KEY, Connection
from syncd.service.web.limits import Limits

PATH: Final = "/api/v1/events"

UNAUTHORISED: Final = document(
    401, "no token, or an invalid one", "send the header Authorization: Bearer TOKEN", (b"www-authenticate", b"Bearer")
)
_FORBIDDEN: Final = document(
    403, "this is not a matcher's or mirror's token", "make one with `syncd matchers add NAME`"
)
_NOT_ALLOWED: Final = document(405, "method not allowed", "use GET", (b"allow", b"GET"))
_FULL: Final = document(503, "too many streams", "try again later, or poll timestamp.json", (b"retry-after", b"10"))
_TOO_MANY: Final = document(
    429,
    "this token has too many streams open",
    "give each service a token of its own (`syncd matchers add NAME`), or raise max_streams: one token may use half",
    (b"retry-after", b"10"),
)
_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_RETRY: Final = b"retry: 2000\n\n"
_BEAT: Final = b": beat\n\n"
_ACCESS: Final = b"event: access\ndata: {}\n\n"
"""Tells a mirror that tokens or scopes may have changed."""
_BEAT_GROUPS: Final = 16
"""Heartbeats are spread over time: each stream belongs to one of these groups."""
_MAX_ENCODED: Final = 1024
"""Most prepared answers kept at a time: a reader may claim any event as its last one."""
_ID: Final = re.compile(r"([^-]+)-([0-9]{1,18})")

_Lists = frozenset[ListName] | None


class Streams:
    """All open streams. For the server's thread only; publications wake it from others."""

    def __init__(self, news: Announcements, access: Access, admission: Admission, limits: Limits) -> None:
        self._news, self._access, self._admission, self._limits = news, access, admission, limits
        self._open: set[_EventStream] = set()
        self._of_token: Counter[bytes] = Counter()
        self._encoded: dict[tuple[int, _Lists], tuple[int, bytes]] = {}
        self._begun = self._closed = False
        self._group = 0
        self._end: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """The number of open streams."""
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        visitor = self._admission.admit(scope, PATH)
        if isinstance(visitor, TokenRefusal):
            await (too_many_tokens(visitor.wait) if visitor.wait else UNAUTHORISED)(send)
        elif scope["method"] != "GET":
            await _NOT_ALLOWED(send)
        elif visitor.kind not in READERS:
            await _FORBIDDEN(send)
        elif len(self._open) >= self._limits.streams or self._closed:
            await _FULL(send)
        elif self._of_token[visitor.key] >= self._limits.streams_of_token:
            await _TOO_MANY(send)
        else:
            self._begin()
            await self._run(visitor, self._known(header(scope, b"last-event-id")), scope, send)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._end()
        self._wake()

    def _begin(self) -> None:
        """Subscribe to publications. Done for the first stream, because there is no event loop before."""
        if not self._begun:
            self._begun = True
            loop = asyncio.get_running_loop()
            self._end = self._news.listen(lambda: wake(loop, self._published))
            self._access.on_change(lambda: wake(loop, self._access_changed))
            self._beat(loop)

    async def _run(self, visitor: Visitor, number: int, scope: Scope, send: Send) -> None:
        stream = _EventStream(number, len(self._open) % _BEAT_GROUPS)
        connection: Connection | None = scope.get(KEY)
        if connection is not None:
            connection.as_stream()
            connection.wake = stream.wake
        self._open.add(stream)
        self._of_token[visitor.key] += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
            while not (self._closed or (connection and connection.gone)) and self._access.is_in_force(visitor):
                await self._step(stream, visitor, send)
            await send({"type": "http.response.body"})
        finally:
            self._open.discard(stream)
            self._of_token[visitor.key] -= 1
            if not self._of_token[visitor.key]:
                del self._of_token[visitor.key]

    async def _step(self, stream: "_EventStream", visitor: Visitor, send: Send) -> None:
        stream.number, content = self._since(stream.number, visitor.lists)
        if stream.access_changed:
            stream.access_changed = False
            content += _ACCESS if visitor.kind is Kind.MIRROR else b""
        if not content and stream.beat:
            content = _BEAT
        if not content:
            await stream.wait()
            return
        stream.beat = False
        await send({"type": "http.response.body", "body": content, "more_body": True})

    def _since(self, number: int, lists: _Lists) -> tuple[int, bytes]:
        """Return the newest number, and the events up to it for a reader of ``lists`` whose last one is ``number``."""
        if number == self._news.number:
            return number, b""
        encoded = self._encoded.get((number, lists))
        if encoded is None:
            items = self._news.since(number)
            content = b"".join(self._event(item) for item in items if lists is None or item.list in lists)
            encoded = items[-1].number if items else number, content
            if len(self._encoded) < _MAX_ENCODED:
                self._encoded[number, lists] = encoded
        return encoded

    def _event(self, item: Item) -> bytes:
        data = json.dumps({"list": item.list, "version": item.version}, separators=(",", ":"))
        return f"id: {self._news.epoch}-{item.number}\nevent: published\ndata: {data}\n\n".encode()

    def _known(self, last: bytes) -> int:
        """Return the number of the last event that a reader has received; 0 if it needs all lists."""
        match = _ID.fullmatch(last.decode("latin-1"))
        if match is None or match[1] != self._news.epoch or int(match[2]) > self._news.number:
            return 0
        return int(match[2])

    def _published(self) -> None:
        self._encoded.clear()
        self._wake()

    def _access_changed(self) -> None:
        for stream in self._open:
            stream.access_changed = True
        self._wake()

    def _wake(self) -> None:
        for stream in self._open:
            stream.wake()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._group = (self._group + 1) % _BEAT_GROUPS
        for stream in self._open:
            if stream.group == self._group:
                stream.beat = True
                stream.wake()
        if not self._closed:
            loop.call_later(self._limits.beat / _BEAT_GROUPS, self._beat, loop)


class _EventStream:
    """One reader: the number of its last event, and its heartbeat group."""

    def __init__(self, number: int, group: int) -> None:
        self.number, self.group = number, group
        self.beat = self.access_changed = False
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake the stream, because there may be something to send."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Wait for `wake`; return at once if it was called since the last wait."""
        if not self._woken:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        self._woken = False
