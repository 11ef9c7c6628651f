"""One application for all routes of a server: frequent requests as plain ASGI, the rest by an API that reads bodies."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.event import Emit
from syncd.service.metrics.traffic import Traffic
from syncd.service.web.answers import document, header
from syncd.service.web.boundary import CLOSE, Boundary
from syncd.service.web.events import PATH as EVENTS
from syncd.service.web.events import Streams
from syncd.service.web.feed import PREFIX as FEED
from syncd.service.web.feed import FeedRoutes
from syncd.service.web.limits import MAX_BODY, Limits

_TOO_LONG: Final = document(413, f"more than {MAX_BODY} bytes", "send less", CLOSE)
_TOO_SLOW: Final = document(408, "the request did not arrive in time", "send it at once", CLOSE)
HEALTH: Final = "/healthz"


class Dispatch:
    """Passes each request to the feed's files, to the event streams, or to ``api``; counts it."""

    def __init__(
        self,
        *,
        feed: FeedRoutes,
        streams: Streams,
        api: ASGIApp,
        traffic: Traffic,
        limits: Limits,
        emit: Emit,
    ) -> None:
        self.feed, self.streams, self.traffic = feed, streams, traffic
        self._api, self._limits = api, limits
        self._boundary = Boundary(self._answer, emit, always=HEALTH)

    def close(self) -> None:
        """End every stream, because the server stops."""
        self.streams.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._boundary(scope, receive, self.traffic.counted(scope["path"], send))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(FEED):
            await self.feed(scope, receive, send)
        elif path == EVENTS:
            await self.streams(scope, receive, send)
        else:
            await self._with_body(scope, receive, send)

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        await self._api(scope, _replay(body, receive), send)


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
