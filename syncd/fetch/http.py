"""A peer that is an HTTP server (RFC 9110)."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import httpcore
import httpx

from syncd import __version__
from syncd.errors import SourceError
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.fetch.http_errors import (
    PEER_TROUBLE,
    by_way_of,
    host_of,
    is_html,
    is_page,
    no_connection,
    page_instead,
    refusal,
    refused_by_proxy,
)
from syncd.fetch.network import Transport
from syncd.fetch.peer import CutShortError, Meter, Peer, Tail, UnreachableError, checked_path, too_large, wrong_length

OK: Final = 200
PARTIAL: Final = 206
NOT_SATISFIABLE: Final = 416
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for each of: name look-up, connecting to one address, TLS handshake."""

_FRESH: Final[Mapping[str, str]] = {"Cache-Control": "no-cache"}
"""Caches must ask the server before they answer (RFC 9111, 5.2.1.4)."""

_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may stand before a page or JSON: a byte order mark, white space."""

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
                raise page_instead(response, path) if is_html(response) else too_large(path, limit)
            count = 0
            for chunk in self._data(response, path):
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
            is_other = page_instead(response, path) if is_html(response) else None
            raise is_other or wrong_length(path, start + announced, length)
        return Tail(start, self._chunks(response, path) if start else self._data(response, path))

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

    def _data(self, response: httpx.Response, path: str) -> Iterator[bytes]:
        """Yield the bytes of a body from its beginning. Raises `WebPageError` if it is a web page."""
        begun = False
        for chunk in self._chunks(response, path):
            if not begun and (start := chunk.lstrip(_BLANK)):
                begun = True
                if is_page(response, start):
                    raise page_instead(response, path)
            yield chunk

    def _chunks(self, response: httpx.Response, path: str) -> Iterator[bytes]:
        with self._own_errors(path, CutShortError):
            for chunk in response.iter_raw():
                self.meter.add(len(chunk))
                yield chunk

    @contextlib.contextmanager
    def _own_errors(self, path: str, broken: type[UnreachableError | CutShortError]) -> Iterator[None]:
        """Translate every exception of httpx and httpcore into ours; ``broken`` is for a connection that breaks."""
        host = self._endpoint.host + by_way_of(self._endpoint)
        try:
            yield
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            self._deadline.left()
            raise UnreachableError(f"{host} stopped responding at {path}", hint=PEER_TROUBLE) from error
        except (httpx.ConnectError, httpcore.ConnectError) as error:
            raise no_connection(self._endpoint, error) from error
        except httpcore.ProxyError as error:
            raise refused_by_proxy(self._endpoint, error) from error
        except (*_BROKEN, OSError) as error:
            raise broken(f"{host} broke the connection at {path}", hint=PEER_TROUBLE) from error
        except (*_BAD, ValueError) as error:
            raise SourceError(f"{host} did not answer {path} with valid HTTP", hint=PEER_TROUBLE) from error

    def _require(self, response: httpx.Response, path: str, status: int) -> None:
        if response.status_code != status:
            raise refusal(response, path, self._now())
        if response.headers.get("content-encoding", "identity") != "identity":
            raise SourceError(
                f"{host_of(response)} sent {path} compressed, though not asked to", hint="switch compression off there"
            )


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
