"""The application: what is asked for all the time first, raw; then FastAPI with the rest."""

import asyncio
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from syncd import events
from syncd.service.metrics.scrape import Metrics
from syncd.service.metrics.scrape import routes as metrics_routes
from syncd.service.metrics.state import StateSample
from syncd.service.web import api
from syncd.service.web.answers import document, header, plain
from syncd.service.web.connection import KEY
from syncd.service.web.context import Context
from syncd.service.web.dashboard import Dashboard
from syncd.service.web.events import PATH as EVENTS
from syncd.service.web.events import Streams
from syncd.service.web.feed import PREFIX as FEED
from syncd.service.web.feed import FeedRoutes
from syncd.service.web.limits import MAX_BODY

_CLOSE: Final = (b"connection", b"close")
_FULL: Final = document(503, "too many connections", "ask again later", (b"retry-after", b"5"), _CLOSE)
_TOO_LONG: Final = document(413, f"more than {MAX_BODY} bytes", "send less", _CLOSE)
_TOO_SLOW: Final = document(408, "the request did not come in time", "send it at once", _CLOSE)
_BUG: Final = document(500, "internal error", "see the daemon's log", _CLOSE)
_ALIVE: Final = plain(200, "ok")
HEALTH: Final = "/healthz"


class App:
    """The whole of the HTTP side, as an ASGI application."""

    def __init__(self, context: Context) -> None:
        self._context = context
        limits = context.limits
        self.feed = FeedRoutes(context.publisher.folder.feed.root, context.access, context.pulls, limits.look)
        self.streams = Streams(context.news, context.access, limits)
        self.metrics = make_metrics(context)
        self.dashboard = Dashboard(context)
        self.api = api.build(context, [*metrics_routes(self.metrics, context.access), *self.dashboard.routes()])

    def close(self) -> None:
        """The server stops: end every stream."""
        self.streams.close()
        self.dashboard.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        send = self.metrics.traffic.counted(scope["path"], send)
        sent = _Started(send)
        try:
            await self._answer(scope, receive, sent)
        except Exception as error:  # noqa: BLE001 - its words may hold what the lists hold
            self._context.emit(events.InternalError.of(error, "http request"))
            connection = scope.get(KEY)
            if not sent.started:
                await _BUG(send)
            elif connection is not None and not sent.ended:
                connection.abort()

    async def _answer(self, scope: Scope, receive: Receive, send: "_Started") -> None:
        path: str = scope["path"]
        connection = scope.get(KEY)
        if connection is not None and connection.full and path != HEALTH:
            await _FULL(send)
        elif path.startswith(FEED):
            await self.feed(scope, receive, send)
        elif path == EVENTS:
            await self.streams(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        """With a body that is there, and not too long."""
        try:
            async with asyncio.timeout(self._context.limits.head_within):
                body = await _body(scope, receive)
        except TimeoutError:
            await _TOO_SLOW(send)
            return
        if body is None:
            await _TOO_LONG(send)
            return
        await self.api(scope, _replay(body, receive), send)


def make_metrics(context: Context) -> Metrics:
    """Return the metrics of the daemon behind ``context``."""
    return Metrics(
        context.publisher.folder,
        context.config,
        lambda: StateSample(context.overview(), tuple(context.health.faults)),
        context.emit,
    )


class _Started:
    """Sends, and knows how far it is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.ended = False

    async def __call__(self, message: Message) -> None:
        self.started = True
        await self._send(message)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None where it is too long."""
    stated = header(scope, b"content-length")
    if stated.isdigit() and int(stated) > MAX_BODY:
        return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    left: list[Message] = [{"type": "http.request", "body": body}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
