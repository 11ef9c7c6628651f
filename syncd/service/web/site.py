"""The HTTP side as the daemon holds it: what it is made of, its chores, reload, and a look from outside."""

import contextlib
import http.client
import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.certificates import period_of
from syncd.config import Serve
from syncd.errors import ConfigError, StoreError
from syncd.files import read_bytes
from syncd.listen import Address
from syncd.service.web.app import HEALTH, App
from syncd.service.web.context import Context
from syncd.service.web.server import WebServer
from syncd.service.web.tls import Certificates, TlsFiles, make_context

_MAX_TOKEN: Final = 4096
_SHORTEST_TOKEN: Final = 16
_RESTART: Final = "restart it; nothing was changed"


@dataclass(frozen=True)
class Tokens:
    """Those that files hold."""

    operator: str | None
    metrics: str | None


def read_tokens(serve: Serve) -> Tokens:
    """Read them. Raises `ConfigError`."""
    operator = _token(serve.operator_token_file, "operator_token_file")
    metrics = _token(serve.metrics_token_file, "metrics_token_file")
    if metrics is not None and metrics == operator:
        raise ConfigError(
            f"serve.metrics_token_file: {serve.metrics_token_file} holds the operator's token, which opens more",
            hint=f"make another: (umask 077; openssl rand -hex 32 > {serve.metrics_token_file})",
        )
    return Tokens(operator, metrics)


def _token(path: Path | None, key: str) -> str | None:
    if path is None:
        return None
    try:
        token = read_bytes(path, _MAX_TOKEN).decode().strip()
    except StoreError as error:
        raise ConfigError(
            f"serve.{key}: {error.message}",
            hint=f"check the path, or make one: (umask 077; openssl rand -hex 32 > {path})",
        ) from error
    except UnicodeDecodeError:
        token = ""
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"serve.{key}: {path} holds no token of {_SHORTEST_TOKEN} characters or more",
            hint=f"make one: (umask 077; openssl rand -hex 32 > {path})",
        )
    return token


def check(serve: Serve) -> None:
    """See that every file named in ``[serve]`` can be used. Raises `ConfigError`."""
    read_tokens(serve)
    if files := _tls_files(serve):
        make_context(files)


def _tls_files(serve: Serve) -> TlsFiles | None:
    return TlsFiles(serve.tls_cert, serve.tls_key, serve.client_ca) if serve.tls_cert else None


def check_valid(serve: Serve, now: datetime) -> None:
    """See that clients will take our certificate. Raises `ConfigError`."""
    if period := period_of(serve.tls_cert):
        period.check(now)


def check_change(before: Serve | None, after: Serve | None) -> None:
    """See that ``after`` can be put in force while the daemon runs. Raises `ConfigError`."""
    if (before is None) != (after is None):
        raise ConfigError("serve cannot come or go while the daemon runs", hint=_RESTART)
    if before is None or after is None:
        return
    for key in ("listen", "max_connections", "max_streams"):
        if getattr(before, key) != getattr(after, key):
            raise ConfigError(f"serve.{key} cannot change while the daemon runs", hint=_RESTART)
    for key in ("tls_cert", "client_ca"):
        if (getattr(before, key) is None) != (getattr(after, key) is None):
            raise ConfigError(f"serve.{key} cannot come or go while the daemon runs", hint=_RESTART)
    check(after)


class Site:
    """Serves from `start` to `stop`."""

    def __init__(self, serve: Serve, context: Context) -> None:
        self._context = context
        files = _tls_files(serve)
        self._certificates = Certificates(files, context.emit, context.clock) if files else None
        self.app = App(context)
        self.server = WebServer(
            self.app,
            serve.address,
            tls=self._certificates.listening if self._certificates else None,
            limits=context.limits,
            emit=context.emit,
            stopping=self.app.close,
        )
        self.app.metrics.traffic.watch(
            lambda: self.server.connections,
            lambda: self.app.streams.count,
            max_connections=context.limits.connections,
            max_streams=context.limits.streams,
        )

    def start(self) -> None:
        """Listen. Raises as `WebServer.start`."""
        self.server.start()
        self.look()

    def look(self) -> None:
        """The chore of each minute."""
        if self._certificates:
            self._certificates.look()

    def reload(self, serve: Serve) -> None:
        """Put another configuration in force, which `check_change` has let through. Raises `ConfigError`."""
        tokens = read_tokens(serve)
        self._context.access.set_tokens(tokens.operator, tokens.metrics)
        files = _tls_files(serve)
        if self._certificates and files:
            self._certificates.reload(files)

    def answers(self, seconds: float) -> bool:
        """Whether the server answers at its own address: its loop runs. One that is full, and says so by closing the
        connection, runs as well; so does one that wants a client's certificate."""
        return alive(self.server.address, tls=self._certificates is not None, seconds=seconds)

    def tell_to_stop(self) -> None:
        """Begin to stop."""
        self.server.tell_to_stop()

    def stop(self, seconds: float) -> bool:
        """Stop; whether it came to its end within ``seconds``."""
        return self.server.stop(seconds)


def alive(address: Address, *, tls: bool, seconds: float) -> bool:
    """Ask a server for its health."""
    try:
        with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
            connection.sock = _connect(address, seconds)
            if tls:
                connection.sock = _client().wrap_socket(connection.sock, server_hostname="localhost")
            connection.request("GET", HEALTH)
            with connection.getresponse() as answer:
                return answer.status == http.client.OK
    except (TimeoutError, ConnectionRefusedError, FileNotFoundError):
        return False
    except (OSError, http.client.HTTPException):  # it said no, or closed: somebody is there
        return True


def _client() -> ssl.SSLContext:
    """We know whom we ask: ourselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(address: Address, seconds: float) -> socket.socket:
    if address.path is None:
        host = _REACHED.get(address.host, address.host)
        return socket.create_connection((host, address.port), seconds)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        connection.connect(str(address.path))
    except BaseException:
        connection.close()
        raise
    return connection


_REACHED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens everywhere is asked here
