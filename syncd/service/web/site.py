"""The daemon's HTTP side: its server and application, tokens, reload, and a check from outside that it answers."""

import contextlib
import http.client
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from syncd.certificates import period_of
from syncd.config import Config, OperatorTable, Serve
from syncd.errors import ConfigError, StoreError
from syncd.files import read_bytes
from syncd.listen import Address
from syncd.service.access import Kind, PersonToken
from syncd.service.web.app import App
from syncd.service.web.context import Context
from syncd.service.web.dispatch import HEALTH
from syncd.service.web.server import WebServer
from syncd.service.web.tls import Certificates, TlsFiles, make_context
from syncd.settings import CREDENTIALS, credentials
from syncd.users import this_user

_MAX_TOKEN: Final = 4096
_SHORTEST_TOKEN: Final = 16
_RESTART: Final = "restart the daemon to apply it; until then it keeps the previous configuration"


@dataclass(frozen=True)
class Tokens:
    """The tokens that are stored in files; None if the configuration names none."""

    operator: str | None = field(repr=False)
    metrics: str | None = field(repr=False)
    people: tuple[PersonToken, ...] = ()
    """of ``[operators.NAME]``"""


def read_tokens(serve: Serve, operators: Mapping[str, OperatorTable] = MappingProxyType({})) -> Tokens:
    """Read the token files. Raises `ConfigError`, also if two of them hold the same token."""
    operator = _token(serve.operator_token_file, "serve.operator_token_file")
    metrics = _token(serve.metrics_token_file, "serve.metrics_token_file")
    if metrics is not None and metrics == operator:
        raise ConfigError(
            f"serve.metrics_token_file: {serve.metrics_token_file} holds the operator's token, which may do more",
            hint=f"make another: {_make(serve.metrics_token_file)}",
        )
    shared = ((operator, "serve.operator_token_file"), (metrics, "serve.metrics_token_file"))
    taken = {token: key for token, key in shared if token is not None}
    return Tokens(operator, metrics, tuple(_people(operators, taken)))


def _people(operators: Mapping[str, OperatorTable], taken: dict[str, str]) -> Iterator[PersonToken]:
    """Yield the tokens of operators and viewers. ``taken``: the key that names each token so far."""
    for name, table in operators.items():
        key = f"operators.{name}.token_file"
        token = _read_token(table.token_file, key)
        if token in taken:
            raise ConfigError(
                f"{key}: {table.token_file} holds the same token as {taken[token]}: nobody could tell who acted",
                hint=f"make another: {_make(table.token_file)}",
            )
        taken[token] = key
        yield PersonToken(name, Kind(table.role), token)


def _token(path: Path | None, key: str) -> str | None:
    return None if path is None else _read_token(path, key)


def _read_token(path: Path, key: str) -> str:
    try:
        token = read_bytes(path, _MAX_TOKEN).decode().strip()
    except StoreError as error:
        raise ConfigError(f"{key}: {error.message}", hint=_cure(path, error)) from error
    except UnicodeDecodeError:
        token = ""
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"{key}: {path} does not hold a token of {_SHORTEST_TOKEN} or more printable ASCII characters",
            hint=f"make one: {_make(path)}",
        )
    return token


def _cure(path: Path, error: StoreError) -> str:
    """Return what to do about a token that cannot be read."""
    given = credentials(os.environ)
    if path.parts[:1] == (f"${CREDENTIALS}",):
        return "only the service receives credentials from systemd: run syncd as a service, or configure another path"
    if given is not None and path.is_relative_to(given):
        file = f"/etc/syncd/secrets/{path.name.removeprefix('secrets_')}"
        return (
            f"make it as root: {_make(Path(file))}; then restart the service, which receives credentials when it starts"
        )
    if isinstance(error.__cause__, PermissionError):
        return f"{this_user()} may not read it: make {this_user()} its owner, or pass it to the service as a credential"
    return f"check the path, or make one: {_make(path)}"


def _make(path: Path | None) -> str:
    return f"(umask 077; openssl rand -hex 32 > {path})"


def check(serve: Serve, operators: Mapping[str, OperatorTable] = MappingProxyType({})) -> None:
    """Check that every file named in ``[serve]`` and ``[operators]`` can be used. Raises `ConfigError`."""
    read_tokens(serve, operators)
    if files := _tls_files(serve):
        make_context(files)


def _tls_files(serve: Serve) -> TlsFiles | None:
    return TlsFiles(serve.tls_cert, serve.tls_key, serve.client_ca) if serve.tls_cert else None


def check_valid(serve: Serve, now: datetime) -> None:
    """Check that our certificate is valid now. Raises `ConfigError`."""
    if period := period_of(serve.tls_cert):
        period.check(now)


def check_change(before: Config, after: Config) -> None:
    """Check that ``after`` can be applied while the daemon runs. Raises `ConfigError`."""
    old, new = before.serve, after.serve
    if (old is None) != (new is None):
        raise ConfigError("[serve] cannot be added or removed while the daemon runs", hint=_RESTART)
    if old is None or new is None:
        return
    for key in ("listen", "max_connections", "max_streams"):
        if getattr(old, key) != getattr(new, key):
            raise ConfigError(f"serve.{key} cannot change while the daemon runs", hint=_RESTART)
    for key in ("tls_cert", "client_ca"):
        if (getattr(old, key) is None) != (getattr(new, key) is None):
            raise ConfigError(f"serve.{key} cannot be added or removed while the daemon runs", hint=_RESTART)
    check(new, after.operators)


class Site:
    """The running HTTP side, from `start` to `stop`."""

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
        """Listen. Raises the errors of `WebServer.start`."""
        self.server.start()
        self.look()

    def look(self) -> None:
        """Check the certificates; to be called every minute."""
        if self._certificates:
            self._certificates.look()

    def reload(self, serve: Serve, operators: Mapping[str, OperatorTable]) -> None:
        """Apply a configuration that `check_change` has accepted. Raises `ConfigError`."""
        tokens = read_tokens(serve, operators)
        self._context.access.set_tokens(tokens.operator, tokens.metrics, tokens.people)
        files = _tls_files(serve)
        if self._certificates and files:
            self._certificates.reload(files)

    def answers(self, seconds: float) -> bool:
        """Return True if the server answers at its own address, which shows that its event loop runs.

        A server that is full and closes the connection runs too, and so does one that demands a client certificate.
        """
        return alive(self.server.address, tls=self._certificates is not None, seconds=seconds)

    def tell_to_stop(self) -> None:
        """Begin to stop; see `WebServer.tell_to_stop`."""
        self.server.tell_to_stop()

    def stop(self, seconds: float) -> bool:
        """Stop, and return True if the server ended within ``seconds``."""
        return self.server.stop(seconds)


def alive(address: Address, *, tls: bool, seconds: float) -> bool:
    """Request the health of a server, and return True if it shows any sign of life."""
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
    except (OSError, http.client.HTTPException):  # it refused, or closed the connection: a server is there
        return True


def _client() -> ssl.SSLContext:
    """Return a context that accepts any certificate, because we connect to ourselves."""
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


_REACHED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how to reach a server that listens on all addresses
