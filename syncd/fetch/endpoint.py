"""The address to fetch from, and the deadline of an operation."""

import contextlib
import encodings.idna  # noqa: F401 - `socket` imports it at the first connection; see tests/test_matcher_feed.py
import ipaddress
import re
import socket
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from syncd.errors import DeadlineExceeded, UsageError

_ADDRESS_HINT = "use https://host/path/, http:// on this machine only, or file:///absolute/folder"
_PROXY_HINT = "write http://HOST:PORT or https://HOST:PORT, without a path, user name or password"

_FEED_PATH = "/feed/"
_API_PATH = "/api/v1/"


class Deadline:
    """The time by which a whole operation must be over: ``seconds`` from now, on a monotonic ``clock``."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._ended = False
        self._sockets: list[weakref.ref[socket.socket]] = []
        self.renew()

    def renew(self) -> None:
        """Start again from now: the deadline then limits the silence, not the whole operation."""
        self._end = self._clock() + self._seconds

    def end(self) -> None:
        """Leave no time at all. From any thread: threads that wait on a connection of this operation stop waiting."""
        self._ended = True
        for connection in self._connections():
            with contextlib.suppress(OSError):  # closed in the meantime, or never connected
                # Not SSLSocket.shutdown: it removes the TLS state under the thread that reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def register(self, connection: socket.socket) -> None:
        """Add an open connection of this operation, for `end`."""
        self._sockets.append(weakref.ref(connection))
        if self._ended:
            self.end()

    def close_inherited(self) -> None:
        """Close a forked child's copies of the parent's connections, without a word to the peer."""
        for connection in self._connections():
            connection.close()

    def _connections(self) -> list[socket.socket]:
        return [connection for ref in tuple(self._sockets) if (connection := ref()) is not None]

    def left(self) -> float:
        """Return the seconds left, always more than 0; raises `DeadlineExceeded`."""
        left = 0.0 if self._ended else self._end - self._clock()
        if left <= 0:
            raise DeadlineExceeded(
                f"not finished within the deadline of {self._seconds:g} s",
                hint="the next sync tries again; if it keeps failing, the peer or the line is too slow for this limit",
            )
        return left


@dataclass(frozen=True)
class Endpoint:
    """The address of one peer, and our credentials there.

    ``url`` is ``https://``, ``http://`` on loopback, or ``file://`` and an absolute folder (where the token is not
    used); it is kept with a final ``/``. ``ca`` replaces the system's certificate authorities. Files are PEM; the
    key may be in ``client_cert``. ``proxy`` is the address of an HTTP proxy, which is asked for a tunnel (CONNECT): TLS
    is spoken with the peer through it, so ``url`` must be ``https://``. ``redirects`` are the hosts, HOST or HOST:PORT,
    to which the peer may redirect a file. Raises `UsageError` for anything else.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None
    redirects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        url = _parsed(self.url)
        _check_address(url)
        # RFC 6750, 2.1 allows less, but partners hand out what they like; a line break would forge headers.
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise UsageError(
                "the token is empty or holds white space or unprintable characters", hint="check the token file"
            )
        if self.client_key is not None and self.client_cert is None:
            raise UsageError("a client key is given without a client certificate", hint="give both, or neither")
        if self.proxy is not None:
            object.__setattr__(self, "proxy", proxy_address(self.proxy))
            _check_tunnel(url)
        object.__setattr__(self, "redirects", tuple(map(redirect_host, self.redirects)))
        path = url.raw_path.decode("ascii").rstrip("/") + "/"
        full = f"file://{path}" if url.scheme == "file" else str(url.copy_with(raw_path=path.encode("ascii")))
        object.__setattr__(self, "url", full)

    @property
    def folder(self) -> Path | None:
        """The folder behind a ``file://`` address; None for a server."""
        url = httpx.URL(self.url)
        return Path(url.path) if url.scheme == "file" else None

    @property
    def api(self) -> "Endpoint | None":
        """The API of a syncd that serves this feed: ``../api/v1/``. None unless the path ends with ``/feed/``."""
        if self.folder is not None or not httpx.URL(self.url).path.endswith(_FEED_PATH):
            return None
        return replace(self, url=self.url.removesuffix(_FEED_PATH) + _API_PATH)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return httpx.URL(self.url).netloc.decode("ascii")

    def store(self, target: httpx.URL) -> "Endpoint | None":
        """Return the endpoint of a redirect's target, without our credentials; None if it is not permitted."""
        if target.scheme != "https" or target.userinfo or target.netloc.decode("ascii") not in self.redirects:
            return None
        url = f"https://{target.netloc.decode('ascii')}/"
        return replace(self, url=url, token=None, client_cert=None, client_key=None)

    @property
    def proxy_host(self) -> str:
        """Host and port of the proxy, for messages; "" without one."""
        return httpx.URL(self.proxy).netloc.decode("ascii") if self.proxy else ""


def redirect_host(text: str) -> str:
    """Return a host to which files may be redirected, HOST or HOST:PORT, in one form. Raises `UsageError`."""
    try:
        url = httpx.URL(f"https://{text}/")
        if re.fullmatch(r"[^/?#@*\\\s]+", text) and url.host:
            return url.netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        pass
    raise UsageError(
        "redirects: not the name of a host",
        hint='write only the host, as in "objects.example.org", or with its port; patterns are not supported',
    )


def proxy_address(text: str) -> str:
    """Return the address of a proxy, checked. Messages do not repeat it: it may hold a password. Raises `UsageError`.

    A password would stand in the configuration or on a command line, where others can read it.
    """
    try:
        url = httpx.URL(text)
        _ = url.host
    except (httpx.InvalidURL, ValueError):
        raise UsageError("the proxy: not a valid address", hint=_PROXY_HINT) from None
    if url.userinfo:
        raise UsageError(
            "the proxy: its address holds a user name or password, which other users of this machine could read",
            hint="let the proxy admit this machine by its address, and write http://HOST:PORT",
        )
    if url.scheme not in {"http", "https"} or not url.host or url.path not in {"", "/"} or "?" in text or "#" in text:
        raise UsageError("the proxy: not the address of an HTTP proxy", hint=_PROXY_HINT)
    return str(url.copy_with(raw_path=b"/"))


def _check_tunnel(url: httpx.URL) -> None:
    if url.scheme != "https":
        raise UsageError(
            f"a proxy cannot be used with {url.scheme}://: it would see everything that is fetched, and the token",
            hint="use https://, or leave the proxy out",
        )


def _parsed(text: str) -> httpx.URL:
    """Parse an address. Messages do not repeat it: it may hold a password or a key."""
    if "?" in text or "#" in text or "\\" in text:
        raise UsageError("an address cannot contain '?', '#' or '\\'", hint=_ADDRESS_HINT)
    try:
        url = httpx.URL(text)
        _ = url.host  # decodes Punycode, which may fail
    except (httpx.InvalidURL, ValueError):
        raise UsageError("not a valid address", hint=_ADDRESS_HINT) from None
    if url.userinfo:
        raise UsageError("the address holds a user name or password", hint="put the secret in the token file instead")
    return url


def _check_address(url: httpx.URL) -> None:
    match url.scheme:
        case "https" if url.host:
            return
        case "http" if _is_loopback(url.host):
            return
        case "file" if url.host in {"", "localhost"} and url.path.startswith("/") and "\0" not in url.path:
            return
        case "http":
            raise UsageError(
                f"http:// to {url.netloc.decode('ascii')} would send everything unencrypted", hint=_ADDRESS_HINT
            )
    raise UsageError(f"not an address to fetch from (scheme {url.scheme or 'missing'})", hint=_ADDRESS_HINT)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
