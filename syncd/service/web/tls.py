"""The server's certificate and the authority of its clients, both read again without a restart.

The listening context hands each handshake to the current context. Sessions are not resumed: clients of an authority
that was removed are refused from then on.
"""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from syncd import events
from syncd.certificates import period_of
from syncd.errors import ConfigError, SyncdError
from syncd.event import Emit
from syncd.files import FILE_ITSELF, IrregularFileError, open_regular

Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class TlsFiles:
    """The PEM files of a server."""

    cert: Path
    key: Path | None
    """None: the key is in ``cert`` too"""
    client_ca: Path | None = None


def make_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context for a server. Raises `ConfigError` if a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session of TLS 1.2 could outlive the authority that signed its client's certificate.
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if files.client_ca else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _check_readable("", files.cert, files.key)
    try:
        context.load_cert_chain(str(files.cert), files.key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"the certificate {files.cert} or its key cannot be used",
            hint="both must be PEM files that belong together, and the key must have no passphrase",
        ) from error
    if files.client_ca:
        _check_readable("client_ca: ", files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(f"client_ca {files.client_ca} cannot be used", hint="it must be a PEM file") from error
    return context


def _check_readable(subject: str, *paths: Path | None) -> None:
    """Raise `ConfigError` for the first file that cannot be read.

    OpenSSL does not say which one it was, and would wait forever for a named pipe.
    """
    for path in paths:
        try:
            if path is not None:
                with open_regular(path):
                    pass
        except OSError as error:
            irregular = isinstance(error, IrregularFileError)
            raise ConfigError(
                f"{subject}cannot read {path}: {error.strerror}",
                hint=FILE_ITSELF if irregular else "check the path, and that this user may read the file",
            ) from error


class Certificates:
    """The current TLS context. Raises `ConfigError` if the first one cannot be made.

    A certificate that has expired or is not valid yet is used and reported: there may be no better one.
    """

    def __init__(self, files: TlsFiles, emit: Emit, clock: Callable[[], datetime]) -> None:
        self._files, self._emit, self._clock = files, emit, clock
        self._lock = threading.Lock()  # SIGHUP may arrive during the check of the minute
        self._stamp = _stamp(files)
        self.listening = make_context(files)
        self._current = self.listening
        self._period = period_of(files.cert)
        self._reported = ""
        self.listening.sni_callback = self._choose

    def look(self) -> None:
        """Load files that have changed, and report a certificate that is not valid, once. To be called regularly."""
        with self._lock:
            self._reload(self._files)
            self._report_not_valid()

    def reload(self, files: TlsFiles) -> None:
        """Use ``files`` from now on, if their names or contents have changed."""
        with self._lock:
            self._reload(files)

    def _report_not_valid(self) -> None:
        try:
            if self._period:
                self._period.check(self._clock())
        except ConfigError as error:
            if error.message != self._reported:
                self._reported = error.message
                self._emit(events.CertificateNotValid(error.message, error.hint))

    def _reload(self, files: TlsFiles) -> None:
        stamp = _stamp(files)
        if files == self._files and stamp == self._stamp:
            return
        self._files, self._stamp = files, stamp  # unusable files are reported once, and tried again when they change
        try:
            self._current = make_context(files)
        except SyncdError as error:
            self._emit(events.CertificateRejected(error.message, error.hint))
        else:
            self._period = period_of(files.cert)
            self._emit(events.CertificateReloaded())

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Use the current context. Python calls this in each handshake, with or without a server name."""
        del name, context
        connection.context = self._current


def _stamp(files: TlsFiles) -> Stamp:
    return tuple(_file_stamp(path) for path in (files.cert, files.key, files.client_ca))


def _file_stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status else None
