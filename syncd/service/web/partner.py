"""The server of `syncd feed serve`: a partner's feed folder, with one token or none.

It is the daemon's server, with the same limits. Requests are not logged: paths name lists, and headers hold tokens.
"""

import contextlib
import hashlib
import hmac
import queue
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from syncd import events
from syncd.errors import ConfigError, StoreError, UsageError
from syncd.event import Emit, Event
from syncd.listen import Address, is_loopback
from syncd.service.web.answers import header
from syncd.service.web.boundary import Boundary
from syncd.service.web.files import NOT_ALLOWED, UNAUTHORISED, FeedFiles
from syncd.service.web.limits import Limits
from syncd.service.web.server import WebServer, fitting_limits
from syncd.service.web.tls import Certificates, TlsFiles

_CHECK_EVERY: Final = 5.0
"""Seconds between two checks that the server runs and that its certificate files have not changed."""
_STOP_MORE: Final = 2.0
"""Seconds for the server to end after it has aborted the answers that did not finish."""
_LIMITS: Final = Limits()
_REPORT: Final = "this is a bug in syncd: please report it"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def build_app(folder: Path, token: str | None, emit: Emit) -> ASGIApp:
    """Return the application that serves ``folder``; with ``token``, only to clients that send it as bearer token."""
    return Boundary(_PartnerFiles(folder, token), emit)


class _PartnerFiles:
    def __init__(self, folder: Path, token: str | None) -> None:
        self._files = FeedFiles(folder, look=0.0)  # nobody announces what is published: check at each request
        self._token = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._admits(header(scope, b"authorization")):
            await UNAUTHORISED(send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await NOT_ALLOWED(send)
        else:
            await self._files(scope["path"].removeprefix("/"), scope, receive, send)

    def _admits(self, authorization: bytes) -> bool:
        if self._token is None:
            return True
        scheme, _, token = authorization.partition(b" ")
        # Comparing digests of equal length takes the same time whatever the token is, and however long it is.
        return hmac.compare_digest(_digest(token.strip()), self._token) and scheme.lower() == b"bearer"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def check_exposure(host: str, *, tls: bool, token: bool) -> None:
    """Check that other machines need TLS and a token to read the feed. Raises `UsageError`."""
    if not is_loopback(host) and not (tls and token):
        raise UsageError(
            f"{host} can be reached from other machines: without TLS and a token anybody could read the feed",
            hint="give --tls-cert, --tls-key and --token-file, or listen on 127.0.0.1",
        )


def serve(
    folder: Path,
    address: Address,
    *,
    token: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    announce: Callable[[str], None],
    emit: Emit,
    clock: Callable[[], datetime],
) -> None:
    """Serve ``folder`` until SIGTERM or SIGINT, then finish the answers in progress and return. In the main thread.

    ``announce`` receives the URL once the server listens. Raises `UsageError` if other machines could read the feed
    without TLS and a token or if the certificate cannot be used, and `StoreError` if the address cannot be used.
    """
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("a certificate and its key belong together", hint="give --tls-cert and --tls-key, or neither")
    check_exposure(address.host, tls=tls_cert is not None, token=token is not None)
    certificates = _certificates(TlsFiles(tls_cert, tls_key), emit, clock) if tls_cert else None
    server = WebServer(
        build_app(folder, token, emit),
        address,
        tls=certificates.listening if certificates else None,
        limits=fitting_limits(Limits()),
        emit=emit,
        setting="--listen",
    )
    with _signals() as inbox, _started(server):
        announce(f"{server.url}/")
        while server.running:
            if certificates:
                certificates.look()
            if _arrived(inbox):
                return
    raise StoreError("the server has ended unexpectedly", hint="start it again, and report this as a bug")


def _certificates(files: TlsFiles, emit: Emit, clock: Callable[[], datetime]) -> Certificates:
    try:
        return Certificates(files, emit, clock)
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from error


@contextlib.contextmanager
def running_server(
    folder: Path, token: str | None = None, *, limits: Limits = _LIMITS, emit: Emit = lambda _: None
) -> Iterator[str]:
    """Serve ``folder`` on a free port of this machine, and yield the URL. For tests and the demo."""
    app = build_app(folder, token, emit)
    server = WebServer(app, Address("127.0.0.1"), tls=None, limits=fitting_limits(limits), emit=emit)
    with _started(server):
        yield f"{server.url}/"


def in_words(event: Event) -> tuple[str, ...]:
    """Return the lines that the operator of `syncd feed serve` is shown for an event; () for most events."""
    match event:
        case events.ConnectionsFull(limit):
            return (f"warning: all {limit} connections are in use: new clients are refused until some close",)
        case events.CertificateReloaded():
            return ("the new certificate is in use",)
        case events.CertificateRejected(message, to_do):
            return f"error: {message}", "  still in use: the previous certificate", f"  to do: {to_do}"
        case events.CertificateNotValid(message, to_do):
            return f"error: {message}", f"  to do: {to_do}"
        case events.InternalError(kind, where, message, to_do):
            return f"error: {message or f'internal error ({kind}) in the {where}'}", f"  to do: {to_do or _REPORT}"
    return ()


@contextlib.contextmanager
def _started(server: WebServer) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop(_LIMITS.finish_within + _STOP_MORE)


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
