"""The HTTP server of the daemon and of `syncd feed serve`: uvicorn, with uvloop and httptools, in its own thread.

It relies on private parts of uvicorn, whose version is pinned for that reason: docs/adr/0013-the-http-side.md.
"""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp

from syncd import events
from syncd.errors import ConfigError
from syncd.event import Emit
from syncd.files import make_folder, storage
from syncd.listen import Address, listening
from syncd.service.control import remove_stale_socket
from syncd.service.web.connection import Connection
from syncd.service.web.limits import Limits

_AT_ONCE: Final = 64
"""Connections accepted in one go, before other work gets its turn."""
_OTHER_FILES: Final = 256
"""Open files that the rest of the process needs."""
_FULL_EVERY: Final = 60.0
"""Seconds between two reports that the server is full."""
_ACKNOWLEDGE_WITHIN: Final = 30_000
"""Milliseconds (TCP_USER_TIMEOUT, tcp(7))."""
_SOCKET_MODE: Final = 0o666
"""Like a local port: tokens decide who is admitted, and the folder's mode can keep other users out."""
_CLOSE_WITHIN: Final = 1.0
"""Seconds for aborted answers to close their files."""
_OUT_OF_FILES: Final = 0.5
"""Seconds without accepting, after the system had no file left for a connection."""


class WebServer:
    """Serves ``app`` from `start` to `stop`. ``stopping`` is called in the server's thread when it begins to stop.

    ``setting``: the configuration key or option that gave the address, for error messages.
    """

    def __init__(
        self,
        app: ASGIApp,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        limits: Limits,
        emit: Emit,
        stopping: Callable[[], None] = lambda: None,
        setting: str = "serve.listen",
    ) -> None:
        self._setting = setting
        self._address, self._tls, self._limits, self._emit = address, tls, limits, emit
        self._stack = contextlib.ExitStack()
        self._server = _Uvicorn(
            _settings(app, limits), tls=tls, limits=limits, on_full=self._full, on_fault=self._fault, stopping=stopping
        )
        self._thread: threading.Thread | None = None
        self._reported_full: float | None = None
        self.address = address

    @property
    def url(self) -> str:
        """The URL of the address it listens on."""
        return self.address.url(tls=self._tls is not None)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._server.open

    @property
    def running(self) -> bool:
        """True from `start` until the server has ended, also if a bug ended it."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Listen and answer. Raises `StoreError`, `RefusedError`, `ConfigError`."""
        allow_files(_files_for(self._limits))
        listener = self._stack.enter_context(_listener(self._address, self._setting))
        if self._address.path is None:
            host, port = listener.getsockname()[:2]
            self.address = Address(host, port)
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="syncd-web", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        self._emit(events.HttpListening(self.url))

    def tell_to_stop(self) -> None:
        """Accept no more connections, and end streams and idle connections; `stop` waits for the rest."""
        self._server.should_exit = True

    def stop(self, seconds: float) -> bool:
        """Stop, and return True if the server ended within ``seconds``."""
        self.tell_to_stop()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        self._stack.close()
        return not self._thread.is_alive()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        except Exception as error:  # noqa: BLE001 - the process goes on; its watchdog sees that nothing answers
            self._fault(error)
        finally:
            self._server.ready.set()

    def _fault(self, error: BaseException) -> None:
        self._emit(events.InternalError.of(error, "http server"))

    def _full(self) -> None:
        now = time.monotonic()
        if self._reported_full is None or now - self._reported_full > _FULL_EVERY:
            self._reported_full = now
            self._emit(events.ConnectionsFull(self._limits.connections))


class _Uvicorn(uvicorn.Server):
    """Accepts connections itself, so that one over the limit is closed before it costs anything, such as TLS."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        tls: ssl.SSLContext | None,
        limits: Limits,
        on_full: Callable[[], None],
        on_fault: Callable[[BaseException], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._tls, self._limits = tls, limits
        self._on_full, self._on_fault, self._stopping = on_full, on_fault, stopping
        self.ready = threading.Event()
        self.open = 0
        self._opening: set[asyncio.Task[Any]] = set()  # the event loop itself holds tasks weakly

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await self.lifespan.startup()
        self.servers = []
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unhandled)
        for listener in sockets or []:
            self._loop.add_reader(listener, self._accept, listener)
        self._loop.call_later(self._limits.look, self._check_connections)
        self.started = True
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting and end streams; let answers in progress finish for a while, then abort them."""
        for listener in sockets or []:
            self._loop.remove_reader(listener)
        self._stopping()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_CLOSE_WITHIN)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no more files
                self._on_full()
                self._loop.remove_reader(listener)
                self._loop.call_later(_OUT_OF_FILES, self._accept_again, listener)
                return
            self._admit(accepted)

    def _accept_again(self, listener: socket.socket) -> None:
        if not self.should_exit:
            self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, accepted: socket.socket) -> None:
        full = self.open >= self._limits.connections
        if full:
            self._on_full()
        if self.open >= self._limits.connections + self._limits.spare:
            accepted.close()
            return
        accepted.setblocking(False)
        self.open += 1
        task = self._loop.create_task(self._begin(accepted, full))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _begin(self, accepted: socket.socket, full: bool) -> None:
        connection = Connection(self.config, self.server_state, self._limits, self._lost, full=full)
        handshake_within = self._limits.head_within if self._tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._tls, ssl_handshake_timeout=handshake_within
            )
        except OSError:  # the client has gone, or its certificate is not accepted (ssl.SSLError)
            if not connection.began:
                self._lost()

    def _lost(self) -> None:
        self.open -= 1

    def _check_connections(self) -> None:
        now = self._loop.time()
        for connection in list(self.server_state.connections):
            connection.look(now)  # type: ignore[union-attr]  # every one is a Connection
        self._loop.call_later(self._limits.look, self._check_connections)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an error that no task handled, unless it is a client's trouble with TLS or its network."""
        del loop
        error = context.get("exception")
        if error is not None and not isinstance(error, OSError):
            self._on_fault(error)


def _settings(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    logger = logging.getLogger("uvicorn.error")  # our events say more, and never hold a traceback
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return uvicorn.Config(
        cast(Any, app),  # the same type under another name
        loop="uvloop",
        access_log=False,
        log_config=None,
        log_level="critical",
        server_header=False,
        headers=[("server", "syncd")],
        proxy_headers=False,
        lifespan="off",
        interface="asgi3",
        ws="none",
        timeout_keep_alive=int(limits.idle),
        timeout_graceful_shutdown=int(limits.finish_within),
    )


def _files_for(limits: Limits) -> int:
    return limits.connections + limits.spare + _OTHER_FILES


def fitting_limits(limits: Limits) -> Limits:
    """Return ``limits`` with as many connections as the system allows open files for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    excess = 0 if hard == resource.RLIM_INFINITY else max(0, _files_for(limits) - hard)
    return replace(limits, connections=max(1, limits.connections - excess))


def allow_files(wanted: int) -> None:
    """Let this process have ``wanted`` open files. Raises `ConfigError` if the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"serve.max_connections: {wanted} open files are needed, and the system allows {hard}",
            hint="set LimitNOFILE in the unit, or a smaller max_connections",
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _listener(address: Address, setting: str) -> Iterator[socket.socket]:
    if address.path is None:
        with listening(address.host, address.port, setting) as listener:
            # A client that vanished without closing its connection is noticed when data sent to it is not acknowledged.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGE_WITHIN)
            yield listener
        return
    remove_stale_socket(address.path)
    make_folder(address.path.parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with storage(address.path, "listen at"):
            listener.bind(str(address.path))
            address.path.chmod(_SOCKET_MODE)
            listener.listen(2048)
        try:
            yield listener
        finally:
            address.path.unlink(missing_ok=True)
