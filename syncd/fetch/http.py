"""A peer that is an HTTP server (RFC 9110)."""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpcore
import httpx

from syncd import __version__
from syncd.errors import HttpStatusError, SourceError
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.network import Transport
from syncd.fetch.peer import CutShortError, Meter, Peer, Tail, UnreachableError, checked_path, too_large, wrong_length

OK: Final = 200
PARTIAL: Final = 206
NOT_SATISFIABLE: Final = 416
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for each of: name look-up, connecting to one address, TLS handshake."""

_HINTS: Final = {
    401: "give a valid token (--token-file) or client certificate, and check whether they have expired",
    403: "the peer knows us but does not permit this: ask its operator to grant the list",
    404: "check the url (the feed of a syncd daemon ends in /feed/) and the list names, then try again",
    416: "the file at the peer is shorter than was signed; tell its operator",
    429: "the peer asks for fewer requests: lengthen the interval",
}
_CLOCK: Final = "if this machine's clock is right, the peer's operator must replace the certificate"
_DATED: Final = {9: _CLOCK, 10: _CLOCK}
"""By OpenSSL's verdict on a certificate: not valid yet, expired (openssl-verification-options(1), Diagnostics)."""
_PEER_TROUBLE: Final = "the fault is at the peer; the next sync tries again"
_PROXY_NEEDED: Final = (
    "If this machine reaches the network only through a proxy, name it: `proxy` of the source, or --proxy of "
    "`syncd pull`. Variables such as HTTPS_PROXY are not used"
)
_PROXY_HINTS: Final = {
    407: "let the proxy admit this machine by its address: syncd sends no user name or password to a proxy",
    502: "the proxy cannot reach or resolve that host: check the url, and ask the proxy's operator",
    503: "the proxy cannot reach or resolve that host: check the url, and ask the proxy's operator",
    504: "the proxy cannot reach that host in time: ask the proxy's operator",
}

_FRESH: Final[Mapping[str, str]] = {"Cache-Control": "no-cache"}
"""Caches must ask the server before they answer (RFC 9111, 5.2.1.4)."""

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the wall clock's time."""
    return datetime.now(UTC)


class HttpPeer(Peer):
    """An HTTP(S) server. ``inactivity`` is the longest silence in seconds; ``now`` is for dates in ``Retry-After``."""

    def __init__(
        self,
        endpoint: Endpoint,
        deadline: Deadline,
        *,
        connections: int = 8,
        inactivity: float = 30.0,
        now: Now = utc_now,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(deadline, meter)
        self._endpoint, self._inactivity, self._now = endpoint, inactivity, now
        headers = {"User-Agent": f"syncd/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        if endpoint.token is not None:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        self._client = httpx.Client(
            transport=Transport(endpoint, deadline, connections),
            headers=headers,
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        """See `Peer.stream`."""
        with self._answer(path, headers=_FRESH if fresh else None) as response:
            self._require(response, path, OK)
            announced = _announced(response)
            if announced is not None and announced > limit:
                raise too_large(path, limit)
            count = 0
            for chunk in self._chunks(response, path):
                count += len(chunk)
                if count > limit:
                    raise too_large(path, limit)
                yield chunk

    @contextlib.contextmanager
    def open_tail(self, path: str, start: int, length: int, *, fresh: bool = False) -> Iterator[Tail]:
        """See `Peer.open_tail`."""
        headers = _FRESH if fresh else {}
        if start:
            with self._answer(path, headers={**headers, "Range": f"bytes={start}-"}) as response:
                if response.status_code == PARTIAL and _continues(response, start, length):
                    yield self._tail(response, path, start, length)
                    return
                if response.status_code not in {PARTIAL, NOT_SATISFIABLE}:
                    self._require(response, path, OK)
                    yield self._tail(response, path, 0, length)
                    return
        with self._answer(path, headers=headers) as response:
            self._require(response, path, OK)
            yield self._tail(response, path, 0, length)

    def _tail(self, response: httpx.Response, path: str, start: int, length: int) -> Tail:
        announced = _announced(response)
        if announced is not None and start + announced != length:
            raise wrong_length(path, start + announced, length)
        return Tail(start, self._chunks(response, path))

    @contextlib.contextmanager
    def _answer(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """Send a request and yield the answer once its headers are in."""
        url = self._endpoint.url + checked_path(path)
        timeout = httpx.Timeout(self._inactivity, connect=CONNECT_TIMEOUT, pool=self._deadline.left())
        request = self._client.build_request(method, url, headers=headers, content=content, timeout=timeout)
        with self._own_errors(path, UnreachableError):
            response = self._client.send(request, stream=True)
        with contextlib.closing(response):
            yield response

    def _chunks(self, response: httpx.Response, path: str) -> Iterator[bytes]:
        with self._own_errors(path, CutShortError):
            for chunk in response.iter_raw():
                self.meter.add(len(chunk))
                yield chunk

    @contextlib.contextmanager
    def _own_errors(self, path: str, broken: type[UnreachableError | CutShortError]) -> Iterator[None]:
        """Translate every exception of httpx and httpcore into ours; ``broken`` is for a connection that breaks."""
        host = self._endpoint.host + _by_way_of(self._endpoint)
        try:
            yield
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            self._deadline.left()
            raise UnreachableError(f"{host} stopped responding at {path}", hint=_PEER_TROUBLE) from error
        except (httpx.ConnectError, httpcore.ConnectError) as error:
            raise _no_connection(self._endpoint, error) from error
        except httpcore.ProxyError as error:
            raise _refused_by_proxy(self._endpoint, error) from error
        except (*_BROKEN, OSError) as error:
            raise broken(f"{host} broke the connection at {path}", hint=_PEER_TROUBLE) from error
        except (*_BAD, ValueError) as error:
            raise SourceError(f"{host} did not answer {path} with valid HTTP", hint=_PEER_TROUBLE) from error

    def _require(self, response: httpx.Response, path: str, status: int) -> None:
        host = self._endpoint.host
        if response.status_code != status:
            raise self._refusal(response, path)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise SourceError(
                f"{host} sent {path} compressed, though not asked to", hint="switch compression off there"
            )

    def _refusal(self, response: httpx.Response, path: str) -> SourceError:
        host, status = self._endpoint.host, response.status_code
        if response.has_redirect_location:
            return SourceError(
                f"{host} redirects {path} to {_host_of(response)}; redirects are not followed",
                hint="if the peer moved, set its new url",
            )
        pause = self._retry_after(response)
        later = "" if pause is None else f" and asks to wait {pause:.0f} s"
        return HttpStatusError(
            f"{host} answered {status} to {path}{later}",
            status,
            retry_after=pause,
            hint=_HINTS.get(status, _PEER_TROUBLE),
        )

    def _retry_after(self, response: httpx.Response) -> float | None:
        """Return the seconds to wait (RFC 9110, 10.2.3: a number, or a date); None if absent or malformed."""
        value = response.headers.get("retry-after", "").strip()
        if re.fullmatch("[0-9]{1,9}", value):
            return float(value)
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - self._now()).total_seconds())


_NO_NAME: Final = (socket.gaierror, UnicodeError)
_BROKEN: Final = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpcore.NetworkError,
    httpcore.RemoteProtocolError,
)
_BAD: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


def _announced(response: httpx.Response) -> int | None:
    value = response.headers.get("content-length", "")
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else None


def _continues(response: httpx.Response, start: int, length: int) -> bool:
    """Return True if a 206 is exactly the rest that we asked for (RFC 9110, 14.4)."""
    return response.headers.get("content-range", "") in {
        f"bytes {start}-{length - 1}/{total}" for total in (length, "*")
    }


def _host_of(response: httpx.Response) -> str:
    """Return the host that a redirect points to, without the rest, which may hold secrets."""
    try:
        return response.url.join(response.headers["location"]).raw_host.decode("ascii") or "nowhere"
    except (httpx.InvalidURL, ValueError):
        return "no valid address"


def _by_way_of(endpoint: Endpoint) -> str:
    return f" (by way of the proxy {endpoint.proxy_host})" if endpoint.proxy else ""


def _refused_by_proxy(endpoint: Endpoint, error: httpcore.ProxyError) -> SourceError:
    """Return the error for a proxy that opens no tunnel; of its answer only the status is quoted."""
    status = re.match("[0-9]{3}", str(error))
    number = int(status[0]) if status else 0
    kind = UnreachableError if number >= 500 else SourceError  # noqa: PLR2004 - RFC 9110, 15.6
    return kind(
        f"the proxy {endpoint.proxy_host} does not connect to {endpoint.host}: it answered {number or 'no status'}",
        hint=_PROXY_HINTS.get(number, f"ask the proxy's operator to permit CONNECT to {endpoint.host}"),
    )


def _no_connection(endpoint: Endpoint, error: Exception) -> SourceError:
    cause = _system_error(error)
    host = endpoint.host
    if isinstance(cause, ssl.SSLCertVerificationError):
        return SourceError(
            f"the certificate of {host}{_by_way_of(endpoint)} is not trusted: {cause.verify_message}",
            hint=_DATED.get(
                cause.verify_code, "give the authority that signed it as ca (`--ca`), or check the host name"
            ),
        )
    if isinstance(cause, ssl.SSLError):
        return SourceError(
            f"TLS with {host}{_by_way_of(endpoint)} failed: {cause.reason or 'no common protocol'}",
            hint="use http:// if it does not speak https; otherwise check that it accepts our client certificate",
        )
    if endpoint.proxy:
        return _no_proxy(endpoint, cause)
    if isinstance(cause, _NO_NAME):
        return UnreachableError(
            f"the host name {host} cannot be resolved", hint=f"check the url and this machine's DNS. {_PROXY_NEEDED}"
        )
    reason = getattr(cause, "strerror", None) or "no connection"
    return UnreachableError(
        f"{host} cannot be reached: {reason}",
        hint="check that the server is running, that the url is right, and that no firewall blocks the connection",
    )


def _no_proxy(endpoint: Endpoint, cause: BaseException) -> SourceError:
    """Return the error for a proxy without a connection. It resolves the peer's name, this machine only its own."""
    if isinstance(cause, _NO_NAME):
        return UnreachableError(
            f"the host name of the proxy {endpoint.proxy_host} cannot be resolved",
            hint=f"check the address of the proxy and this machine's DNS; {endpoint.host} was not asked",
        )
    reason = getattr(cause, "strerror", None) or "no connection"
    return UnreachableError(
        f"the proxy {endpoint.proxy_host} cannot be reached: {reason}",
        hint=f"check that the proxy is running and that its address is right; {endpoint.host} was not asked",
    )


def _system_error(error: BaseException) -> BaseException:
    """Return the operating system's error behind ``error``, also by context: httpcore's pool raises ``from None``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (OSError, UnicodeError)):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error
