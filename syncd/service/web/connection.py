"""One connection of the HTTP side, with what uvicorn's lacks: an end to clients that send or take nothing.

uvicorn waits for ever for a request's head, and for a client to take its answer; closing such a connection would keep
what is not taken for ever too. Here the server looks at each connection once a second (`Connection.look`), and aborts.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from syncd.service.web.limits import Limits

MAX_HEAD: Final = 32 << 10
"""Bytes of a request's line and headers, at most."""
MAX_WAITING: Final = 16
"""Requests that a client may send ahead of their answers; each costs many times its bytes while it waits."""
_BETWEEN: Final = 4
"""Bytes of a header's line that are neither name nor value."""
KEY: Final = "syncd"
"""Where a request's scope holds its `Connection`."""


class _TooMuchError(Exception):
    """Ends the reading of what has come already; uvicorn takes it for a request that is none."""


class Connection(HttpToolsProtocol):
    """``full``: one too many, to be told so. Its methods are for the server's thread only."""

    def __init__(
        self, config: uvicorn.Config, state: ServerState, limits: Limits, on_lost: Callable[[], None], *, full: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(config, state, {}, loop)
        self.full = full
        self.began = self.gone = False
        self.wake: Callable[[], None] | None = None
        """called when the client has gone"""
        self._limits, self._on_lost = limits, on_lost
        self._patience = limits.take_within
        self._in_head, self._head, self._unread = False, 0, 0  # bytes of the head, and those that may be half a header
        self._asked_since: float | None = loop.time()  # since when a request should come; None: one is answered
        self._left, self._moved = 0, 0.0
        self._ahead: list[RequestResponseCycle] = []  # requests that have others waiting behind them

    def as_stream(self) -> None:
        """From now on nothing is sent before all that was sent is taken, and less patience is had."""
        self._patience = self._limits.stream_take_within
        self.transport.set_write_buffer_limits(high=0)

    def look(self, now: float) -> None:
        """Abort where the client has sent no request, or taken nothing, for too long."""
        left = self.transport.get_write_buffer_size()
        if left < self._left or not self._left:  # some of it was taken, or it has only begun
            self._moved = now
        self._left = left
        stuck = left and now - self._moved > self._patience
        if stuck or (self._asked_since is not None and now - self._asked_since > self._limits.head_within):
            self.abort()

    def abort(self) -> None:
        """End it at once, and forget what was not taken."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        """The time for the first request runs."""
        super().connection_made(transport)
        self.began = True
        self._asked_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for it."""
        self.gone = True
        super().connection_lost(exc)
        for one in self._ahead:  # uvicorn tells the last request alone
            one.disconnected = True
            one.message_event.set()
        self._on_lost()
        if self.wake:
            self.wake()

    def data_received(self, data: bytes) -> None:
        """The time for the rest of a request runs from its first byte."""
        if self._asked_since is None and self.cycle.response_complete:
            self._asked_since = self.loop.time()
        within = self._in_head
        super().data_received(data)
        if within and self._in_head:  # the parser keeps half a header to itself until the rest has come
            self._unread += len(data)
            if self._unread > MAX_HEAD:
                self.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head, self._unread = True, 0, 0
        cast(dict[str, Any], self.scope)[KEY] = self

    def on_url(self, url: bytes) -> None:
        """Some of the address has come."""
        self._head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header has come."""
        self._head += len(name) + len(value) + _BETWEEN
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """It is answered from now on. A head too long, or one that waits behind too many others, ends them all."""
        self._in_head, self._asked_since = False, None
        if self._head > MAX_HEAD or len(self.pipeline) >= MAX_WAITING:
            self.abort()
            raise _TooMuchError
        before = cast("RequestResponseCycle | None", self.cycle)
        super().on_headers_complete()
        if before is not None and not before.response_complete:
            self._ahead = [*(one for one in self._ahead if not one.response_complete), before]

    def resume_writing(self) -> None:
        """The client has taken something."""
        self._moved = self.loop.time()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """An idle client is let go; one that does not take its last answer, at once."""
        if self.transport.get_write_buffer_size():
            self.abort()
        super().timeout_keep_alive_handler()
