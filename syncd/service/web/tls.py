"""The server's certificate, and the authority of its clients: read again without a restart.

A listening context hands each handshake to the context in force then. Sessions are not resumed, so that a client
authority that was taken away admits nobody any more.
"""

import ssl
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from syncd import events
from syncd.certificates import period_of
from syncd.config import Serve
from syncd.errors import ConfigError, SyncdError
from syncd.event import Emit

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
    """The context in force. Raises `ConfigError` where there is none to begin with.

    A certificate that is not valid now is put in force all the same, and told: there may be no better one.
    """

    def __init__(self, serve: Serve, emit: Emit, clock: Callable[[], datetime]) -> None:
        self._serve, self._emit, self._clock = serve, emit, clock
        self._turn = threading.Lock()  # a signal may come while the chore of the minute is at it
        self._stamp = _stamp(serve)
        self.listening = make_context(serve)
        self._current = self.listening
        self._period = period_of(serve.tls_cert)
        self._told = ""
        self.listening.sni_callback = self._choose

    def look(self) -> None:
        """Do what is to be done now and then: read again what has changed, and tell of what is not valid, once."""
        with self._turn:
            self._reload(self._serve)
            self._tell_not_valid()

    def reload(self, serve: Serve) -> None:
        """Put in force what the files hold now, where they, or their names, have changed."""
        with self._turn:
            self._reload(serve)

    def _tell_not_valid(self) -> None:
        try:
            if self._period:
                self._period.check(self._clock())
        except ConfigError as error:
            if error.message != self._told:
                self._told = error.message
                self._emit(events.CertificateNotValid(error.message, error.hint))

    def _reload(self, serve: Serve) -> None:
        found = _stamp(serve)
        if serve == self._serve and found == self._stamp:
            return
        self._serve, self._stamp = serve, found  # what cannot be used is told once, and tried again when it changes
        try:
            self._current = make_context(serve)
        except SyncdError as error:
            self._emit(events.CertificateRejected(error.message, error.hint))
        else:
            self._period = period_of(serve.tls_cert)
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
