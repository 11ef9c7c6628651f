import contextlib
import datetime
import hashlib
import ipaddress
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import respx
import stamina
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from syncd.errors import (
    DeadlineExceeded,
    HttpStatusError,
    MismatchError,
    SourceError,
    StaleMirrorError,
    StoreError,
    TruncatedError,
    UsageError,
    WebPageError,
)
from syncd.fetch import Deadline, Download, Endpoint, FilePeer, HttpPeer, Peer, download_all, open_peer
from syncd.fetch.network import BoundedBackend
from syncd.fetch.peer import Tail

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA256 = "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"
OTHER = b"x" * len(BODY)
NOON = datetime.datetime(2026, 1, 1, 12, 0, 0, tzinfo=datetime.UTC)

Answer = bytes | Callable[[socket.socket, threading.Event], None]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Attempts follow one another at once."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Plays one scripted answer for each request, the last for all further ones, and keeps the requests."""

    def __init__(self, *script: Answer) -> None:
        self.script, self.requests, self.ended = list(script), list[str](), threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/feed"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            connection.settimeout(0.05)
            while not self.ended.is_set():
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    continue
                if not piece:
                    return
                received += piece
                while b"\r\n\r\n" in received:
                    request, _, received = received.partition(b"\r\n\r\n")
                    connection.settimeout(5)
                    if not self._reply(connection, request.decode()):
                        return
                    connection.settimeout(0.05)

    def _reply(self, connection: socket.socket, request: str) -> bool:
        with self._lock:
            step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            self.requests.append(request)
        if callable(step):
            step(connection, self.ended)
            return False
        connection.sendall(step)
        return True


def then_close(content: bytes) -> Answer:
    def play(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(content)

    return play


def drip(start: bytes, piece: bytes) -> Answer:
    def play(connection: socket.socket, ended: threading.Event) -> None:
        connection.sendall(start)
        while not ended.wait(0.02):
            connection.sendall(piece)

    return play


def endless(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")


def silent(connection: socket.socket, ended: threading.Event) -> None:
    ended.wait(10)


def open_http(server: Server, seconds: float = 30, **options: object) -> HttpPeer:
    return HttpPeer(Endpoint(server.url, token="s3cret-token"), Deadline(seconds), **options)  # type: ignore[arg-type]  # options of HttpPeer, by name


@contextlib.contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


# --- deadline and endpoint ------------------------------------------------------------------------------------------


def test_deadline_counts_down_and_then_raises() -> None:
    """A deadline tells the seconds left by its own clock, and raises from the moment it is reached."""
    moments = iter([100.0, 101.5, 110.0])
    deadline = Deadline(10, clock=lambda: next(moments))
    assert deadline.left() == 8.5
    with pytest.raises(DeadlineExceeded, match="within the deadline of 10 s"):
        deadline.left()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://feed.example.org", "https://feed.example.org/"),
        ("https://feed.example.org/a/b", "https://feed.example.org/a/b/"),
        ("HTTPS://Feed.Example.org:443/a/", "https://feed.example.org/a/"),
        ("http://127.0.0.2:8470", "http://127.0.0.2:8470/"),
        ("http://[::1]:8470/x", "http://[::1]:8470/x/"),
        ("http://localhost/", "http://localhost/"),
        ("file:///srv/feed", "file:///srv/feed/"),
    ],
)
def test_endpoint_normalises_its_address(given: str, kept: str) -> None:
    """An address is kept with a final slash, so that paths can be appended."""
    assert Endpoint(given).url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://feed.example.org/",
        "http://128.0.0.1/",
        "http://127.0.0.1.example.org/",
        "https://xn--a/",
        "https://",
        "https:feed.example.org",
        "https://feed.example.org/?key=hunter2",
        "https://feed.example.org/#hunter2",
        "https://me:hunter2@feed.example.org/",
        "https://feed.example.org:port/",
        "https://feed\x00.example.org/",
        "ftp://feed.example.org/",
        "feed.example.org",
        "file://srv/feed",
        "file:relative",
        "file:///srv/%00",
        "",
    ],
)
def test_endpoint_refuses_unsafe_addresses(url: str) -> None:
    """Anything but https, loopback http or an absolute folder is refused, with a hint and without repeating secrets."""
    with pytest.raises(UsageError) as caught:
        Endpoint(url)
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\r\nX-Forged: yes", "tök"])
def test_endpoint_refuses_tokens_that_could_forge_headers(token: str) -> None:
    """A token is visible ASCII; the message does not repeat it."""
    with pytest.raises(UsageError) as caught:
        Endpoint("https://feed.example.org/", token=token)
    assert not token or token not in str(caught.value)


def test_endpoint_never_shows_its_token() -> None:
    """The token is in no repr."""
    assert "s3cret" not in repr(Endpoint("https://feed.example.org/", token="s3cret"))


def test_endpoint_wants_a_certificate_with_its_key() -> None:
    """A client key alone is a mistake that is named."""
    with pytest.raises(UsageError, match="a client key is given without a client certificate"):
        Endpoint("https://feed.example.org/", client_key=Path("key.pem"))


# --- requests and answers -------------------------------------------------------------------------------------------


def test_get_returns_the_body_and_sends_who_we_are() -> None:
    """A request carries the token, our name and no wish for compression."""
    with Server(answer(b"hello")) as server, open_http(server) as peer:
        assert peer.get("metadata/timestamp.json", 100) == b"hello"
        request = server.requests[0].lower()
    assert request.startswith("get /feed/metadata/timestamp.json http/1.1")
    assert "authorization: bearer s3cret-token" in request
    assert "user-agent: syncd/0.1.0" in request
    assert "accept-encoding: identity" in request


def test_environment_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment does not get to see our requests."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9/")
    with Server(answer(b"hello")) as server, open_http(server) as peer:
        assert peer.get("a", 100) == b"hello"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html>Log in to the airport's wireless network</html>", "text/html"),
        (b"\xef\xbb\xbf\r\n <!DOCTYPE html><title>Index</title>", "application/octet-stream"),
        (b"Please log in", "text/html; charset=utf-8"),
        (b"<html/>" + bytes(200), "text/html"),
    ],
)
def test_a_page_instead_of_data_is_said_to_be_that(content: bytes, kind: str) -> None:
    """A captive portal or an index page for missing paths is no forgery: nothing that is signed begins like it."""
    with Server(answer(content, "200 OK", f"Content-Type: {kind}")) as server, open_http(server) as peer:
        with pytest.raises(
            WebPageError, match=r"127\.0\.0\.1:\d+ answered a with a web page instead of data"
        ) as caught:
            peer.get("a", 100)
        assert len(server.requests) == 1
    assert "captive portal" in caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("content", [b' {"signed": {}}', b"ARROW1\0\0"])
def test_data_that_is_declared_as_a_page_is_data(content: bytes) -> None:
    """Plain file servers declare what they do not know as HTML; the bytes decide."""
    with Server(answer(content, "200 OK", "Content-Type: text/html")) as server, open_http(server) as peer:
        assert peer.get("a", 100) == content


def test_a_page_of_a_firewall_is_said_to_be_that() -> None:
    """403 with a page is not yet the peer's own refusal: it keeps the status, and the hint names both."""
    refused = answer(b"<html>blocked</html>", "403 Forbidden", "Content-Type: text/html")
    with (
        Server(refused) as server,
        open_http(server) as peer,
        pytest.raises(HttpStatusError, match="answered 403 to a with a web page") as caught,
    ):
        peer.get("a", 100)
    assert "a firewall in front of the peer" in caught.value.hint
    assert caught.value.page


def test_a_page_instead_of_a_segment_is_said_to_be_that(tmp_path: Path) -> None:
    """Its length differs from the signed one, but that is not the news."""
    page = answer(b"<html/>", "200 OK", "Content-Type: text/html")
    with Server(page) as server, open_http(server) as peer, pytest.raises(WebPageError):
        peer.download("a", tmp_path / "part", len(BODY), SHA256)


def test_a_file_that_a_cache_does_not_know_yet_is_asked_for_again(tmp_path: Path) -> None:
    """What verified metadata names was published before: a 404 may be older than the file."""
    with Server(answer(b"no", "404 Not Found"), answer(BODY)) as server, open_http(server) as peer:
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
        assert ["cache-control: no-cache" in request.lower() for request in server.requests] == [False, True]
    with Server(answer(b"no", "404 Not Found"), answer(b"hello")) as server, open_http(server) as peer:
        assert peer.get_named("a", 100) == b"hello"
        assert ["cache-control: no-cache" in request.lower() for request in server.requests] == [False, True]


def test_a_file_that_is_missing_past_caches_is_a_stale_mirror(tmp_path: Path) -> None:
    """A mirror that has the metadata and not yet the files that it names lags behind."""
    with Server(answer(b"no", "404 Not Found")) as server, open_http(server) as peer:
        with pytest.raises(StaleMirrorError, match=r"stale mirror: a, which verified metadata names, is not there"):
            peer.get_named("a", 100)
        with pytest.raises(StaleMirrorError, match=r"stale mirror: a, which verified metadata names, is not there"):
            peer.download("a", tmp_path / "part", len(BODY), SHA256)
        assert len(server.requests) == 4


def test_stream_yields_chunks_and_may_be_left_early() -> None:
    """A caller that has seen enough closes the stream, and the peer stays usable."""
    with Server(answer(BODY)) as server, open_http(server) as peer:
        chunks = peer.stream("a", len(BODY))
        assert BODY.startswith(next(chunks))
        chunks.close()  # type: ignore[attr-defined]  # a generator
        assert b"".join(peer.stream("a", len(BODY))) == BODY


def test_unasked_compression_is_refused() -> None:
    """A compressed body would not have the bytes that were signed, and could unpack without end."""
    with (
        Server(answer(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip")) as server,
        open_http(server) as peer,
        pytest.raises(SourceError, match="compressed, though not asked to"),
    ):
        peer.get("a", 100)


def test_announced_length_over_the_limit_is_refused_before_the_body() -> None:
    """A file announced as too large is refused without waiting for one byte of it."""
    with (
        Server(answer(b"", length=101)) as server,
        open_http(server) as peer,
        pytest.raises(SourceError, match="a is larger than the 100 bytes allowed"),
    ):
        peer.get("a", 100)


def test_endless_body_ends_at_the_limit() -> None:
    """A body without announced length is cut off at the limit."""
    sizes = list[int]()
    with (
        Server(endless) as server,
        open_http(server) as peer,
        pytest.raises(SourceError, match="larger than the 200000 bytes allowed"),
    ):
        sizes.extend(len(chunk) for chunk in peer.stream("a", 200_000))
    assert sum(sizes) <= 200_000


def test_body_shorter_than_announced_is_truncated() -> None:
    """A connection that closes in the middle of a body is a `TruncatedError`, after three attempts."""
    with Server(then_close(answer(b"half", length=8))) as server, open_http(server) as peer:
        with pytest.raises(TruncatedError, match="broke the connection at a"):
            peer.get("a", 100)
        assert len(server.requests) == 3


def test_body_longer_than_announced_is_cut() -> None:
    """Surplus bytes are never part of the body."""
    with Server(then_close(answer(b"right", length=5) + b"surplus")) as server, open_http(server) as peer:
        assert peer.get("a", 100) == b"right"


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://[::broken\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
def test_garbage_is_a_source_error(garbage: bytes) -> None:
    """An answer that is no HTTP ends in one of our errors, never in one of a library."""
    with (
        Server(then_close(garbage)) as server,
        open_http(server) as peer,
        pytest.raises(SourceError) as caught,
    ):
        list(peer.stream("a", 100))
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["", "/a", "a//b", "../a", "a/..", "./a", "a?b", "http://evil.example/", "a\r\nb", "%2e%2e/a"]
)
def test_paths_cannot_leave_the_address(path: str, tmp_path: Path) -> None:
    """A path that could lead elsewhere is refused before anything is sent, by either kind of peer."""
    with Server(answer(b"hello")) as server, open_http(server) as peer, FilePeer(tmp_path, Deadline(5)) as folder:
        for any_peer in (peer, folder):
            with pytest.raises(SourceError, match="a path that cannot be in a feed"):
                any_peer.get(path, 100)
        assert server.requests == []


# --- statuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "--token-file"),
        (403, "grant the list"),
        (404, "check the url"),
        (410, "next sync"),
        (429, "interval"),
        (204, "next sync"),
        (206, "next sync"),
    ],
)
def test_statuses_carry_a_hint_and_are_not_retried(status: int, hint: str) -> None:
    """A refusal says what to do next and is asked for once only."""
    reply = f"HTTP/1.1 {status} X\r\n" + ("\r\n" if status == 204 else "Content-Length: 0\r\n\r\n")
    with Server(reply.encode()) as server, open_http(server) as peer:
        with pytest.raises(HttpStatusError, match=f"answered {status} to a") as caught:
            peer.get("a", 100)
        assert len(server.requests) == 1
    assert caught.value.status == status
    assert hint in caught.value.hint
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    """Retry-After is understood in both of its forms, by the injected clock."""
    reply = answer(b"", "429 Too Many Requests", f"Retry-After: {header}")
    with (
        Server(reply) as server,
        open_http(server, now=lambda: NOON) as peer,
        pytest.raises(HttpStatusError) as caught,
    ):
        peer.get("a", 100)
    assert caught.value.retry_after == seconds


def test_server_trouble_is_tried_three_times() -> None:
    """A 5xx is tried again, and the third answer counts."""
    with Server(answer(b"", "502 Bad Gateway"), answer(b"", "503 Busy"), answer(b"ok")) as server:
        with open_http(server) as peer:
            assert peer.get("a", 100) == b"ok"
        assert len(server.requests) == 3


def test_a_peer_that_asks_for_a_long_pause_is_not_pressed() -> None:
    """A Retry-After beyond a few seconds is for the next sync, not for us to wait out."""
    with Server(answer(b"", "503 Busy", "Retry-After: 600")) as server, open_http(server) as peer:
        with pytest.raises(HttpStatusError, match="and asks to wait 600 s") as caught:
            peer.get("a", 100)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 600


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://evil.example/steal?token=hunter2", "evil.example"),
        ("http://feed.example.org/plain", "feed.example.org"),
        ("/elsewhere/hunter2", r"127\.0\.0\.1:\d+"),
    ],
)
def test_redirects_are_refused_and_named_by_host(location: str, named: str) -> None:
    """A redirect is never followed; the message names the host it pointed to and nothing more."""
    with Server(answer(b"", "302 Found", f"Location: {location}")) as server, open_http(server) as peer:
        with pytest.raises(SourceError, match=f"redirects a to {named}; redirects are not followed") as caught:
            peer.get("a", 100)
        assert len(server.requests) == 1
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, HttpStatusError)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("http://other.example/a", "other.example"),
        ("https://other.example/a", "other.example"),
        ("//other.example/a", "other.example"),
        ("http://feed.example.org/a", "feed.example.org"),
    ],
)
def test_no_redirect_takes_the_token_elsewhere(status: int, location: str, named: str) -> None:
    """Neither to another host, by TLS or without, nor in the clear to the same: nobody but the peer is asked."""
    endpoint = Endpoint("https://feed.example.org/", "hunter2")
    with respx.mock(assert_all_called=False) as mock, open_peer(endpoint, Deadline(30)) as peer:
        mock.get("https://feed.example.org/a").respond(status, headers={"Location": location})
        mock.get(host="other.example").respond(200, content=b"x")
        mock.get(scheme="http").respond(200, content=b"x")
        with pytest.raises(SourceError, match=f"feed.example.org redirects a to {named}; redirects"):
            peer.get("a", 100)
        assert [str(call.request.url) for call in mock.calls] == ["https://feed.example.org/a"]


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slow",
    [
        drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(answer(b"", length=1000), b"y"),
        silent,
        endless,
    ],
    ids=["dripping header", "endless 1xx", "dripping body", "silence", "endless body"],
)
def test_the_deadline_holds_whatever_the_peer_does(slow: Answer) -> None:
    """A peer that is slow in any way is left when the deadline comes."""
    with (
        Server(slow) as server,
        open_http(server, 0.3) as peer,
        ends_within(2),
        pytest.raises(DeadlineExceeded),
    ):
        for _ in peer.stream("a", 1 << 40):
            pass


def test_a_dripping_handshake_ends_by_the_deadline() -> None:
    """TLS bytes that come one at a time do not extend the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener, threading_drip(listener):
        endpoint = Endpoint(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        with HttpPeer(endpoint, Deadline(0.3)) as peer, ends_within(2), pytest.raises(DeadlineExceeded):
            peer.get("a", 100)


@contextlib.contextmanager
def threading_drip(listener: socket.socket) -> Iterator[None]:
    ended = threading.Event()

    def play() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            drip(b"\x16\x03\x03\x40\x00", b"\x02")(connection, ended)  # type: ignore[operator]  # a callable answer

    thread = threading.Thread(target=play)
    thread.start()
    yield
    ended.set()
    thread.join(5)


def test_silence_is_left_before_the_deadline() -> None:
    """A peer that says nothing for the inactivity limit is left even though the deadline is far."""
    with (
        Server(silent) as server,
        open_http(server, 30, inactivity=0.1) as peer,
        ends_within(2),
        pytest.raises(SourceError, match="stopped responding at a") as caught,
    ):
        list(peer.stream("a", 100))
    assert not isinstance(caught.value, DeadlineExceeded)


def test_a_hanging_name_look_up_ends_by_the_deadline() -> None:
    """A name service that does not answer is left waiting in its own thread."""
    never = threading.Event()

    def resolve(_: str, __: int) -> list[str]:
        never.wait(10)
        return []

    backend = BoundedBackend(Deadline(0.1), resolve)
    with ends_within(2), pytest.raises(DeadlineExceeded):
        backend.connect_tcp("feed.example.org", 443, timeout=10)
    never.set()


def test_each_address_of_a_name_is_tried() -> None:
    """Where the first address of a host refuses, the next one is taken."""
    with Server(answer(b"x")) as server:
        backend = BoundedBackend(Deadline(5), lambda _, __: ["127.0.0.9", "127.0.0.1"])
        stream = backend.connect_tcp("feed.example.org", server.port, timeout=1)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        stream.close()


def test_a_wait_for_a_free_connection_ends_by_the_deadline() -> None:
    """With all connections busy until the deadline, that is what the error says."""
    moments = [0.0]

    def wait(_: httpx.Request) -> httpx.Response:
        moments[0] = 11.0
        raise httpx.PoolTimeout("busy")

    deadline = Deadline(10, clock=lambda: moments[0])
    with respx.mock() as mock, open_peer(Endpoint("https://feed.example.org/"), deadline) as peer:
        mock.get("https://feed.example.org/a").mock(side_effect=wait)
        with pytest.raises(DeadlineExceeded):
            list(peer.stream("a", 100))


def test_nothing_is_sent_after_the_deadline() -> None:
    """An operation that starts too late fails at once."""
    moments = [0.0]
    deadline = Deadline(10, clock=lambda: moments[0])
    with Server(answer(b"hello")) as server:
        with HttpPeer(Endpoint(server.url), deadline) as peer:
            moments[0] = 11.0
            with pytest.raises(DeadlineExceeded):
                peer.get("a", 100)
        assert server.requests == []


def test_there_is_no_further_attempt_where_its_wait_might_pass_the_deadline() -> None:
    """Short of time, the first failure is reported instead of being waited out."""
    with Server(answer(b"", "502 Bad Gateway")) as server, open_http(server, 4) as peer:
        with pytest.raises(HttpStatusError):
            peer.get("a", 100)
        assert len(server.requests) == 1


# --- connections ----------------------------------------------------------------------------------------------------


def test_a_closed_port_is_unreachable() -> None:
    """A refused connection says who could not be reached, and why."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        open_peer(Endpoint(f"http://127.0.0.1:{port}/"), Deadline(30)) as peer,
        pytest.raises(SourceError, match=f"127.0.0.1:{port} cannot be reached: Connection refused") as caught,
    ):
        peer.get("a", 100)
    hint = "check that the server is running, that the url is right, and that no firewall blocks the connection"
    assert caught.value.hint == hint


def test_an_unknown_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that does not resolve is said to be that."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with (
        open_peer(Endpoint("https://feed.invalid/"), Deadline(30)) as peer,
        pytest.raises(SourceError, match=r"the host name feed\.invalid cannot be resolved"),
    ):
        peer.get("a", 100)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.ReadError("x"),
        httpx.WriteError("x"),
        httpx.PoolTimeout("x"),
        httpx.RemoteProtocolError("x"),
        httpx.LocalProtocolError("x"),
        httpx.UnsupportedProtocol("x"),
        httpx.ProxyError("x"),
        httpx.InvalidURL("x"),
        httpcore.ConnectError("x"),
        httpcore.ReadTimeout("x"),
        httpcore.WriteError("x"),
        httpcore.LocalProtocolError("x"),
        httpcore.ConnectionNotAvailable("x"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_no_library_exception_leaks(error: Exception) -> None:
    """Whatever the HTTP libraries raise becomes a `SourceError` with a hint."""
    with respx.mock() as mock, open_peer(Endpoint("https://feed.example.org/"), Deadline(30)) as peer:
        mock.get("https://feed.example.org/a").mock(side_effect=error)
        with pytest.raises(SourceError) as caught:
            peer.get("a", 100)
    assert caught.value.hint


def test_connections_are_reused() -> None:
    """One connection serves one request after another."""
    ports = set()
    with Server(answer(b"hello")) as server, open_http(server) as peer:
        original = socket.socket.connect

        def connect(self: socket.socket, address: tuple[str, int]) -> None:
            ports.add(id(self))
            original(self, address)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", connect)
            for _ in range(5):
                peer.get("a", 100)
    assert len(ports) == 1


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@contextlib.contextmanager
def tls_server(certificate: tuple[Path, Path], connections: int, *, ask: bool = False) -> Iterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    if ask:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate[0])

    def play() -> None:
        for _ in range(connections):
            plain, _address = listener.accept()
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(answer(b"hello", "200 OK", "Connection: close"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(5)


def test_tls_with_the_peers_own_authority(certificate: tuple[Path, Path]) -> None:
    """``ca`` makes a private authority trusted, and the client certificate is shown."""
    with tls_server(certificate, 1, ask=True) as url:
        endpoint = Endpoint(url, ca=certificate[0], client_cert=certificate[0], client_key=certificate[1])
        with open_peer(endpoint, Deadline(5)) as peer:
            assert peer.get("a", 100) == b"hello"


def test_tls_with_an_unknown_authority_is_refused(certificate: tuple[Path, Path]) -> None:
    """A certificate that nobody vouches for ends the attempt, once, with what to do."""
    with (
        tls_server(certificate, 1) as url,
        open_peer(Endpoint(url), Deadline(30)) as peer,
        pytest.raises(SourceError, match="is not trusted: self-signed certificate") as caught,
    ):
        peer.get("a", 100)
    assert "as ca (`--ca`)" in caught.value.hint


def test_certificate_files_are_checked_when_opening(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """A missing or wrong PEM file is a mistake of the configuration; the message says which."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not PEM")
    url = "https://feed.example.org/"
    cases = [
        (Endpoint(url, ca=tmp_path / "none.pem"), "the certificate authority: cannot read"),
        (Endpoint(url, ca=wrong), "the certificate authority: .* holds no usable PEM"),
        (Endpoint(url, client_cert=wrong), "the client certificate: .* holds no usable PEM"),
        (Endpoint(url, client_cert=certificate[0]), "the client certificate: .* holds no usable PEM"),
    ]
    for endpoint, message in cases:
        with pytest.raises(UsageError, match=message):
            open_peer(endpoint, Deadline(5))


# --- downloads ------------------------------------------------------------------------------------------------------


def test_download_writes_and_proves(tmp_path: Path) -> None:
    """A download is a private file of the signed length and hash, and progress adds up to its length."""
    target, gained = tmp_path / "part", list[int]()
    with Server(answer(BODY)) as server, open_http(server) as peer:
        peer.download("a", target, len(BODY), SHA256, gained.append)
        assert "range:" not in server.requests[0].lower()
    assert target.read_bytes() == BODY
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sum(gained) == 1_048_576


def test_download_continues_an_earlier_part(tmp_path: Path) -> None:
    """What an earlier try left is kept: only the rest is asked for."""
    target, gained = tmp_path / "part", list[int]()
    target.write_bytes(BODY[:1000])
    target.chmod(0o644)
    rest = answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 1000-1048575/1048576")
    with Server(rest) as server, open_http(server) as peer:
        peer.download("a", target, len(BODY), SHA256, gained.append)
        assert "range: bytes=1000-" in server.requests[0].lower()
    assert target.read_bytes() == BODY
    assert sum(gained) == 1_048_576
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_download_resumes_within_one_call_after_a_break(tmp_path: Path) -> None:
    """A body that breaks off is continued where it broke, by the next attempt."""
    target = tmp_path / "part"
    rest = answer(BODY[500_000:], "206 Partial Content", "Content-Range: bytes 500000-1048575/1048576")
    with Server(then_close(answer(BODY[:500_000], length=len(BODY))), rest) as server, open_http(server) as peer:
        peer.download("a", target, len(BODY), SHA256)
        assert "range: bytes=500000-" in server.requests[1].lower()
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "first",
    [
        answer(BODY),
        answer(BODY, "416 Range Not Satisfiable"),
        answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 999-1048575/1048576"),
        answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 1000-1048575/9999999"),
        answer(BODY[1000:], "206 Partial Content"),
    ],
    ids=["200", "416", "206 of another start", "206 of another file", "206 of nothing"],
)
def test_download_starts_over_where_the_peer_cannot_continue(tmp_path: Path, first: bytes) -> None:
    """A peer that ignores or garbles the range costs the part, not the download."""
    target, gained = tmp_path / "part", list[int]()
    target.write_bytes(BODY[:1000])
    with Server(first, answer(BODY)) as server, open_http(server) as peer:
        peer.download("a", target, len(BODY), SHA256, gained.append)
    assert target.read_bytes() == BODY
    assert sum(gained) == 1_048_576
    assert sum(count for count in gained if count > 0) == 1000 + 1_048_576


@pytest.mark.parametrize(
    "left", [b"?" * 1000, OTHER, BODY + b"surplus"], ids=["spoilt", "complete but wrong", "too long"]
)
def test_a_spoilt_part_is_no_fault_of_the_peer(tmp_path: Path, left: bytes) -> None:
    """A part damaged by a power cut is fetched anew before anybody is accused."""
    target = tmp_path / "part"
    target.write_bytes(left)
    rest = answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 1000-1048575/1048576")
    script = [rest, answer(BODY)] if len(left) == 1000 else [answer(BODY)]
    with Server(*script) as server, open_http(server) as peer:
        peer.download("a", target, len(BODY), SHA256)
        assert "range:" not in server.requests[-1].lower()
    assert target.read_bytes() == BODY


def test_a_spoilt_piece_is_no_fault_of_the_peer_either(tmp_path: Path) -> None:
    """An error page that breaks off and is then continued with the right rest is fetched anew as well."""
    page = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"?" * 1000 + b"\r\n"
    rest = answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 1000-1048575/1048576")
    with Server(then_close(page), rest, answer(BODY)) as server, open_http(server) as peer:
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
        assert len(server.requests) == 3
    assert (tmp_path / "part").read_bytes() == BODY


def test_a_body_that_ends_early_without_announcement_is_truncated(tmp_path: Path) -> None:
    """Fewer bytes than were signed are no mismatch: the peer may have the rest later, and these are kept."""
    short = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with (
        Server(short) as server,
        open_http(server, 4) as peer,
        pytest.raises(TruncatedError, match="a: 5 of 1048576 bytes arrived"),
    ):
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
    assert (tmp_path / "part").read_bytes() == b"hello"


def test_a_finished_part_needs_no_request(tmp_path: Path) -> None:
    """A part that is complete and proves right is not fetched again."""
    target = tmp_path / "part"
    target.write_bytes(BODY)
    with Server(answer(b"")) as server:
        with open_http(server) as peer:
            peer.download("a", target, len(BODY), SHA256)
        assert server.requests == []


def test_download_of_other_bytes_is_a_mismatch_and_leaves_nothing(tmp_path: Path) -> None:
    """Bytes that are not the signed ones are removed at once, asked for once, and no hash is shown."""
    target, gained = tmp_path / "part", list[int]()
    with Server(answer(OTHER)) as server, open_http(server) as peer:
        with pytest.raises(MismatchError, match="a is not the file that was signed") as caught:
            peer.download("a", target, len(BODY), SHA256, gained.append)
        assert len(server.requests) == 1
    assert not target.exists()
    assert sum(gained) == 0
    assert SHA256 not in str(caught.value)


@pytest.mark.parametrize(
    ("left", "script", "came"),
    [
        (b"", [answer(BODY)], 1_048_576),
        (b"", [answer(OTHER)], 1_048_576),
        (
            BODY[:1000],
            [answer(BODY[1000:], "206 Partial Content", "Content-Range: bytes 1000-1048575/1048576")],
            1_047_576,
        ),
        (BODY[:1000], [answer(BODY)], 1_048_576),
        (BODY, [answer(b"")], 0),
        (b"", [answer(b"no such file", "404 Not Found")], 0),
        (b"", [then_close(answer(BODY[:1000], length=len(BODY))), answer(BODY)], 1_049_576),
    ],
    ids=["whole", "refused", "continued", "started over", "here already", "no such file", "cut off, then whole"],
)
def test_each_byte_that_came_is_counted_once(tmp_path: Path, left: bytes, script: list[bytes], came: int) -> None:
    """Whatever became of it; not what an earlier try left, and no body that nobody reads."""
    target = tmp_path / "part"
    target.write_bytes(left)
    with Server(*script) as server, open_http(server) as peer:
        with contextlib.suppress(SourceError, MismatchError):
            peer.download("a", target, len(BODY), SHA256)
        assert peer.meter.total == came


def test_truncated_download_keeps_its_part(tmp_path: Path) -> None:
    """A peer that always breaks off leaves a part for the next sync to continue."""
    target = tmp_path / "part"
    with (
        Server(then_close(answer(BODY[:1000], length=len(BODY)))) as server,
        open_http(server, 4) as peer,
        pytest.raises(TruncatedError),
    ):
        peer.download("a", target, len(BODY), SHA256)
    assert target.read_bytes() == BODY[:1000]


def test_a_page_of_another_length_does_not_cost_the_part(tmp_path: Path) -> None:
    """A log-in page that answers in the peer's place is recognised by its length before the part is touched."""
    target = tmp_path / "part"
    target.write_bytes(BODY[:1000])
    with (
        Server(answer(b"<html>log in</html>")) as server,
        open_http(server) as peer,
        pytest.raises(TruncatedError, match="a has 19 bytes at the peer, not 1048576"),
    ):
        peer.download("a", target, len(BODY), SHA256)
    assert target.read_bytes() == BODY[:1000]


def test_endless_download_never_exceeds_its_length(tmp_path: Path) -> None:
    """More bytes than were signed are never written."""
    target = tmp_path / "part"
    with (
        Server(endless) as server,
        open_http(server) as peer,
        pytest.raises(TruncatedError, match="the peer sent more than the 1000000 bytes that were signed"),
    ):
        peer.download("a", target, 1_000_000, SHA256)
    assert target.stat().st_size <= 1_000_000


def test_download_of_a_refused_file_is_asked_for_once(tmp_path: Path) -> None:
    """A 403 is not retried."""
    with Server(answer(b"", "403 Forbidden")) as server, open_http(server) as peer:
        with pytest.raises(HttpStatusError):
            peer.download("a", tmp_path / "part", len(BODY), SHA256)
        assert len(server.requests) == 1


def test_download_does_not_write_through_a_symlink(tmp_path: Path) -> None:
    """A link planted under the staging name is refused, and what it points to is left alone."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "part").symlink_to("victim")
    with (
        Server(answer(BODY)) as server,
        open_http(server) as peer,
        pytest.raises(StoreError),
    ):
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_full_disk_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is ours, not the peer's: it is said so and not retried."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with Server(answer(BODY)) as server, open_http(server) as peer:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            peer.download("a", tmp_path / "part", len(BODY), SHA256)
        assert len(server.requests) == 1
    assert "free disk space" in caught.value.hint


# --- many at once ---------------------------------------------------------------------------------------------------


def small(count: int, folder: Path) -> Sequence[Download]:
    digest = hashlib.sha256(b"hello").hexdigest()
    return [Download(f"f{number}", folder / f"part{number}", 5, digest) for number in range(count)]


def test_download_all_fetches_every_file_once(tmp_path: Path) -> None:
    """All files arrive, a target named twice is fetched once, and progress adds up."""
    gained = list[int]()
    jobs = [*small(10, tmp_path), *small(1, tmp_path)]
    with Server(answer(b"hello")) as server, open_http(server) as peer:
        download_all(peer, jobs, parallel=3, progress=gained.append)
        assert len(server.requests) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"part{number}" for number in range(10))
    assert sum(gained) == 50


class HalfBroken(FilePeer):
    """Gives ``big`` for ever; has nothing else, and says so once ``big`` is under way."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Deadline(30))
        self.asked, self.under_way = list[str](), threading.Event()

    @contextlib.contextmanager
    def open_tail(self, path: str, start: int, length: int, *, fresh: bool = False) -> Iterator[Tail]:
        self.asked.append(path)
        if path != "big":
            self.under_way.wait(5)
            raise HttpStatusError("no such file", 410)
        yield Tail(0, self._ones())

    def _ones(self) -> Iterator[bytes]:
        while True:
            yield b"1"
            self.under_way.set()


def test_download_all_raises_the_first_error_and_cancels_the_rest(tmp_path: Path) -> None:
    """After one failure nothing further is begun, what runs is stopped at its next piece, and its part is kept."""
    big = Download("big", tmp_path / "big", 1 << 30, SHA256)
    with HalfBroken(tmp_path) as peer, ends_within(5), pytest.raises(HttpStatusError, match="no such file"):
        download_all(peer, [big, *small(50, tmp_path)], parallel=2)
    assert len(peer.asked) <= 3
    assert 0 < big.target.stat().st_size < 1 << 30


def test_download_all_leaves_a_silent_peer_at_ctrl_c(tmp_path: Path) -> None:
    """It does not wait for the answers that its threads wait for."""
    asked = threading.Event()

    def play(connection: socket.socket, ended: threading.Event) -> None:
        asked.set()
        silent(connection, ended)

    class InterruptedPeer(HttpPeer):
        def download(self, path: str, *arguments: Any) -> None:
            if path == "f1":
                asked.wait(5)
                raise KeyboardInterrupt
            super().download(path, *arguments)

    with (
        Server(play) as server,
        InterruptedPeer(Endpoint(server.url), Deadline(30)) as peer,
        ends_within(9),
        pytest.raises(KeyboardInterrupt),
    ):
        download_all(peer, small(2, tmp_path), parallel=2)


# --- a folder as peer -----------------------------------------------------------------------------------------------


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """A feed folder with one file."""
    folder = tmp_path / "my feed"
    (folder / "v1").mkdir(parents=True)
    (folder / "v1" / "a").write_bytes(BODY)
    return folder


@contextlib.contextmanager
def open_folder(folder: Path, seconds: float = 30) -> Iterator[Peer]:
    with open_peer(Endpoint(f"file://{folder}".replace(" ", "%20")), Deadline(seconds)) as peer:
        yield peer


def test_a_folder_gives_the_same_bytes(feed: Path, tmp_path: Path) -> None:
    """A ``file://`` address reads, continues and proves as a server does."""
    gained = list[int]()
    (tmp_path / "part").write_bytes(BODY[:1000])
    with open_folder(feed) as peer:
        assert peer.get("v1/a", len(BODY)) == BODY
        peer.download("v1/a", tmp_path / "part", len(BODY), SHA256, gained.append)
    assert (tmp_path / "part").read_bytes() == BODY
    assert gained == [1000, 1_047_576]


def test_a_folder_keeps_the_same_limits(feed: Path, tmp_path: Path) -> None:
    """Limit, length and hash are held against a folder too."""
    target = tmp_path / "part"
    with open_folder(feed) as peer:
        with pytest.raises(SourceError, match="larger than the 1000 bytes allowed"):
            peer.get("v1/a", 1000)
        with pytest.raises(TruncatedError, match="has 1048576 bytes at the peer, not 1048577"):
            peer.download("v1/a", target, len(BODY) + 1, SHA256)
        with pytest.raises(MismatchError):
            peer.download("v1/a", target, len(BODY), "0" * 64)
    assert not target.exists()


def test_a_missing_file_in_a_folder_is_a_404(feed: Path) -> None:
    """Callers need one rule for "there is none": a folder answers as a server does."""
    with open_folder(feed) as peer:
        for path in ("v1/none", "v1/a/below"):
            with pytest.raises(HttpStatusError) as caught:
                peer.get(path, 100)
            assert caught.value.status == 404


def test_links_out_of_the_folder_are_refused(feed: Path, tmp_path: Path) -> None:
    """A link may point to another file of the folder, never out of it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (feed / "out").symlink_to(tmp_path / "secret")
    (feed / "up").symlink_to(tmp_path)
    (feed / "in").symlink_to("v1/a")
    (feed / "loop").symlink_to("loop")
    with open_folder(feed) as peer:
        for path in ("out", "up/secret"):
            with pytest.raises(SourceError, match="is a link out of the folder"):
                peer.get(path, 100)
        with pytest.raises(SourceError):
            peer.get("loop", 100)
        assert peer.get("in", len(BODY)) == BODY


@pytest.mark.timeout(10)
def test_what_is_no_file_is_refused(feed: Path) -> None:
    """A folder or a named pipe under a file's name neither hangs nor leaks an exception."""
    os.mkfifo(feed / "pipe")
    with open_folder(feed) as peer:
        for path in ("v1", "pipe"):
            with pytest.raises(SourceError, match="is not a file"):
                peer.get(path, 100)


def test_a_missing_folder_is_a_source_error(tmp_path: Path) -> None:
    """A share that is not mounted is the source's trouble: the next sync tries again."""
    with pytest.raises(SourceError, match="there is no folder") as caught:
        open_peer(Endpoint(f"file://{tmp_path}/none"), Deadline(5))
    assert caught.value.hint == "mount it, or correct the address"


def test_a_folder_keeps_the_deadline(feed: Path) -> None:
    """Reading from a slow share ends by the deadline as well."""
    moments = iter([0.0, 1.0, 11.0])
    peer = FilePeer(feed, Deadline(10, clock=lambda: next(moments)))
    with pytest.raises(DeadlineExceeded):
        list(peer.stream("v1/a", len(BODY)))
