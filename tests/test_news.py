"""Reading the events of a server that may break off, fall silent, refuse, or be none."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from event_peer import STREAM, Behaviour, EventPeer, dripping, following, refusal, serve, streaming
from syncd.errors import SyncdError
from syncd.fetch import Endpoint
from syncd.fetch.event_stream import ServerSentEvent
from syncd.matcher.news import NewsStream, read_published
from syncd.matcher.pace import Pacer
from syncd.model import ListName
from world import IMAGES


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[EventPeer]:
    """A server that is a syncd's."""
    with serve(tmp_path) as found:
        yield found


class Heard:
    """What came, and a way to wait for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.told: dict[ListName, int] = {}
        self.waits: list[float] = []
        self.troubles: list[SyncdError | None] = []
        """as of the begin of each wait"""
        self.news: NewsStream
        self.ready = threading.Event()
        """once ``news`` is there: its thread begins before whoever makes it has it"""

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true."""
        with self.changed:
            assert self.changed.wait_for(true, 20)

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        """Instead of waiting: note how long it would have been, and go on soon."""
        assert len(self.waits) == 0 or self.ready.wait(20)
        with self.changed:
            self.waits.append(seconds)
            self.troubles.append(self.news.error if len(self.waits) > 1 else None)
            self.changed.notify_all()
        return stop.wait(min(seconds, 0.01))

    def announced(self, versions: dict[ListName, int], _: float) -> None:
        self.told |= versions

    def versions(self) -> dict[ListName, int]:
        self.news.update(self, 0.0)  # type: ignore[arg-type]  # takes what a Pacer takes
        return self.told

    def stream_changed(self, following: bool, _: float) -> None:
        pass


@contextmanager
def news_of(
    peer: EventPeer, *, silence: float = 20.0, chance: float = 0.5, token: str | None = None
) -> Iterator[Heard]:
    api = Endpoint(peer.url, token).api
    assert api is not None
    heard = Heard()
    heard.news = NewsStream(api, heard.wake, silence=silence, wait=heard.pause, rng=lambda: chance)
    heard.ready.set()
    try:
        yield heard
    finally:
        heard.news.close()
        assert not [one for one in threading.enumerate() if one.name == "syncd-events"]


def test_it_tells_the_state_at_first_and_then_each_version(peer: EventPeer) -> None:
    """Asked with the token, as an event stream."""
    peer.versions = {"images": 7}
    with news_of(peer, token="t") as heard:
        heard.until(lambda: heard.versions() == {"images": 7})
        assert (heard.news.following, heard.news.error) == (True, None)
        peer.tell("videos", 1)
        peer.tell("images", 8)
        heard.until(lambda: heard.versions() == {"images": 8, "videos": 1})
    asked = peer.asked.get()
    assert (asked["authorization"], asked["accept"]) == ("Bearer t", "text/event-stream")
    assert "last-event-id" not in asked


def test_a_broken_stream_is_opened_again_from_where_it_was(peer: EventPeer) -> None:
    """With the last id, after what the server said to wait; that it broke is no trouble as long as that works."""
    peer.versions = {"images": 7}
    with news_of(peer) as heard:
        heard.until(lambda: heard.versions() == {"images": 7})
        peer.drop()
        assert "last-event-id" not in peer.asked.get(timeout=20)
        assert peer.asked.get(timeout=20)["last-event-id"] == "epoch-1"
        heard.until(lambda: heard.news.following)
        assert heard.troubles == [None, None]
        assert heard.waits[1] == 1.0  # half of twice the 0.1 s, and never less than one


@pytest.mark.parametrize("behaviour", [streaming(b": hello\n\n"), dripping(STREAM + b": hello\n\n")])
def test_silence_ends_a_stream(peer: EventPeer, behaviour: Behaviour) -> None:
    """Also where bytes drip that never make a line; the server is asked again."""
    peer.behave(behaviour)
    with news_of(peer, silence=0.2) as heard:
        heard.until(lambda: heard.news.following)
        heard.until(lambda: len(heard.waits) > 1)
        peer.behave(following)
        peer.versions = {"images": 7}
        heard.until(lambda: heard.versions() == {"images": 7})


def test_each_line_is_a_sign_of_life(peer: EventPeer) -> None:
    """A stream with beats lives on for longer than the silence allowed."""
    with news_of(peer, silence=0.4) as heard:
        heard.until(lambda: heard.news.following)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            peer.send(b": beat\n\n")
            peer.stopped.wait(0.05)
        assert heard.waits == [0.0]


@pytest.mark.parametrize(
    "behaviour",
    [dripping(b"HTTP/1.1 200 OK\r\nX-Long: "), lambda peer, _: peer.stopped.wait(20)],
    ids=["drip", "silent"],
)
def test_a_server_that_never_answers_holds_nothing_up(peer: EventPeer, behaviour: Behaviour) -> None:
    """Headers that drip or never come are given up after the silence allowed, and told as a loss."""
    peer.behave(behaviour)
    with news_of(peer, silence=0.2) as heard:
        heard.until(lambda: heard.news.error is not None)
        assert str(heard.news.error).endswith(" stopped responding at events")
        heard.until(lambda: len(heard.waits) > 1)


@pytest.mark.parametrize(
    ("behaviour", "message", "wait"),
    [
        (refusal(404), "answered 404 to events", 600.0),
        (refusal(401), "answered 401 to events", 600.0),
        (refusal(403), "answered 403 to events", 600.0),
        (
            refusal(200, b"<!doctype html><p>log in", Content_Type="text/html"),
            "did not answer events with an event stream",
            600.0,
        ),
        (
            refusal(302, Location="https://else.example/events"),
            "redirects events to else.example; redirects are not followed",
            600.0,
        ),
        (refusal(503), "answered 503 to events", 2.0),
        (refusal(503, Retry_After="30"), "answered 503 to events and asks to wait 30 s", 31.4),
        (lambda _, connection: connection.sendall(b"garbage\r\n\r\n"), "broke the connection at events", 2.0),
    ],
    ids=["no API", "unknown", "not let in", "a page", "redirect", "full", "full for long", "no HTTP"],
)
def test_what_is_no_stream_is_told_and_tried_again_later(
    peer: EventPeer, behaviour: Behaviour, message: str, wait: float
) -> None:
    """Soon where the trouble may pass, never before the server's own time; after ten minutes where it has no events."""
    peer.behave(behaviour)
    with news_of(peer) as heard:
        heard.until(lambda: len(heard.waits) > 1)
        assert heard.waits[1] == pytest.approx(wait)
        assert message in str(heard.news.error)
        assert not heard.news.following


def test_failures_in_a_row_are_further_and_further_apart(peer: EventPeer) -> None:
    """With full jitter, up to ten minutes."""
    peer.behave(refusal(503))
    with news_of(peer, chance=1.0) as heard:
        heard.until(lambda: len(heard.waits) > 10)
        assert heard.waits[1:11] == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 600.0, 600.0]


def test_a_line_without_end_is_cut_off(peer: EventPeer) -> None:
    """And the server left alone: it is no syncd."""
    peer.behave(streaming(b"x" * 20_000))
    with news_of(peer) as heard:
        heard.until(lambda: len(heard.waits) > 1)
        assert heard.waits[1] == 600.0


def test_garbage_in_a_stream_is_passed_over(peer: EventPeer) -> None:
    """What comes between does not keep the next event from being heard."""
    garbage = b"\0\xff\n{}\n\nevent: published\ndata: {\n\nevent: other\ndata: 1\n\n"
    peer.behave(streaming(garbage + peer.event("images", 7)))
    with news_of(peer) as heard:
        heard.until(lambda: heard.versions() == {"images": 7})


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "1",
        '{"list":"images"}',
        '{"list":"../x","version":1}',
        '{"list":"images","version":true}',
        '{"list":"images","version":0}',
        '{"list":"images","version":"8"}',
        '{"list":7,"version":8}',
        "[" * 60_000,
    ],
    ids=range(10),
)
def test_an_event_that_says_nothing_usable_is_none(data: str) -> None:
    """Whatever its data."""
    assert read_published(ServerSentEvent("published", data, "")) is None
    assert read_published(ServerSentEvent("published", '{"list":"images","version":8,"more":1}', "")) == (IMAGES, 8)


@pytest.mark.parametrize("behaviour", [following, lambda peer, _: peer.stopped.wait(20)], ids=["open", "no answer"])
def test_closing_waits_for_nobody(peer: EventPeer, behaviour: Behaviour) -> None:
    """A thread that waits for the next event, or for an answer, ends at once."""
    peer.behave(behaviour)
    with news_of(peer, silence=3600.0) as heard:
        peer.asked.get(timeout=20)
        begin = time.monotonic()
        heard.news.close()
        assert time.monotonic() - begin < 0.9


def test_only_an_address_that_ends_in_feed_has_an_api(peer: EventPeer) -> None:
    """A folder, a CDN or a partner's own server is polled."""
    assert [Endpoint(url).api for url in ("file:///feed/", "https://feed/", "https://a/feeds/", "https://a/v1")] == [
        None
    ] * 4
    api = Endpoint("https://a:1/x/feed", "t", Path("ca")).api
    assert api == Endpoint("https://a:1/x/api/v1/", "t", Path("ca"))


def test_a_pacer_hears_of_the_stream(peer: EventPeer) -> None:
    """What is told moves the next pull."""
    peer.versions = {"images": 7}
    pacer = Pacer(60.0, rng=lambda: 0.5)
    pacer.pulled({IMAGES: 6}, (), 0.0)
    with news_of(peer) as heard:
        heard.until(lambda: heard.news.following)

        def due() -> bool:
            heard.news.update(pacer, 1.0)
            return pacer.left(1.0) == 0.0

        heard.until(due)
