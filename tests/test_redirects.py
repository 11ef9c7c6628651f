"""Redirects to permitted hosts, such as an object store with addresses that are signed for some minutes."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from bad_peer import BadPeer, answer, serve
from certificates import Authority
from syncd.errors import SourceError, UsageError
from syncd.fetch import Deadline, Endpoint, open_peer
from syncd.fetch.api import check_in
from syncd.matcher import Feed
from tunnel import Served, served

BODY = b"ARROW1" + bytes(1000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def store(tmp_path: Path, authority: Authority) -> Iterator[Served]:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "a").write_bytes(BODY)
    with served(folder, authority.certificate("store")) as server:
        yield server


@pytest.fixture
def feed(tmp_path: Path, store: Served) -> Iterator[BadPeer]:
    """A feed that redirects ``a`` to the store."""
    with serve(tmp_path) as peer:
        peer.fault("a", answer(302, Location=f"https://127.0.0.1:{store.port}/a?X-Signature=hunter2%2Fx"))
        yield peer


def endpoint(feed: BadPeer, authority: Authority, *hosts: str) -> Endpoint:
    return Endpoint(feed.url, "s3cret-token", authority.file, redirects=hosts)


def test_a_permitted_host_gets_the_request_without_the_token(
    feed: BadPeer, store: Served, authority: Authority, tmp_path: Path
) -> None:
    """The file comes from there and is proved by its hash; its address is passed on as it is."""
    with open_peer(endpoint(feed, authority, f"127.0.0.1:{store.port}"), Deadline(10)) as peer:
        assert peer.get("a", 2000) == BODY
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
    assert (tmp_path / "part").read_bytes() == BODY
    assert len(store.requests) == 2
    assert store.requests[0].startswith("GET /a?X-Signature=hunter2%2Fx HTTP/1.1\n")
    assert "s3cret" not in "".join(store.requests)
    assert "authorization" not in "".join(store.requests).lower()


def test_a_download_goes_on_at_the_store(feed: BadPeer, store: Served, authority: Authority, tmp_path: Path) -> None:
    """The range reaches the store, and each attempt gets an address of its own from the feed."""
    (tmp_path / "part").write_bytes(BODY[:100])
    with open_peer(endpoint(feed, authority, f"127.0.0.1:{store.port}"), Deadline(10)) as peer:
        peer.download("a", tmp_path / "part", len(BODY), SHA256)
    assert "Range: bytes=100-" in store.requests[0]
    assert (tmp_path / "part").read_bytes() == BODY


def test_any_other_host_is_refused_and_named(feed: BadPeer, store: Served, authority: Authority) -> None:
    """Nothing is asked there, and the error names host and cure, not the address, which opens the file."""
    with (
        open_peer(endpoint(feed, authority, "objects.example.org"), Deadline(10)) as peer,
        pytest.raises(
            SourceError, match=rf"redirects a to 127\.0\.0\.1:{store.port}; redirects are not followed"
        ) as caught,
    ):
        peer.get("a", 2000)
    assert "`redirects` of the source" in caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert store.requests == []


def test_a_permitted_host_is_asked_with_https_only(feed: BadPeer, authority: Authority) -> None:
    """Without TLS everybody on the way could read the list."""
    feed.fault("a", answer(302, Location="http://objects.example.org/a?hunter2"))
    with (
        open_peer(endpoint(feed, authority, "objects.example.org"), Deadline(10)) as peer,
        pytest.raises(SourceError, match=r"redirects a to objects\.example\.org, but not with https://") as caught,
    ):
        peer.get("a", 2000)
    assert "hunter2" not in str(caught.value)


def test_redirects_end(tmp_path: Path, feed: BadPeer, authority: Authority) -> None:
    """Two hosts that point at each other cost three requests."""
    with served(tmp_path, authority.certificate("loop"), redirect="/a") as loop:
        feed.fault("a", answer(302, Location=f"https://127.0.0.1:{loop.port}/a"))
        with (
            open_peer(endpoint(feed, authority, f"127.0.0.1:{loop.port}"), Deadline(10)) as peer,
            pytest.raises(SourceError, match=rf"127\.0\.0\.1:{loop.port} redirects a .* too often"),
        ):
            peer.get("a", 2000)
        assert len(loop.requests) == 3


def test_errors_of_the_store_name_the_store(feed: BadPeer, store: Served, authority: Authority) -> None:
    """A missing file, an unknown certificate, a closed port: the fault is there, not at the feed."""
    there = f"127.0.0.1:{store.port}"
    feed.fault("gone", answer(302, Location=f"https://{there}/gone?hunter2"))
    feed.fault("closed", answer(302, Location="https://127.0.0.1:1/a?hunter2"))
    hosts = (there, "127.0.0.1:1")
    unknown = Endpoint(feed.url, redirects=hosts)
    assert refused(endpoint(feed, authority, *hosts), "gone").startswith(f"{there} answered 404 to gone")
    assert refused(unknown, "a").startswith(f"the certificate of {there} is not trusted")
    assert refused(endpoint(feed, authority, *hosts), "closed").startswith("127.0.0.1:1 cannot be reached")


def refused(endpoint: Endpoint, path: str) -> str:
    with open_peer(endpoint, Deadline(10)) as peer, pytest.raises(SourceError) as caught:
        peer.get(path, 2000)
    text = f"{caught.value} {caught.value.hint}"
    assert "hunter2" not in text
    return text


def test_the_signed_address_is_not_logged(
    feed: BadPeer, store: Served, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A matcher's process may log what libraries report; the address would open the file to readers of the log."""
    with (
        caplog.at_level(logging.INFO),
        open_peer(endpoint(feed, authority, f"127.0.0.1:{store.port}"), Deadline(10)) as peer,
    ):
        peer.get("a", 2000)
    assert "hunter2" not in caplog.text


def test_check_ins_are_not_redirected(feed: BadPeer, store: Served, authority: Authority) -> None:
    """They say which versions are loaded, to the operator alone."""
    feed.fault("checkin", answer(302, Location=f"https://127.0.0.1:{store.port}/a"))
    with pytest.raises(SourceError, match="redirects checkin to"):
        check_in(endpoint(feed, authority, f"127.0.0.1:{store.port}"), "host", {}, Deadline(10))
    assert store.requests == []


@pytest.mark.parametrize("host", ["", "*.example.org", "https://objects.example.org", "objects.example.org/a", "a@b"])
def test_a_permitted_host_is_a_name_or_an_address(host: str) -> None:
    """A pattern or an address with a path would promise more than is compared."""
    with pytest.raises(UsageError, match="redirects: not the name of a host") as caught:
        Endpoint("https://feed.example.org/", redirects=(host,))
    assert '"objects.example.org"' in caught.value.hint


def test_a_matchers_feed_names_hosts() -> None:
    """As a sequence: one string would permit each of its letters."""
    hosts = ["Objects.example.org:443"]
    assert Feed("https://feed.example.org/", redirects=hosts).endpoint().redirects == ("objects.example.org",)
    with pytest.raises(UsageError, match="not one string"):
        Feed("https://feed.example.org/", redirects="objects.example.org").endpoint()
