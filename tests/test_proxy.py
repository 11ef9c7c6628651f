"""Fetching by way of an HTTP proxy, which is named and never taken from the environment."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import stamina

from certificates import Authority
from command_line import syncd
from syncd.errors import SourceError, UsageError
from syncd.fetch import Deadline, Endpoint, open_peer
from syncd.matcher import Feed
from syncd.sources.tables import FeedSource
from tunnel import served, tunnel
from world import Clock, World, rows


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture(autouse=True)
def _invalid_names(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def fail_for_invalid(host: str, *rest: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", fail_for_invalid)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def port(tmp_path: Path, authority: Authority) -> Iterator[int]:
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "a").write_bytes(b"hello")
    with served(folder, authority.certificate("server")) as server:
        yield server.port


def get(endpoint: Endpoint) -> bytes:
    with open_peer(endpoint, Deadline(10)) as peer:
        return peer.get("a", 100)


def test_a_proxy_is_asked_for_a_tunnel_and_never_sees_the_token(port: int, authority: Authority) -> None:
    """TLS goes through the proxy to the peer: of a request the proxy learns host and port."""
    target = f"127.0.0.1:{port}"
    with tunnel({target: port}) as proxy:
        assert get(Endpoint(f"https://{target}/", "s3cret-token", authority.file, proxy=proxy.url)) == b"hello"
    assert [request.split("\r\n")[0] for request in proxy.requests] == [f"CONNECT {target} HTTP/1.1"]
    assert "s3cret" not in proxy.requests[0]
    assert "authorization" not in proxy.requests[0].lower()


def test_a_sync_and_a_pull_go_through_the_proxy(tmp_path: Path, authority: Authority) -> None:
    """By the key of the source, and by ``--proxy``: the partner's name is resolved by nobody here."""
    world = World(tmp_path / "world", Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 9))
    with (
        served(world.partner.root, authority.certificate("feed.invalid")) as server,
        tunnel({"feed.invalid:443": server.port}) as proxy,
    ):
        synced = world.sync(url="https://feed.invalid/", ca=authority.file, proxy=proxy.url)
        to = ("--dir", tmp_path / "copy", "--ca", authority.file)
        pulled = syncd("pull", "https://feed.invalid/", "--root", world.root, *to, "--proxy", proxy.url)
    assert (synced.exit_code, pulled.code, pulled.err) == (0, 0, "")
    assert {request.split("\r\n")[0] for request in proxy.requests} == {"CONNECT feed.invalid:443 HTTP/1.1"}


def test_a_proxy_may_speak_tls_itself(port: int, authority: Authority) -> None:
    """The way to the proxy is encrypted too, and its certificate is checked."""
    target = f"127.0.0.1:{port}"
    with tunnel({target: port}, certificate=authority.certificate("proxy")) as proxy:
        assert proxy.url.startswith("https://")
        assert get(Endpoint(f"https://{target}/", ca=authority.file, proxy=proxy.url)) == b"hello"
        with pytest.raises(SourceError, match=r"the certificate of .* is not trusted"):
            get(Endpoint(f"https://{target}/", proxy=proxy.url))
    assert len(proxy.requests) == 1


def test_the_peers_certificate_is_checked_through_the_proxy(port: int) -> None:
    """A proxy that answers in the peer's place is not believed."""
    target = f"127.0.0.1:{port}"
    with (
        tunnel({target: port}) as proxy,
        pytest.raises(SourceError, match=rf"{target} \(by way of the proxy {proxy.host}\) is not trusted"),
    ):
        get(Endpoint(f"https://{target}/", proxy=proxy.url))
    assert len(proxy.requests) == 1


def test_the_proxy_resolves_the_peers_name(port: int, authority: Authority) -> None:
    """A name that this machine cannot resolve is the proxy's business; its certificate is checked for that name."""
    with (
        tunnel({"feed.invalid:443": port}) as proxy,
        pytest.raises(SourceError, match=r"feed\.invalid.* is not trusted: Hostname mismatch"),
    ):
        get(Endpoint("https://feed.invalid/", ca=authority.file, proxy=proxy.url))
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("status", "attempts", "hint"),
    [
        (403, 1, "ask the proxy's operator to permit CONNECT to feed.invalid"),
        (407, 1, "syncd sends no user name or password"),
        (502, 2, "the proxy cannot reach or resolve that host"),
    ],
)
def test_a_proxy_that_refuses_is_named(status: int, attempts: int, hint: str) -> None:
    """The fault is at the proxy, not at the peer, and only a failure that may pass is tried again."""
    with tunnel({}, status) as proxy:
        message = f"the proxy {proxy.host} does not connect to feed.invalid: it answered {status}"
        with pytest.raises(SourceError, match=message) as caught:
            get(Endpoint("https://feed.invalid/", proxy=proxy.url))
    assert hint in caught.value.hint
    assert len(proxy.requests) == attempts


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("http://proxy.invalid:3128", r"the host name of the proxy proxy\.invalid:3128 cannot be resolved"),
        ("http://127.0.0.1:1", r"the proxy 127\.0\.0\.1:1 cannot be reached: Connection refused"),
    ],
)
def test_a_proxy_without_a_connection_is_named(proxy: str, message: str) -> None:
    """Neither its name nor its port is taken for the peer's."""
    with pytest.raises(SourceError, match=message) as caught:
        get(Endpoint("https://feed.invalid/", proxy=proxy))
    assert "feed.invalid was not asked" in caught.value.hint


def test_a_name_that_cannot_be_resolved_points_to_the_proxy() -> None:
    """Where a proxy is the only way out, look-ups fail first, so the error says how to name one."""
    with pytest.raises(SourceError, match=r"the host name feed\.invalid cannot be resolved") as caught:
        get(Endpoint("https://feed.invalid/"))
    assert "--proxy" in caught.value.hint
    assert "HTTPS_PROXY are not used" in caught.value.hint


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:hunter2@proxy.example.org:3128",
        "socks5://proxy.example.org:1080",
        "proxy.example.org:3128",
        "http://",
        "http://proxy.example.org/path",
        "http://proxy.example.org/?hunter2",
        "http://proxy.example.org:port",
        "",
    ],
)
def test_an_address_that_is_no_proxy_is_refused(proxy: str) -> None:
    """A password would be readable for others; every message says what to write and repeats no secret."""
    with pytest.raises(UsageError, match="the proxy: ") as caught:
        Endpoint("https://feed.example.org/", proxy=proxy)
    assert "http://HOST:PORT" in caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8470/", "file:///srv/feed"])
def test_only_https_goes_through_a_proxy(url: str) -> None:
    """Without TLS the proxy would read the list and the token."""
    with pytest.raises(UsageError, match="a proxy cannot be used with"):
        Endpoint(url, proxy="http://proxy.example.org:3128")
    table = FeedSource.model_validate({"url": url, "root": "/root.json", "proxy": "http://proxy.example.org:3128"})
    assert (table.fault() or ("",))[0] == "proxy"


def test_a_matchers_feed_and_its_events_use_the_proxy(tmp_path: Path) -> None:
    """What pulls uses the proxy, and so do the event stream and the check-ins."""
    endpoint = Feed("https://syncd.internal/feed/", proxy="http://proxy.internal:3128").endpoint()
    assert endpoint.proxy == "http://proxy.internal:3128/"
    assert endpoint.api is not None
    assert endpoint.api.proxy == endpoint.proxy
