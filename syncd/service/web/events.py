"""The stream of news: server-sent events (WHATWG HTML, 9.2), raw ASGI, for a thousand readers at once.

All streams of the same scope are sent the same bytes object; a publication wakes each stream once. Only the newest
version of a list is owed, so a reader that was slow is sent the newest, and nothing ever queues up.
"""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Final

from starlette.types import Receive, Scope, Send

from syncd.model import ListName
from syncd.service.access import Access, Kind, Visitor
from syncd.service.news import Announcements, Item, wake
from syncd.service.web.answers import document, header
from syncd.service.web.connection import KEY, Connection
from syncd.service.web.limits import Limits

PATH: Final = "/api/v1/events"

UNAUTHORISED: Final = document(
    401, "no token, or one that is not in force", "send Authorization: Bearer TOKEN", (b"www-authenticate", b"Bearer")
)
_FORBIDDEN: Final = document(403, "this token is not a matcher's", "make one with `syncd matchers add NAME`")
_NOT_ALLOWED: Final = document(405, "method not allowed", "ask with GET", (b"allow", b"GET"))
_FULL: Final = document(503, "too many streams", "ask again later, or poll", (b"retry-after", b"10"))
_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_RETRY: Final = b"retry: 2000\n\n"
_BEAT: Final = b": beat\n\n"
_TURNS: Final = 16
"""Beats are spread: each stream has its turn."""
_MAX_ENCODED: Final = 1024
"""Contents kept at a time: a reader may claim to have seen any number there ever was."""
_ID: Final = re.compile(r"([^-]+)-([0-9]{1,18})")

_Lists = frozenset[ListName] | None


class Streams:
    """All open streams. For the server's thread, but for what it is woken by."""

    def __init__(self, news: Announcements, access: Access, limits: Limits) -> None:
        self._news, self._access, self._limits = news, access, limits
        self._open: set[_EventStream] = set()
        self._encoded: dict[tuple[int, _Lists], tuple[int, bytes]] = {}
        self._begun = self._closed = False
        self._turn = 0
        self._end: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del receive
        visitor = self._access.admit(header(scope, b"authorization"))
        if visitor is None:
            await UNAUTHORISED(send)
        elif scope["method"] != "GET":
            await _NOT_ALLOWED(send)
        elif visitor.kind is not Kind.MATCHER:
            await _FORBIDDEN(send)
        elif len(self._open) >= self._limits.streams or self._closed:
            await _FULL(send)
        else:
            self._begin()
            await self._run(visitor, self._known(header(scope, b"last-event-id")), scope, send)

    def close(self) -> None:
        """End all of them."""
        self._closed = True
        self._end()
        self._wake()

    def _begin(self) -> None:
        """With the first stream, since there is no loop before."""
        if not self._begun:
            self._begun = True
            loop = asyncio.get_running_loop()
            self._end = self._news.listen(lambda: wake(loop, self._published))
            self._access.on_change(lambda: wake(loop, self._wake))
            self._beat(loop)

    async def _run(self, visitor: Visitor, number: int, scope: Scope, send: Send) -> None:
        stream = _EventStream(number, len(self._open) % _TURNS)
        connection: Connection | None = scope.get(KEY)
        if connection is not None:
            connection.as_stream()
            connection.wake = stream.wake
        self._open.add(stream)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _RETRY, "more_body": True})
            while not (self._closed or (connection and connection.gone)) and self._access.is_in_force(visitor):
                await self._step(stream, visitor.lists, send)
            await send({"type": "http.response.body"})
        finally:
            self._open.discard(stream)

    async def _step(self, stream: "_EventStream", lists: _Lists, send: Send) -> None:
        stream.number, content = self._since(stream.number, lists)
        if not content and stream.beat:
            content = _BEAT
        if not content:
            await stream.wait()
            return
        stream.beat = False
        await send({"type": "http.response.body", "body": content, "more_body": True})

    def _since(self, number: int, lists: _Lists) -> tuple[int, bytes]:
        """What a reader of ``lists`` is owed that has seen ``number``, and the number it has seen then."""
        if number == self._news.number:
            return number, b""
        found = self._encoded.get((number, lists))
        if found is None:
            items = self._news.since(number)
            content = b"".join(self._event(one) for one in items if lists is None or one.list in lists)
            found = items[-1].number if items else number, content
            if len(self._encoded) < _MAX_ENCODED:
                self._encoded[number, lists] = found
        return found

    def _event(self, item: Item) -> bytes:
        data = json.dumps({"list": item.list, "version": item.version}, separators=(",", ":"))
        return f"id: {self._news.epoch}-{item.number}\nevent: published\ndata: {data}\n\n".encode()

    def _known(self, last: bytes) -> int:
        """The number that a reader has seen; 0: it is told everything."""
        found = _ID.fullmatch(last.decode("latin-1"))
        if found is None or found[1] != self._news.epoch or int(found[2]) > self._news.number:
            return 0
        return int(found[2])

    def _published(self) -> None:
        self._encoded.clear()
        self._wake()

    def _wake(self) -> None:
        for stream in self._open:
            stream.wake()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn = (self._turn + 1) % _TURNS
        for stream in self._open:
            if stream.turn == self._turn:
                stream.beat = True
                stream.wake()
        if not self._closed:
            loop.call_later(self._limits.beat / _TURNS, self._beat, loop)


class _EventStream:
    """One reader: what it has seen, and what it waits for."""

    def __init__(self, number: int, turn: int) -> None:
        self.number, self.turn = number, turn
        self.beat = False
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """There may be something to do."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until woken, also where that was since the last time."""
        if not self._woken:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        self._woken = False
