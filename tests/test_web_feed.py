"""The feed's files below /feed/, over real sockets."""

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from standing import publish_news
from syncd.feed.offer import Blocks, file_response
from syncd.fetch import Endpoint
from syncd.matcher.pull import pull
from syncd.service.web import files
from web_site import METRICS, OPERATOR, Running, bearer, named_file, running
from world import World

TIMESTAMP = "metadata/timestamp.json"


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    with running(standing) as site:
        yield site


def get(web: Running, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(f"{web.url}/feed/{path}", headers=headers)


def test_a_matcher_pulls_the_feed(web: Running, tmp_path: Path) -> None:
    """All of it, by the URL and the token it is given, as from any other feed."""
    token = web.add("m")["Authorization"].removeprefix("Bearer ")
    endpoint = Endpoint(f"{web.url}/feed/", token)
    world = web.world
    pulled = pull(endpoint, world.operator_root.read_bytes(), tmp_path / "own", now=world.clock(), deadline=20.0)
    assert [(one.after, one.error) for one in pulled.lists] == [(1, None)]


@pytest.mark.parametrize("headers", [{}, bearer("nonsense"), {"Authorization": "Basic eA=="}, {"Authorization": ""}])
def test_without_a_token_nothing_is_told(web: Running, headers: dict[str, str]) -> None:
    """Not even whether there is such a file, or such a method."""
    for path in (TIMESTAMP, "nothing", "root.json"):
        for method in ("GET", "POST"):
            answer = httpx.request(method, f"{web.url}/feed/{path}", headers=headers)
            assert (answer.status_code, answer.text) == (401, "unauthorised\n")
            assert (answer.headers["www-authenticate"], answer.headers["cache-control"]) == ("Bearer", "no-store")


def test_a_list_out_of_scope_is_forbidden(web: Running) -> None:
    """Its files, whether they exist or not; metadata is everybody's."""
    mine, other = web.add("mine", "iwf.images"), web.add("other", "iwf.videos")
    manifest = named_file(web.world, "v1/iwf.images/*.manifest.json")
    asked = [
        TIMESTAMP,
        "root.json",
        manifest,
        f"v1/iwf.images/{'0' * 64}.manifest.json",
        f"v1/iwf.videos/{'0' * 64}.manifest.json",
    ]
    assert [get(web, path, mine).status_code for path in asked] == [200, 200, 200, 404, 403]
    assert [get(web, path, other).status_code for path in asked] == [200, 200, 403, 403, 404]


@pytest.mark.parametrize("token", [OPERATOR, METRICS])
def test_other_tokens_do_not_open_the_feed(web: Running, token: str) -> None:
    """Who may look at figures or give orders need not read lists."""
    assert get(web, TIMESTAMP, bearer(token)).status_code == 403


def test_a_revoked_token_opens_nothing(web: Running) -> None:
    """From the next request on."""
    mine = web.add("mine")
    assert get(web, TIMESTAMP, mine).status_code == 200
    web.revoke("mine")
    assert get(web, TIMESTAMP, mine).status_code == 401


def test_headers_say_what_caches_may_keep(web: Running) -> None:
    """What is named by content for ever, what changes never."""
    mine = web.add("mine")
    segment = get(web, named_file(web.world, "v1/iwf.images/segments/*.arrow"), mine)
    assert segment.headers["cache-control"] == "private, immutable, max-age=31536000"
    assert segment.headers["content-type"] == "application/vnd.apache.arrow.file"
    timestamp = get(web, TIMESTAMP, mine)
    assert (timestamp.headers["cache-control"], timestamp.headers["content-type"]) == ("no-store", "application/json")


@pytest.mark.parametrize("pattern", [TIMESTAMP, "v1/iwf.images/segments/*.arrow"])
def test_who_holds_a_file_is_told_so(web: Running, pattern: str) -> None:
    """A conditional request costs no body, and names the file's tag again."""
    mine, path = web.add("mine"), named_file(web.world, pattern)
    tag = get(web, path, mine).headers["etag"]
    for asked in (tag, f'"other", W/{tag}', "*"):
        known = get(web, path, {**mine, "If-None-Match": asked})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert get(web, path, {**mine, "If-None-Match": '"other"'}).status_code == 200


def test_a_download_continues_where_it_stopped(web: Running) -> None:
    """One range of a segment (RFC 9110, 14.2), and HEAD tells its length."""
    mine, path = web.add("mine"), named_file(web.world, "v1/iwf.images/segments/*.arrow")
    whole = get(web, path, mine).content
    part = get(web, path, {**mine, "Range": "bytes=100-"})
    assert (part.status_code, part.content) == (206, whole[100:])
    head = httpx.head(f"{web.url}/feed/{path}", headers=mine)
    assert (head.headers["content-length"], head.content) == (str(len(whole)), b"")
    assert httpx.put(f"{web.url}/feed/{path}", headers=mine).status_code == 405


@pytest.mark.parametrize(
    "asked",
    [
        "items=0-1",
        "nonsense",
        "bytes",
        "bytes=",
        "bytes=x-y",
        "bytes=-",
        "bytes=--5",
        "bytes=9-5",
        "bytes=0-1,3-4",
        f"bytes={'9' * 5000}-",
    ],
)
def test_a_range_that_is_not_one_of_bytes_is_passed_over(web: Running, asked: str) -> None:
    """The whole file is never wrong (RFC 9110, 14.2): another unit, several, malformed."""
    mine, path = web.add("mine"), named_file(web.world, "v1/iwf.images/segments/*.arrow")
    answer = get(web, path, {**mine, "Range": asked})
    assert (answer.status_code, answer.content) == (200, web.world.state.feed.path(path).read_bytes())


def test_ranges_at_the_ends_of_a_file(web: Running) -> None:
    """A suffix, a last byte beyond the end, the unit in capitals; past the end is no range, and a HEAD has none."""
    mine, path = web.add("mine"), named_file(web.world, "v1/iwf.images/segments/*.arrow")
    whole = web.world.state.feed.path(path).read_bytes()
    for asked, part in (("bytes=-5", whole[-5:]), ("BYTES=5-999999", whole[5:]), ("bytes=0-0", whole[:1])):
        answer = get(web, path, {**mine, "Range": asked})
        assert (answer.status_code, answer.content) == (206, part)
    for asked in (f"bytes={len(whole)}-", f"bytes={'9' * 99}-", "bytes=-0"):
        past = get(web, path, {**mine, "Range": asked})
        assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert httpx.head(f"{web.url}/feed/{path}", headers={**mine, "Range": "bytes=0-0"}).status_code == 200


def test_a_range_of_another_file_is_not_sent(web: Running) -> None:
    """If-Range with its tag gives the part, with any other the whole (RFC 9110, 13.1.5)."""
    mine, path = web.add("mine"), named_file(web.world, "v1/iwf.images/segments/*.arrow")
    tag = get(web, path, mine).headers["etag"]
    codes = [
        get(web, path, {**mine, "Range": "bytes=0-0", "If-Range": named}).status_code
        for named in (tag, '"other"', f"W/{tag}")
    ]
    assert codes == [206, 200, 200]


@pytest.mark.parametrize(
    "path", ["", "notes", ".work/lock", "metadata/", "metadata/9.root.json", "%2e%2e/catalog.sqlite3"]
)
def test_nothing_outside_the_layout_is_served(web: Running, path: str) -> None:
    """All the same 404, which nobody keeps: the next root is asked for before it exists."""
    answer = get(web, path, web.add("mine"))
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (404, "not found\n", "no-store")


def test_what_is_published_is_served_at_once(web: Running) -> None:
    """From memory, though nobody looks at the file for each request."""
    mine = web.add("mine")
    before = get(web, TIMESTAMP, mine)
    publish_news(web.world)
    from syncd.pipeline.sync import sync_source

    sync_source(web.publisher, web.world.source(), web.world.clock)
    after = get(web, TIMESTAMP, {**mine, "If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.content) == (200, web.world.state.feed.path(TIMESTAMP).read_bytes())


def test_what_lists_send_is_counted(web: Running) -> None:
    """By matcher, with the bytes; metadata is everybody's and is not."""
    mine, path = web.add("mine"), named_file(web.world, "v1/iwf.images/segments/*.arrow")
    whole = get(web, path, mine).content
    get(web, TIMESTAMP, mine)
    assert get(web, "metadata/1.root.json", mine).status_code == 200
    get(web, path, {**mine, "Range": "bytes=0-9"})
    get(web, f"v1/iwf.images/{'0' * 64}.manifest.json", mine)
    assert web.pulls.told == [("mine", path, len(whole)), ("mine", path, 10)]


@pytest.mark.parametrize(("room", "looks"), [(1 << 20, 1), (0, 3)])
def test_small_files_are_read_once_while_there_is_room(
    web: Running, monkeypatch: pytest.MonkeyPatch, room: int, looks: int
) -> None:
    """All matchers ask for the same ones when a version is published; each gets all of it, counted, by its scope."""
    asked: list[str] = []

    def look(folder: Path, name: str) -> Blocks | None:
        asked.append(name)
        return file_response(folder, name)

    monkeypatch.setattr(files, "file_response", look)
    monkeypatch.setattr(files, "_SMALL_FILES", room)
    path = named_file(web.world, "v1/iwf.images/*.manifest.json")
    content = web.world.state.feed.path(path).read_bytes()
    answers = [get(web, path, web.add(name)) for name in ("a", "b", "c")]
    assert [(one.status_code, one.content) for one in answers] == [(200, content)] * 3
    assert {one.headers["etag"] for one in answers} == {answers[0].headers["etag"]}
    assert get(web, path, web.add("other", "iwf.videos")).status_code == 403
    assert asked == [path] * looks
    assert web.pulls.told == [(name, path, len(content)) for name in ("a", "b", "c")]


def test_requests_leave_no_trace_in_the_log(web: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Paths name lists and headers hold tokens: neither is logged."""
    caplog.set_level(logging.DEBUG)
    get(web, TIMESTAMP, web.add("mine"))
    httpx.get(f"{web.url}/nothing")
    mine = [record for record in caplog.records if record.name.startswith(("uvicorn", "starlette", "fastapi", "syncd"))]
    assert mine == []
    assert [one.name() for one in web.events] == ["state_proved", "http_listening"]
