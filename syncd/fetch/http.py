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
    TLS_TROUBLE,
    by_way_of,
    host_of,
    is_html,
    is_page,
    no_connection,
    page_instead,
    refusal,
    refused_by_proxy,
    refused_certificate,
    target_of,
)
from syncd.fetch.network import Stores, Transport
from syncd.fetch.peer import CutShortError, Meter, Peer, Tail, UnreachableError, checked_path, too_large, wrong_length

OK: Final = 200
PARTIAL: Final = 206
NOT_SATISFIABLE: Final = 416
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for each of: name look-up, connecting to one address, TLS handshake."""

_AGENT: Final = f"syncd/{__version__}"
_MOST_REDIRECTS: Final = 3
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
        headers = {"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        if endpoint.token is not None:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        self._client = httpx.Client(
            transport=Transport(endpoint, deadline, connections),
            headers=headers,
            follow_redirects=False,
            trust_env=False,
        )
        self._stores = Stores(deadline, connections)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._stores.close()

    def stream(self, path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        """See `Peer.stream`."""
        with self._file(path, _FRESH if fresh else {}) as response:
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
            with self._file(path, {**headers, "Range": f"bytes={start}-"}) as response:
                if response.status_code == PARTIAL and _continues(response, start, length):
                    yield self._tail(response, path, start, length)
                    return
                if response.status_code not in {PARTIAL, NOT_SATISFIABLE}:
                    self._require(response, path, OK)
                    yield self._tail(response, path, 0, length)
                    return
        with self._file(path, headers) as response:
            self._require(response, path, OK)
            yield self._tail(response, path, 0, length)

    def _tail(self, response: httpx.Response, path: str, start: int, length: int) -> Tail:
        announced = _announced(response)
        if announced is not None and start + announced != length:
            is_other = page_instead(response, path) if is_html(response) else None
            raise is_other or wrong_length(path, start + announced, length)
        return Tail(start, self._chunks(response, path) if start else self._data(response, path))

    @contextlib.contextmanager
    def _file(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Ask for a file, and follow its redirects to permitted hosts. Every file is proved by a hash or signatures."""
        with self._answer(path, headers=headers) as answer:
            response, headers = answer, {**headers, "User-Agent": _AGENT, "Accept-Encoding": "identity"}
            with contextlib.ExitStack() as opened:
                for _ in range(_MOST_REDIRECTS):
                    target = target_of(response)
                    store = self._endpoint.store(target) if target else None
                    if target is None or store is None:
                        break
                    request = httpx.Request("GET", target, headers=headers, extensions={"timeout": self._timeout()})
                    with self._own_errors(path, UnreachableError, store):
                        response = opened.enter_context(contextlib.closing(self._stores.send(store, request)))
                yield response

    def _timeout(self) -> dict[str, float | None]:
        return httpx.Timeout(self._inactivity, connect=CONNECT_TIMEOUT, pool=self._deadline.left()).as_dict()

    @contextlib.contextmanager
    def _answer(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """Send a request and yield the answer once its headers are in."""
        url = self._endpoint.url + checked_path(path)
        extensions = {"timeout": self._timeout()}
        request = self._client.build_request(method, url, headers=headers, content=content, extensions=extensions)
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
        with self._own_errors(path, CutShortError, self._endpoint.store(response.url)):
            for chunk in response.iter_raw():
                self.meter.add(len(chunk))
                yield chunk

    @contextlib.contextmanager
    def _own_errors(
        self, path: str, broken: type[UnreachableError | CutShortError], store: Endpoint | None = None
    ) -> Iterator[None]:
        """Translate every exception of httpx and httpcore into ours; ``broken`` is for a connection that breaks.

        ``store``: the host that answers in the peer's place.
        """
        endpoint = store or self._endpoint
        host = endpoint.host + by_way_of(endpoint)
        try:
            yield
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            self._deadline.left()
            raise UnreachableError(f"{host} stopped responding at {path}", hint=PEER_TROUBLE) from error
        except (httpx.ConnectError, httpcore.ConnectError) as error:
            raise no_connection(endpoint, error) from error
        except httpcore.ProxyError as error:
            raise refused_by_proxy(endpoint, error) from error
        except (*_BROKEN, OSError) as error:
            if refused := refused_certificate(endpoint, error):
                raise refused from error
            hint = TLS_TROUBLE if endpoint.url.startswith("https:") else PEER_TROUBLE
            raise broken(f"{host} broke the connection at {path}", hint=hint) from error
        except (*_BAD, ValueError) as error:
            raise SourceError(f"{host} did not answer {path} with valid HTTP", hint=PEER_TROUBLE) from error

    def _require(self, response: httpx.Response, path: str, status: int) -> None:
        if response.status_code != status:
            raise refusal(response, path, self._now(), self._endpoint.redirects)
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
