"""Health: whether the daemon lives, and whether what it serves is proved."""

import json
from pathlib import Path

import httpx
import pytest

from syncd.service.web.limits import Limits
from web_site import OPERATOR, bearer, named_file, running
from world import World

EACH_TIME = Limits(remember=0.0)
"""How everything stands is looked at for each question."""


def ready(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    answer = httpx.get(f"{url}/readyz", headers=headers)
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == (
        "text/plain; charset=utf-8",
        "no-store",
    )
    return answer.status_code, answer.text


def test_what_is_proved_is_ready(standing: World) -> None:
    """Counts for anybody, names and ages for the operator; what is old is called stale and is served all the same."""
    with running(standing, EACH_TIME) as web:
        assert ready(web.url) == (200, "ready: 1 list, 0 not proved, 0 stale\n")
        standing.clock.forward(hours=3)
        named = "ready: 1 list, 0 not proved, 0 stale\niwf.images version 1: verified 3 hours ago, late\n"
        assert ready(web.url, bearer(OPERATOR)) == (200, named)
        standing.clock.forward(hours=5)
        text = "ready: 1 list, 0 not proved, 1 stale\n"
        assert ready(web.url) == (200, text)
        named = f"{text}iwf.images version 1: verified 8 hours ago, stale\n"
        assert ready(web.url, bearer(OPERATOR)) == (200, named)
        assert ready(web.url, web.add("m")) == (200, text)
        assert httpx.get(f"{web.url}/healthz").text == "ok\n"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_health_check_by_head_is_answered_as_one_by_get(standing: World, path: str) -> None:
    """With the same status and headers and no body, as load balancers ask."""
    with running(standing, EACH_TIME) as web:
        head, get = httpx.head(f"{web.url}{path}"), httpx.get(f"{web.url}{path}")
    kept = ("content-type", "content-length", "cache-control")
    assert (head.status_code, head.content) == (200, b"")
    assert [head.headers[name] for name in kept] == [get.headers[name] for name in kept]


def test_nothing_stored_is_ready(world: World) -> None:
    """There is nothing to be proved before the first sync."""
    with running(world, EACH_TIME) as web:
        assert ready(web.url) == (200, "ready: 0 lists, 0 not proved, 0 stale\n")


DAMAGE = {
    "v1/iwf.images/segments/*.arrow": "1 segment of iwf.images missing or incomplete",
    "v1/iwf.images/*.manifest.json": "the manifest of iwf.images in ",
}


@pytest.mark.parametrize("pattern", DAMAGE)
def test_what_is_not_proved_is_not_ready(standing: World, pattern: str) -> None:
    """It is told as an error, once; the rest goes on, and it is ready again when it was put right."""
    file = standing.state.feed.path(named_file(standing, pattern))
    good = file.read_bytes()
    _put(file, good[:-20])
    with running(standing, EACH_TIME) as web:
        assert ready(web.url) == (503, "not ready: 1 list, 1 not proved, 0 stale\n")
        named = ready(web.url, bearer(OPERATOR))[1]
        assert named.splitlines()[1] == "iwf.images version 1: not proved, verified 0 seconds ago"
        web.health.prove_again()
        (told,) = web.named("state_not_proved")
        assert (told.importance, told.document()["list"]) == ("error", "iwf.images")
        assert told.document()["message"].startswith(DAMAGE[pattern])
        assert httpx.get(f"{web.url}/healthz").status_code == 200
        _put(file, good)
        web.health.prove_again()
        assert ready(web.url)[0] == 200
        assert [one.document() for one in web.named("state_proved")] == [{"lists": 1}]


def test_metadata_that_was_altered_is_not_ready(standing: World) -> None:
    """A signature that does not hold says nothing good of any list."""
    file = standing.state.feed.path("metadata/timestamp.json")
    document = json.loads(file.read_bytes())
    document["signed"]["expires"] = "2999-01-01T00:00:00Z"
    with running(standing, EACH_TIME) as web:
        _put(file, json.dumps(document).encode())
        web.health.prove()
        assert ready(web.url) == (503, "not ready: the state cannot be read\n")
        (told,) = web.named("state_not_proved")
        assert told.document()["list"] == ""
        token = web.add("m")
        assert httpx.get(f"{web.url}/feed/metadata/timestamp.json", headers=token).status_code == 200


def _put(file: Path, content: bytes) -> None:
    file.unlink()  # it has other names, for the origin's sake
    file.write_bytes(content)


def test_a_state_that_cannot_be_read_is_no_traceback(standing: World) -> None:
    """What fails while an answer is made names no path to who asked."""
    with running(standing, EACH_TIME) as web:
        standing.state.feed.path("metadata/timestamp.json").unlink()
        assert ready(web.url) == (503, "not ready: the state cannot be read\n")
        answer = httpx.get(f"{web.url}/api/v1/status", headers=bearer(OPERATOR))
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the state cannot be read")


def test_a_bug_is_told_by_its_kind(standing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its words, which may hold what the lists hold; the connection is closed, and the server goes on."""
    with running(standing, EACH_TIME) as web:

        def fails(*_: object) -> None:
            raise ValueError("a digest")

        monkeypatch.setattr(web.site.app.feed, "_admission", None)
        answer = httpx.get(f"{web.url}/feed/root.json")
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
        monkeypatch.setattr(web.checkins, "note", fails)
        answer = httpx.post(f"{web.url}/api/v1/checkin", json={"instance": "a", "lists": {}}, headers=web.add("m"))
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")
        assert [one.document() for one in web.named("internal_error")] == [
            {"kind": "AttributeError", "where": "http request", "message": "", "to_do": "", "place": ""},
            {"kind": "ValueError", "where": "http request", "message": "", "to_do": "", "place": ""},
        ]
        assert httpx.get(f"{web.url}/healthz").status_code == 200
