"""One connection, with limits that uvicorn lacks: clients that send or take nothing are dropped.

uvicorn waits forever for the head of a request and for a client to take its answer; closing such a connection would
keep the rest of the answer in memory. So the server checks each connection once a second (`Connection.look`) and
aborts it if necessary. This uses private parts of uvicorn: docs/adr/0013-the-http-side.md.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from syncd.service.web.limits import Limits

MAX_HEAD: Final = 32 << 10
"""Largest request line with headers, in bytes."""
MAX_WAITING: Final = 16
"""Most requests that a client may send before their answers; a waiting request takes many times its size in memory."""
_BETWEEN: Final = 4
"""Bytes of a header line that belong neither to the name nor to the value."""
KEY: Final = "syncd"
"""The key of a request's scope under which its `Connection` is."""


class _TooMuchError(Exception):
    """Stops parsing. uvicorn treats it as a malformed request."""


class Connection(HttpToolsProtocol):
    """``full``: it is over the limit, and gets 503. For the server's thread only."""

    def __init__(
        self, config: uvicorn.Config, state: ServerState, limits: Limits, on_lost: Callable[[], None], *, full: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(config, state, {}, loop)
        self.full = full
        self.began = self.gone = False
        self.wake: Callable[[], None] | None = None
        """called when the client has disconnected"""
        self._limits, self._on_lost = limits, on_lost
        self._patience = limits.take_within
        # Bytes of the current head: those parsed, and those the parser holds because a header is incomplete.
        self._in_head, self._head, self._unread = False, 0, 0
        # Since when we wait for a request; None while one is being answered.
        self._waiting_since: float | None = loop.time()
        self._left, self._moved = 0, 0.0
        self._ahead: list[RequestResponseCycle] = []  # requests in progress with others waiting behind them

    def as_stream(self) -> None:
        """Treat the answer as a stream: buffer nothing, and drop a client that takes nothing sooner."""
        self._patience = self._limits.stream_take_within
        self.transport.set_write_buffer_limits(high=0)

    def look(self, now: float) -> None:
        """Abort if the client has sent no complete request, or taken none of the answer, for too long."""
        left = self.transport.get_write_buffer_size()
        if left < self._left or not self._left:  # the client took some, or the answer has only just begun
            self._moved = now
        self._left = left
        stuck = left and now - self._moved > self._patience
        if stuck or (self._waiting_since is not None and now - self._waiting_since > self._limits.head_within):
            self.abort()

    def abort(self) -> None:
        """Close the connection at once, and discard data that the client has not taken."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """Start the time limit for the first request."""
        super().connection_made(transport)
        self.began = True
        self._waiting_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify everything that waits for this client."""
        self.gone = True
        super().connection_lost(exc)
        for cycle in self._ahead:  # uvicorn notifies only the last request
            cycle.disconnected = True
            cycle.message_event.set()
        self._on_lost()
        if self.wake:
            self.wake()

    def data_received(self, data: bytes) -> None:
        """Start the time limit for the rest of a request at its first byte."""
        if self._waiting_since is None and self.cycle.response_complete:
            self._waiting_since = self.loop.time()
        within = self._in_head
        super().data_received(data)
        if within and self._in_head:  # the parser holds an incomplete header until the rest arrives
            self._unread += len(data)
            if self._unread > MAX_HEAD:
                self.abort()

    def on_message_begin(self) -> None:
        """Reset the counters of the head, because a request begins."""
        super().on_message_begin()
        self._in_head, self._head, self._unread = True, 0, 0
        cast(dict[str, Any], self.scope)[KEY] = self

    def on_url(self, url: bytes) -> None:
        """Count a piece of the URL."""
        self._head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._head += len(name) + len(value) + _BETWEEN
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start answering. Abort the connection if the head is too long or too many requests wait."""
        self._in_head, self._waiting_since = False, None
        if self._head > MAX_HEAD or len(self.pipeline) >= MAX_WAITING:
            self.abort()
            raise _TooMuchError
        before = cast("RequestResponseCycle | None", self.cycle)
        super().on_headers_complete()
        if before is not None and not before.response_complete:
            self._ahead = [*(cycle for cycle in self._ahead if not cycle.response_complete), before]

    def resume_writing(self) -> None:
        """Note that the client has taken data."""
        self._moved = self.loop.time()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; abort it if the client has not taken the last answer."""
        if self.transport.get_write_buffer_size():
            self.abort()
        super().timeout_keep_alive_handler()
