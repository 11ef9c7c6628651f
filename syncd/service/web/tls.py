"""The server's certificate, and the authority of its clients: read again without a restart.

A listening context hands each handshake to the context in force then. Sessions are not resumed, so that a client
authority that was taken away admits nobody any more.
"""

import ssl
import threading
from pathlib import Path

from syncd import events
from syncd.config import Serve
from syncd.errors import ConfigError, SyncdError
from syncd.service.log import Emit

Stamp = tuple[tuple[int, int, int] | None, ...]


def make_context(serve: Serve) -> ssl.SSLContext:
    """What TLS is spoken with. Raises `ConfigError` where a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session of TLS 1.2 could outlive the authority that its client's certificate is of.
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if serve.client_ca else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    try:
        context.load_cert_chain(str(serve.tls_cert), serve.tls_key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"the certificate {serve.tls_cert} or its key cannot be used",
            hint="both are PEM files, the key is without a passphrase, and they belong together",
        ) from error
    if serve.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(serve.client_ca)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(f"client_ca {serve.client_ca} cannot be used", hint="it is a PEM file") from error
    return context


class Certificates:
    """The context in force. Raises `ConfigError` where there is none to begin with."""

    def __init__(self, serve: Serve, emit: Emit) -> None:
        self._serve, self._emit = serve, emit
        self._turn = threading.Lock()  # a signal may come while the chore of the minute is at it
        self._stamp = _stamp(serve)
        self.listening = make_context(serve)
        self._current = self.listening
        self.listening.sni_callback = self._choose

    def reload(self, serve: Serve | None = None) -> None:
        """Put in force what the files hold now, where they, or their names, have changed."""
        with self._turn:
            self._reload(serve or self._serve)

    def _reload(self, serve: Serve) -> None:
        stamp = _stamp(serve)
        if serve == self._serve and stamp == self._stamp:
            return
        self._serve, self._stamp = serve, stamp  # what cannot be used is told once, and tried again when it changes
        try:
            self._current = make_context(serve)
        except SyncdError as error:
            self._emit(events.CertificateRejected(error.message, error.hint))
        else:
            self._emit(events.CertificateReloaded())

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called in each handshake, whether or not the client names a host."""
        del name, context
        connection.context = self._current


def _stamp(serve: Serve) -> Stamp:
    return tuple(_seen(path) for path in (serve.tls_cert, serve.tls_key, serve.client_ca))


def _seen(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None
