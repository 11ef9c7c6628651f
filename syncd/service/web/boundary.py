"""The outermost application of a server: refuses connections over the limit, and keeps bugs from clients and logs."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd import events
from syncd.event import Emit
from syncd.service.web.answers import document
from syncd.service.web.connection import KEY

CLOSE: Final = (b"connection", b"close")
_FULL: Final = document(503, "too many connections", "ask again later", (b"retry-after", b"5"), CLOSE)
_BUG: Final = document(500, "internal error", "see the server's log", CLOSE)


class Boundary:
    """Passes requests on to ``app``.

    ``always``: the path that is answered even on a connection over the limit.
    """

    def __init__(self, app: ASGIApp, emit: Emit, always: str | None = None) -> None:
        self._app, self._emit, self._always = app, emit, always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. If the answer fails half-way, the connection is aborted, so that clients notice."""
        connection = scope.get(KEY)
        if connection is not None and connection.full and scope["path"] != self._always:
            await _FULL(send)
            return
        progress = _Progress(send)
        try:
            await self._app(scope, receive, progress)
        except Exception as error:  # noqa: BLE001 - its message may quote what the lists hold
            self._emit(events.InternalError.of(error, "http request"))
            if not progress.started:
                await _BUG(send)
            elif connection is not None and not progress.ended:
                connection.abort()


class _Progress:
    """Sends, and notes whether an answer has started and ended."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = self.ended = False

    async def __call__(self, message: Message) -> None:
        self.started = True
        await self._send(message)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")
