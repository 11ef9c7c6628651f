"""The stream of news, over real sockets."""

from collections.abc import Iterator

import httpx
import pytest

from standing import publish_news
from syncd.model import ListName
from syncd.pipeline.sync import sync_source
from syncd.service.web.limits import Limits
from web_site import OPERATOR, Running, bearer, running, stream
from world import World

IMAGES, VIDEOS = ListName("iwf.images"), ListName("iwf.videos")


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    with running(standing) as site:
        yield site


def test_a_stream_begins_with_what_is_there(web: Running) -> None:
    """How soon to come back, then the newest version of each list, as server-sent events have it."""
    web.news.announce(VIDEOS, 4)
    with stream(web, web.add("m")) as reader:
        assert reader.response.headers["content-type"] == "text/event-stream"
        assert reader.response.headers["cache-control"] == "no-store"
        assert reader.response.headers["x-accel-buffering"] == "no"
        assert reader.block() == ["retry: 2000"]
        assert reader.block() == ["id: e1-1", "event: published", 'data: {"list":"iwf.images","version":1}']
        assert reader.block() == ["id: e1-2", "event: published", 'data: {"list":"iwf.videos","version":4}']


def test_a_publication_is_told_as_it_happens(web: Running) -> None:
    """Once its files are there for who comes at once."""
    mine = web.add("m")
    with stream(web, mine) as reader:
        reader.event()
        publish_news(web.world)
        sync_source(web.publisher, web.world.source(), web.world.clock)
        assert reader.event()["data"] == '{"list":"iwf.images","version":2}'
        timestamp = httpx.get(f"{web.url}/feed/metadata/timestamp.json", headers=mine)
    assert timestamp.content == web.world.state.feed.path("metadata/timestamp.json").read_bytes()


def test_who_comes_back_is_told_what_was_missed(web: Running) -> None:
    """Only lists that changed, and of each the newest version only; after a restart, all."""
    mine = web.add("m")
    web.news.announce(VIDEOS, 1)
    for version in (2, 3, 4):
        web.news.announce(IMAGES, version)
    with stream(web, {**mine, "Last-Event-ID": "e1-2"}) as reader:
        assert reader.event() == {"id": "e1-5", "event": "published", "data": '{"list":"iwf.images","version":4}'}
        web.news.announce(VIDEOS, 2)
        assert reader.event()["data"] == '{"list":"iwf.videos","version":2}'
    for unknown in ("e0-5", "e1-99", "nonsense", "e1-", "e1-" + "9" * 30):
        with stream(web, {**mine, "Last-Event-ID": unknown}) as reader:
            assert [reader.event()["id"] for _ in range(2)] == ["e1-5", "e1-6"]


def test_who_comes_back_to_another_daemon_is_told_everything(web: Running) -> None:
    """Its numbers are others, and it may not have announced what the reader knows."""
    mine = web.add("m")
    with running(web.world, daemon="b") as other:
        other.news.announce(VIDEOS, 1)
        web.news.announce(IMAGES, 2)
        with stream(web, mine) as reader:
            last = reader.event()["id"]
        for _ in range(2):
            with stream(other, {**mine, "Last-Event-ID": last}) as reader:
                seen = [reader.event() for _ in range(2)]
            assert [event["data"] for event in seen] == [
                '{"list":"iwf.images","version":1}',
                '{"list":"iwf.videos","version":1}',
            ]
            assert {event["id"] for event in seen}.isdisjoint({last})
        with stream(web, {**mine, "Last-Event-ID": seen[-1]["id"]}) as reader:
            assert reader.event()["data"] == '{"list":"iwf.images","version":2}'


def test_a_stream_tells_of_lists_in_scope_alone(web: Running) -> None:
    """Others might as well not exist."""
    with stream(web, web.add("m", "iwf.videos")) as reader:
        web.news.announce(IMAGES, 2)
        web.news.announce(VIDEOS, 1)
        assert reader.event()["data"] == '{"list":"iwf.videos","version":1}'


def test_a_revoked_token_ends_its_streams_at_once(web: Running) -> None:
    """Those of others go on."""
    with stream(web, web.add("m")) as mine, stream(web, web.add("other")) as other:
        mine.event(), other.event()
        web.revoke("m")
        assert mine.event() == {}
        web.news.announce(IMAGES, 2)
        assert other.event()["id"] == "e1-2"


def test_a_quiet_stream_shows_life(standing: World) -> None:
    """A comment now and then, so that the client knows that it would hear."""
    with running(standing, Limits(beat=0.05)) as web, stream(web, web.add("m")) as reader:
        reader.event()
        assert [reader.block() for _ in range(3)] == [[": beat"]] * 3


def test_streams_are_for_matchers_with_a_token(web: Running) -> None:
    """Asked with GET; errors are the API's."""
    url, mine = f"{web.url}/api/v1/events", web.add("m")
    refused = [httpx.get(url), httpx.get(url, headers=bearer(OPERATOR)), httpx.post(url, headers=mine)]
    assert [one.status_code for one in refused] == [401, 403, 405]
    assert all({"message", "hint"} == one.json()["error"].keys() for one in refused)


def test_one_stream_too_many_is_told_when_to_come_back(standing: World) -> None:
    """A place that becomes free is given away at once."""
    with running(standing, Limits(streams=1)) as web:
        mine = web.add("m")
        with stream(web, mine) as reader:
            reader.event()
            full = httpx.get(f"{web.url}/api/v1/events", headers=mine)
            assert (full.status_code, full.headers["retry-after"]) == (503, "10")
        for _ in range(100):  # the other end learns of it in its own time
            with stream(web, mine) as reader:
                if reader.response.status_code == 200:
                    return
        raise AssertionError("its place was never given away")


def test_one_token_leaves_half_of_the_streams_to_the_others(standing: World) -> None:
    """Refused at its share, with what to do; a matcher with another token is let in; closed streams count no more."""
    with running(standing, Limits(streams=3)) as web:
        greedy, other = web.add("greedy"), web.add("other")
        with stream(web, greedy) as first, stream(web, greedy) as second:
            first.event(), second.event()
            refused = httpx.get(f"{web.url}/api/v1/events", headers=greedy)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
            assert refused.json()["error"]["message"] == "this token has too many streams open"
            with stream(web, other) as reader:
                assert reader.event()["id"] == "e1-1"
        web.gone()
        with stream(web, greedy) as again:
            assert again.event()["id"] == "e1-1"


def test_streams_end_when_the_server_stops(web: Running) -> None:
    """At once: nobody waits for them."""
    with stream(web, web.add("m")) as reader:
        reader.event()
        assert web.stop(5)
        assert reader.event() == {}


def test_what_was_seen_can_be_claimed_at_no_cost_of_ours(standing: World) -> None:
    """Whoever comes with every number there ever was does not fill the memory with what each is owed."""
    with running(standing) as web:
        for version in range(2, 1300):
            web.news.announce(IMAGES, version)
        streams, every = web.site.app.streams, frozenset({IMAGES})
        for number in range(1298):
            assert streams._since(number, every)[0] == 1299
        assert len(streams._encoded) <= 1024
