"""The server of `syncd feed serve`: a partner's feed folder, with a token for each member, one for all, or none.

It is the daemon's server, with the same limits. Requests are logged only on request, and never their headers.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd import events
from syncd.errors import SyncdError
from syncd.event import Emit, Event
from syncd.listen import Address
from syncd.service.attempts import FAILURES, Attempts, peer_of
from syncd.service.web.answers import header, too_many_tokens
from syncd.service.web.boundary import Boundary
from syncd.service.web.files import NOT_ALLOWED, UNAUTHORISED, FeedFiles
from syncd.service.web.foreground import (
    certificates_of,
    check_exposure,
    serve_until_stopped,
    started,
    tls_files,
)
from syncd.service.web.limits import Limits
from syncd.service.web.members import Members
from syncd.service.web.server import WebServer, fitting_limits
from syncd.units import stamp

_LIMITS: Final = Limits()
_REPORT: Final = "this is a bug in syncd: please report it"
_LONGEST_PATH: Final = 300


Log = Callable[[str], None]
"""Receives a line for each request: time, member, address, method, path, status, and bytes of the answer's body."""


@dataclass(frozen=True)
class _PartnerFiles:
    files: FeedFiles
    members: Members
    emit: Emit
    clock: Callable[[], datetime]
    attempts: Attempts
    log: Log | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, metered = self.members.name_of(header(scope, b"authorization")), _MeteredSend(send)
        try:
            await self._answer(name, scope, receive, metered)
        finally:
            if self.log is not None:
                peer = peer_of(scope, behind_proxy=False)
                who = name or ("anybody" if self.members.everybody else "-")
                what = f"{scope['method']} {_shown(scope['path'])} {metered.status} {metered.length}"
                self.log(f"{stamp(self.clock())} {who} {peer} {what}")

    async def _answer(self, name: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        authorization, peer = header(scope, b"authorization"), peer_of(scope, behind_proxy=False)
        if not self.members.everybody and not (name and self.members.cannot_be_guessed(authorization)):
            wait = self.attempts.wait(peer) if authorization else 0
            if wait:
                await too_many_tokens(wait)(send)
                return
            if name is None:
                if authorization:
                    self.attempts.failed(peer)
                    self.emit(events.TokenRefused(peer, "/"))
                await UNAUTHORISED(send)
                return
        if scope["method"] not in {"GET", "HEAD"}:
            await NOT_ALLOWED(send)
        else:
            await self.files(scope["path"].removeprefix("/"), scope, receive, send)


class _MeteredSend:
    """A `Send` that keeps the status and counts the bytes of the body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = self.length = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
        self.length += len(message.get("body", b""))


def _shown(path: str) -> str:
    """Return a path as one word that a terminal can show; no file of a feed has a longer one."""
    return quote(path, safe="/.-_")[:_LONGEST_PATH]


def serve(
    folder: Path,
    address: Address,
    *,
    members: Members,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    announce: Callable[[str], None],
    warn: Callable[[SyncdError], None],
    log: Log | None = None,
    emit: Emit,
    clock: Callable[[], datetime],
) -> None:
    """Serve ``folder`` until SIGTERM or SIGINT, then finish the answers in progress and return. In the main thread.

    ``announce`` receives the URL once the server listens, ``warn`` the fault of a token file that changed later, and
    ``log`` a line for each request. Raises `UsageError` if other machines could read the feed without TLS and a token
    or if the certificate cannot be used, and `StoreError` if the address cannot be used.
    """
    tls = tls_files(tls_cert, tls_key)
    tokens_hint = ", and --tokens or --token-file"
    check_exposure(address.host, tls=tls is not None, token=not members.everybody, tokens_hint=tokens_hint)
    certificates = certificates_of(tls, emit, clock)
    server = WebServer(
        _app(folder, members, emit, clock, log),
        address,
        tls=certificates.listening if certificates else None,
        limits=fitting_limits(Limits()),
        emit=emit,
        setting="--listen",
    )

    def reload_members() -> None:
        for error in members.reload():
            warn(error)

    serve_until_stopped(server, certificates, announce=lambda url: announce(f"{url}/"), beat=reload_members)


def _app(folder: Path, members: Members, emit: Emit, clock: Callable[[], datetime], log: Log | None) -> ASGIApp:
    files = FeedFiles(folder, look=0.0)  # publications are not announced to this process: check at each request
    return Boundary(_PartnerFiles(files, members, emit, clock, Attempts(clock), log), emit)


@contextlib.contextmanager
def running_server(
    folder: Path, token: str | None = None, *, limits: Limits = _LIMITS, emit: Emit = lambda _: None
) -> Iterator[str]:
    """Serve ``folder`` on a free port of this machine, and yield the URL. For tests and the demo."""
    app = _app(folder, Members(token), emit, lambda: datetime.now(UTC), None)
    server = WebServer(app, Address("127.0.0.1"), tls=None, limits=fitting_limits(limits), emit=emit)
    with started(server):
        yield f"{server.url}/"


def in_words(event: Event) -> tuple[str, ...]:
    """Return the lines that the operator of `syncd feed serve` is shown for an event; () for most events."""
    lines: tuple[str, ...] = ()
    match event:
        case events.ConnectionsFull(limit):
            lines = (f"warning: all {limit} connections are in use: new clients are refused until some close",)
        case events.TokenRefused(peer):
            lines = (f"warning: {peer} sent a wrong token; after {FAILURES} in a minute it has to wait",)
        case events.CertificateReloaded():
            lines = ("the new certificate is in use",)
        case events.CertificateRejected(message, to_do):
            lines = f"error: {message}", "  still in use: the previous certificate", f"  to do: {to_do}"
        case events.CertificateNotValid(message, to_do):
            lines = f"error: {message}", f"  to do: {to_do}"
        case events.InternalError(kind, where, message, to_do):
            lines = f"error: {message or f'internal error ({kind}) in the {where}'}", f"  to do: {to_do or _REPORT}"
    return lines
