"""The daemon's application: frequent requests first, as plain ASGI; FastAPI for the rest."""

import asyncio
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from syncd.service.metrics.scrape import Metrics
from syncd.service.metrics.scrape import routes as metrics_routes
from syncd.service.metrics.state import StateSample
from syncd.service.web import api
from syncd.service.web.answers import document, header
from syncd.service.web.boundary import CLOSE, Boundary
from syncd.service.web.context import Context
from syncd.service.web.dashboard import Dashboard
from syncd.service.web.events import PATH as EVENTS
from syncd.service.web.events import Streams
from syncd.service.web.feed import PREFIX as FEED
from syncd.service.web.feed import FeedRoutes
from syncd.service.web.limits import MAX_BODY

_TOO_LONG: Final = document(413, f"more than {MAX_BODY} bytes", "send less", CLOSE)
_TOO_SLOW: Final = document(408, "the request did not arrive in time", "send it at once", CLOSE)
HEALTH: Final = "/healthz"


class App:
    """All HTTP routes of the daemon, as one ASGI application."""

    def __init__(self, context: Context) -> None:
        self._limits = context.limits
        self.feed = FeedRoutes(context.folder.feed, context.admission, context.pulls.note, context.limits.look)
        self.streams = Streams(context.news, context.access, context.admission, context.limits)
        self.metrics = make_metrics(context)
        self.dashboard = Dashboard(context)
        self.api = api.build(context, [*metrics_routes(self.metrics, context.admission), *self.dashboard.routes()])
        self._boundary = Boundary(self._answer, context.emit, always=HEALTH)

    def close(self) -> None:
        """End every stream, because the server stops."""
        self.streams.close()
        self.dashboard.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._boundary(scope, receive, self.metrics.traffic.counted(scope["path"], send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(FEED):
            await self.feed(scope, receive, send)
        elif path == EVENTS:
            await self.streams(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the API once the whole body has arrived, if it is not too long."""
        try:
            async with asyncio.timeout(self._limits.head_within):
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
        context.folder,
        context.config,
        lambda: StateSample(context.overview(), tuple(context.health.faults)),
        context.emit,
    )


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """Read the body; None if it is longer than `MAX_BODY`."""
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
    pending: list[Message] = [{"type": "http.request", "body": body}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
