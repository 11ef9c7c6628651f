"""Sockets with a deadline.

HTTP libraries limit the silence between two bytes, not the whole answer: a peer that sends one byte of a header each
second holds them forever. Here every look-up, connect, handshake, read and write gets at most the time left.
"""

import contextlib
import functools
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpcore
import httpx

from syncd.errors import UsageError
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.files import open_regular

READ: Final = 1 << 20
"""Bytes to read from a socket at once. httpcore reads 64 KiB; its parser takes more, and then a download of 500 MB runs
at 700 MB/s instead of 450."""

Resolve = Callable[[str, int], list[str]]


class Transport(httpx.BaseTransport):
    """httpx over an httpcore pool with our network backend: `httpx.HTTPTransport` has no public way to give it one.

    httpcore's exceptions pass through as they are.
    """

    def __init__(self, endpoint: Endpoint, deadline: Deadline, connections: int) -> None:
        self._pool = _pool(endpoint, BoundedBackend(deadline), connections)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the body of the response is read while it is iterated over."""
        url = request.url
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class Stores:
    """Connections to the hosts that files are redirected to. Safe to use from several threads.

    An `httpx.Client` would log addresses, which hold signatures that open the file to whoever reads them.
    """

    def __init__(self, deadline: Deadline, connections: int) -> None:
        self._deadline, self._connections = deadline, connections
        self._lock = threading.Lock()
        self._transports: dict[str, Transport] = {}

    def send(self, store: Endpoint, request: httpx.Request) -> httpx.Response:
        """Send a request to one of the hosts; the body of the response is read while it is iterated over."""
        with self._lock:
            if store.url not in self._transports:
                self._transports[store.url] = Transport(store, self._deadline, self._connections)
        response = self._transports[store.url].handle_request(request)
        response.request = request
        return response

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()


def _pool(endpoint: Endpoint, network: httpcore.NetworkBackend, connections: int) -> httpcore.ConnectionPool:
    context = tls_context(endpoint) if endpoint.url.startswith("https:") else None
    if endpoint.proxy is None:
        return httpcore.ConnectionPool(ssl_context=context, max_connections=connections, network_backend=network)
    # Our client certificate is for the peer, not for the proxy.
    to_proxy = tls_context(replace(endpoint, client_cert=None, client_key=None))
    return httpcore.HTTPProxy(
        endpoint.proxy,
        ssl_context=context,
        proxy_ssl_context=to_proxy if endpoint.proxy.startswith("https:") else None,
        max_connections=connections,
        network_backend=network,
    )


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of ``host``, in the system's order of preference; raises `OSError` or `UnicodeError`."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in entries))


class BoundedBackend(httpcore.NetworkBackend):
    """httpcore's network, with every wait cut to the time left."""

    def __init__(self, deadline: Deadline, resolve: Resolve = look_up) -> None:
        self._deadline, self._resolve = deadline, resolve
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try each address of ``host`` in turn: the system's own connect would give each one the whole timeout."""
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in self._addresses(host, port, timeout):
            try:
                with _clamped(self._deadline, timeout) as bound:
                    stream = self._inner.connect_tcp(address, port, bound, local_address, socket_options)
                    return BoundedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, timeout: float | None) -> list[str]:
        """Look the host up in a thread, and stop waiting in time: a look-up cannot be limited or stopped."""
        answer: Future[list[str]] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answer.set_exception(error)

        threading.Thread(target=ask, name="syncd-look-up", daemon=True).start()
        with _clamped(self._deadline, timeout) as bound:
            try:
                return answer.result(timeout=bound)
            except TimeoutError:
                raise httpcore.ConnectTimeout("name look-up") from None
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError("name look-up") from error


class BoundedStream(httpcore.NetworkStream):
    """One connection, with every wait cut to the time left."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline
        connection = inner.get_extra_info("socket")
        if isinstance(connection, socket.socket):
            deadline.register(connection)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what has arrived, at most ``max_bytes`` or `READ`, whichever is more."""
        with _clamped(self._deadline, timeout) as bound:
            return self._inner.read(max(max_bytes, READ), bound)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of ``buffer``."""
        with _clamped(self._deadline, timeout) as bound:
            self._inner.write(buffer, bound)

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Do the handshake. CPython applies a socket's timeout to the whole handshake, so a slow drip ends too."""
        with _clamped(self._deadline, timeout) as bound:
            return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, bound), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks about the connection (is it readable? its TLS object?)."""
        return self._inner.get_extra_info(info)


@contextlib.contextmanager
def _clamped(deadline: Deadline, timeout: float | None) -> Iterator[float]:
    left = deadline.left()
    try:
        yield left if timeout is None else min(left, timeout)
    except httpcore.TimeoutException:
        deadline.left()  # raises if the deadline, not the silence, ended the wait
        raise


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return a context with the certificate authorities (the system's or the endpoint's) and the client certificate.

    Reading the system's takes 20 ms, as long as the rest of a small pull, so it is repeated only if a file changed.
    Raises `UsageError`.
    """
    files = (endpoint.ca, endpoint.client_cert, endpoint.client_key)
    default = ssl.get_default_verify_paths()
    authorities = (default.cafile, default.capath) if endpoint.ca is None else ()
    return _tls_context(files, tuple(_stamp(path) for path in (*files, *authorities)))


def _stamp(path: Path | str | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116 - a path of either kind
    except OSError:
        return None  # reading the file will say why
    return status.st_ino, status.st_mtime_ns, status.st_size


_Files = tuple[Path | None, Path | None, Path | None]


@functools.lru_cache(maxsize=8)
def _tls_context(files: _Files, _: tuple[tuple[int, int, int] | None, ...]) -> ssl.SSLContext:
    ca, client_cert, client_key = files
    with _readable_pem("the certificate authority", ca):
        context = ssl.create_default_context(cafile=ca)
    if client_cert is not None:
        with _readable_pem("the client key", client_key), _readable_pem("the client certificate", client_cert):
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(client_cert, client_key, password="")
    return context


@contextlib.contextmanager
def _readable_pem(what: str, path: Path | None) -> Iterator[None]:
    try:
        if path is not None:
            with open_regular(path):  # if it were a named pipe, OpenSSL would wait forever
                pass
        yield
    except (ssl.SSLError, ValueError):
        raise UsageError(
            f"{what}: {path} holds no usable PEM certificate (or key)",
            hint="the file must be PEM, its key unencrypted and belonging to the certificate",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{what}: cannot read {path}: {error.strerror}", hint="check the path and the file's mode"
        ) from error
