"""The HTTP server: uvicorn, with uvloop and httptools, in a thread of its own."""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
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
"""Connections accepted before what else is due gets its turn."""
_FILES: Final = 256
"""Open files that the rest of the daemon needs."""
_ONCE_A: Final = 60.0
_ACKNOWLEDGE_WITHIN: Final = 30_000
"""Milliseconds (TCP_USER_TIMEOUT, tcp(7))."""
_OPEN_TO_ALL: Final = 0o666
"""As a port of this machine is: it is tokens that admit, and a folder can keep others out."""
_LAST: Final = 1.0
"""Seconds for what was aborted to close its files."""
_OUT_OF_FILES: Final = 0.5
"""Seconds to accept nothing after the system gave no more."""


class WebServer:
    """Serves ``app`` from `start` to `stop`. ``stopping`` is called in the server's thread when it is told to."""

    def __init__(
        self,
        app: ASGIApp,
        address: Address,
        context: ssl.SSLContext | None,
        limits: Limits,
        emit: Emit,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._address, self._context, self._limits, self._emit = address, context, limits, emit
        self._stack = contextlib.ExitStack()
        self._server = _WebServer(_settings(app, limits), context, limits, self._full, self._fault, stopping)
        self._thread: threading.Thread | None = None
        self._told_full: float | None = None
        self.address = address

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.address.url(tls=self._context is not None)

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._server.open

    def start(self) -> None:
        """Listen and answer. Raises `StoreError`, `RefusedError`, `ConfigError`."""
        allow_files(self._limits.connections + self._limits.spare + _FILES)
        listener = self._stack.enter_context(_listener(self._address))
        if self._address.path is None:
            host, port = listener.getsockname()[:2]
            self.address = Address(host, port)
        listener.setblocking(False)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="syncd-web", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        self._emit(events.HttpListening(self.url))

    def tell_to_stop(self) -> None:
        """Accept nothing more and end what is idle or a stream; `stop` waits for the rest."""
        self._server.should_exit = True

    def stop(self, seconds: float) -> bool:
        """Stop; whether it came to its end within ``seconds``."""
        self.tell_to_stop()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        self._stack.close()
        return not self._thread.is_alive()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        except Exception as error:  # noqa: BLE001 - the daemon goes on; the watchdog sees that nothing answers
            self._fault(error)
        finally:
            self._server.ready.set()

    def _fault(self, error: BaseException) -> None:
        self._emit(events.InternalError.of(error, "http server"))

    def _full(self) -> None:
        now = time.monotonic()
        if self._told_full is None or now - self._told_full > _ONCE_A:
            self._told_full = now
            self._emit(events.ConnectionsFull(self._limits.connections))


class _WebServer(uvicorn.Server):
    """Accepts by itself, so that one connection too many is closed before it costs anything, TLS included."""

    def __init__(
        self,
        config: uvicorn.Config,
        context: ssl.SSLContext | None,
        limits: Limits,
        on_full: Callable[[], None],
        on_fault: Callable[[BaseException], None],
        stopping: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._on_fault = on_fault
        self._context, self._limits, self._on_full, self._stopping = context, limits, on_full, stopping
        self.ready = threading.Event()
        self.open = 0
        self._beginning: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await self.lifespan.startup()
        self.servers = []
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unexpected)
        for one in sockets or []:
            self._loop.add_reader(one, self._accept, one)
        self._loop.call_later(self._limits.look, self._look)
        self.started = True
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; end streams; let answers under way finish, for a while, then abort them."""
        for one in sockets or []:
            self._loop.remove_reader(one)
        self._stopping()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_LAST)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no more files
                self._on_full()
                self._loop.remove_reader(listener)
                self._loop.call_later(_OUT_OF_FILES, self._go_on, listener)
                return
            self._take(accepted)

    def _go_on(self, listener: socket.socket) -> None:
        if not self.should_exit:
            self._loop.add_reader(listener, self._accept, listener)

    def _take(self, accepted: socket.socket) -> None:
        full = self.open >= self._limits.connections
        if full:
            self._on_full()
        if self.open >= self._limits.connections + self._limits.spare:
            accepted.close()
            return
        accepted.setblocking(False)
        self.open += 1
        task = self._loop.create_task(self._begin(accepted, full))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket, full: bool) -> None:
        connection = Connection(self.config, self.server_state, self._limits, self._lost, full=full)
        within = self._limits.head_within if self._context else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._context, ssl_handshake_timeout=within
            )
        except OSError:  # gone, or not who it should be (ssl.SSLError)
            if not connection.began:
                self._lost()

    def _lost(self) -> None:
        self.open -= 1

    def _look(self) -> None:
        now = self._loop.time()
        for connection in list(self.server_state.connections):
            connection.look(now)  # type: ignore[union-attr]  # every one is a Connection
        self._loop.call_later(self._limits.look, self._look)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        """What no task took care of. A client's trouble with TLS or its line is not ours."""
        del loop
        error = told.get("exception")
        if error is not None and not isinstance(error, OSError):
            self._on_fault(error)


def _settings(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    logger = logging.getLogger("uvicorn.error")  # our events tell more, and never a traceback
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return uvicorn.Config(
        cast(Any, app),  # the same in other words
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


def allow_files(wanted: int) -> None:
    """Let this process have so many files open. Raises `ConfigError` where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"serve.max_connections: {wanted} open files are needed, and the system allows {hard}",
            hint="set LimitNOFILE in the unit, or a smaller max_connections",
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _listener(address: Address) -> Iterator[socket.socket]:
    if address.path is None:
        with listening(address.host, address.port) as listener:
            # Who vanished without a word is noticed by what is sent to it.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACKNOWLEDGE_WITHIN)
            yield listener
        return
    remove_stale_socket(address.path)
    make_folder(address.path.parent)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        with storage(address.path, "listen at"):
            listener.bind(str(address.path))
            address.path.chmod(_OPEN_TO_ALL)
            listener.listen(2048)
        try:
            yield listener
        finally:
            address.path.unlink(missing_ok=True)
