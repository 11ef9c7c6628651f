"""A server that is all that its process does, until it is stopped: `syncd feed serve` and `syncd mirror`."""

import contextlib
import queue
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import ConfigError, StoreError, UsageError
from syncd.event import Emit
from syncd.listen import is_loopback
from syncd.service.web.limits import Limits
from syncd.service.web.server import WebServer
from syncd.service.web.tls import Certificates, TlsFiles

_CHECK_EVERY: Final = 5.0
"""Seconds between two checks that the server runs and that its certificate files have not changed."""
_STOP_MORE: Final = 2.0
"""Seconds for the server to end after it has aborted the answers that did not finish."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def check_exposure(host: str, *, tls: bool, token: bool, tokens_hint: str = "") -> None:
    """Check that other machines need TLS and a token to read the feed. Raises `UsageError`.

    ``tokens_hint``: the options that give tokens, as the end of a list.
    """
    if not is_loopback(host) and not (tls and token):
        raise UsageError(
            f"{host} can be reached from other machines: without TLS and a token anybody could read the feed",
            hint=f"give --tls-cert, --tls-key{tokens_hint}, or listen on 127.0.0.1",
        )


def tls_files(cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Return the files of a server with TLS; None without. Raises `UsageError` if only one of them is given."""
    if (cert is None) != (key is None):
        raise UsageError("a certificate and its key belong together", hint="give --tls-cert and --tls-key, or neither")
    return TlsFiles(cert, key) if cert else None


def certificates_of(files: TlsFiles | None, emit: Emit, clock: Callable[[], datetime]) -> Certificates | None:
    """Return the certificates of a server with TLS; None without. Raises `UsageError` if they cannot be used."""
    try:
        return Certificates(files, emit, clock) if files else None
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from error


def serve_until_stopped(
    server: WebServer, certificates: Certificates | None, *, announce: Callable[[str], None], beat: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the answers in progress and return. In the main thread.

    ``announce`` receives the URL once the server listens; ``beat`` is called every few seconds, and its errors end the
    server. Raises `StoreError` if the address cannot be used.
    """
    with _signals() as inbox, started(server):
        announce(server.url)
        while server.running:
            if certificates:
                certificates.look()
            beat()
            if _arrived(inbox):
                return
    raise StoreError("the server has ended unexpectedly", hint="start it again, and report this as a bug")


@contextlib.contextmanager
def started(server: WebServer) -> Iterator[None]:
    """Run a server in the meantime."""
    server.start()
    try:
        yield
    finally:
        server.stop(Limits.finish_within + _STOP_MORE)


@contextlib.contextmanager
def _signals() -> Iterator["queue.SimpleQueue[int]"]:
    """The signals that arrive in the meantime. The main thread must call this."""
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put may interrupt its get, as a handler does
    before = {number: signal.signal(number, lambda number, _: inbox.put(number)) for number in _SIGNALS}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _arrived(inbox: "queue.SimpleQueue[int]") -> bool:
    try:
        inbox.get(timeout=_CHECK_EVERY)
    except queue.Empty:
        return False
    return True
