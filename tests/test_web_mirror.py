"""The routes for mirrors: the tokens in force, and check-ins in batches."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from syncd.model import ListName
from syncd.operate import matchers
from web_site import METRICS, OPERATOR, Running, bearer, running, stream
from world import HEAD, World, row

OTHER = "iwf.videos"


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    with running(standing) as served:
        yield served


def add_mirror(web: Running, name: str, *lists: str) -> dict[str, str]:
    """Let a mirror in; the header that shows its token."""
    token, now = matchers.new_token(), web.world.clock()
    scope = tuple(map(ListName, lists))
    matchers.add(web.publisher.catalog, name, scope, asked_by="me", now=now, token=token, mirror=True)
    web.access.reload()
    return bearer(token)


def access(web: Running, mirror: dict[str, str], **headers: str) -> httpx.Response:
    return httpx.get(f"{web.url}/api/v1/mirror/access", headers={**mirror, **headers}, timeout=20)


def pass_on(web: Running, mirror: dict[str, str], *checkins: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{web.url}/api/v1/mirror/checkins", headers=mirror, json={"checkins": checkins}, timeout=20)


def hashed(header: dict[str, str]) -> str:
    return hashlib.sha256(header["Authorization"].removeprefix("Bearer ").encode()).hexdigest()


def loaded(matcher: str = "web", instance: str = "web-1", version: int = 1, **more: str) -> dict[str, Any]:
    return {"matcher": matcher, "instance": instance, "lists": {HEAD: version}, **more}


def test_a_mirror_learns_the_hashes_of_tokens(web: Running) -> None:
    """Of matchers and further mirrors, each with its scope; no token, and nothing of people."""
    edge, chat, web_token, far = add_mirror(web, "eu"), web.add("chat"), web.add("web", HEAD), add_mirror(web, "far")
    answer = access(web, edge)
    assert answer.json() == {
        "lists": None,
        "matchers": [
            {"name": "chat", "token_sha256": hashed(chat), "lists": None, "mirror": False},
            {"name": "far", "token_sha256": hashed(far), "lists": None, "mirror": True},
            {"name": "web", "token_sha256": hashed(web_token), "lists": [HEAD], "mirror": False},
        ],
    }
    assert answer.headers["cache-control"] == "no-store"


def test_an_unchanged_answer_is_not_sent_again(web: Running) -> None:
    """Until a token is added or revoked."""
    edge = add_mirror(web, "eu")
    tag = access(web, edge).headers["etag"]
    assert access(web, edge, **{"If-None-Match": tag}).status_code == 304
    web.add("web")
    assert access(web, edge, **{"If-None-Match": tag}).status_code == 200
    web.revoke("web")
    assert access(web, edge, **{"If-None-Match": tag}).status_code == 304


def test_a_mirror_of_some_lists_learns_only_their_matchers(web: Running) -> None:
    """With the lists that both may read."""
    edge = add_mirror(web, "eu", HEAD)
    web.add("chat", OTHER)
    web.add("web")
    web.add("both", HEAD, OTHER)
    document = access(web, edge).json()
    assert document["lists"] == [HEAD]
    assert [(one["name"], one["lists"]) for one in document["matchers"]] == [("both", [HEAD]), ("web", [HEAD])]


@pytest.mark.parametrize("route", [access, pass_on])
def test_nobody_else_may(web: Running, route: Any) -> None:
    """Neither a matcher nor an operator; a revoked mirror no more than a stranger."""
    edge = add_mirror(web, "eu")
    assert route(web, edge).status_code == 200
    for token, status in ((web.add("web"), 403), (bearer(OPERATOR), 403), (bearer(METRICS), 403), ({}, 401)):
        assert route(web, token).status_code == status
    web.revoke("eu")
    assert route(web, edge).status_code == 401


def test_a_mirror_reads_as_a_matcher_does(web: Running) -> None:
    """Files in its scope, events, and a check-in of its own."""
    edge = add_mirror(web, "eu", HEAD)
    assert httpx.get(f"{web.url}/feed/metadata/timestamp.json", headers=edge).status_code == 200
    assert httpx.get(f"{web.url}/feed/v1/{OTHER}/{'0' * 64}.manifest.json", headers=edge).status_code == 403
    own = {"instance": "eu-1", "lists": {HEAD: 1}}
    assert httpx.post(f"{web.url}/api/v1/checkin", headers=edge, json=own).status_code == 204
    assert [(one.matcher, one.instance, one.via) for one in web.checkins.snapshot()] == [("eu", "eu-1", "")]


def test_mirrors_are_told_that_tokens_changed(web: Running) -> None:
    """On their stream, at once; matchers are not."""
    edge, matcher = add_mirror(web, "eu"), web.add("web")
    with stream(web, edge) as told, stream(web, matcher) as other:
        assert told.event()["event"] == other.event()["event"] == "published"
        web.add("chat")
        assert told.event() == {"event": "access", "data": "{}"}
        web.world.publish(add=[row(99)])
        web.news.announce(HEAD, 2)
        assert json.loads(other.event()["data"])["version"] == 2


def test_check_ins_are_recorded_for_their_matcher(web: Running) -> None:
    """With the mirrors that they came by, the nearest first; an end as well."""
    edge = add_mirror(web, "eu")
    web.add("web", HEAD)
    answer = pass_on(web, edge, loaded(), loaded(instance="web-2", via="eu-2"))
    assert (answer.status_code, answer.json()) == (200, {"recorded": 2, "refused": 0})
    found = [(one.matcher, one.instance, one.version, one.via) for one in web.checkins.snapshot()]
    assert found == [("web", "web-1", 1, "eu"), ("web", "web-2", 1, "eu/eu-2")]
    assert pass_on(web, edge, {**loaded(), "lists": {}}).json()["recorded"] == 1
    assert [one.instance for one in web.checkins.snapshot()] == ["web-2"]
    web.checkins.flush()
    assert [one.via for one in web.publisher.catalog.loaded()] == ["eu/eu-2"]


def test_a_wrong_check_in_spoils_no_other(web: Running) -> None:
    """Of a matcher that is not known, a list outside either scope, a version that was never published."""
    edge = add_mirror(web, "eu", HEAD)
    web.add("web")
    web.add("chat", OTHER)
    wrong = [loaded("nobody"), loaded("chat"), loaded(version=9), {**loaded(), "lists": {OTHER: 1}}]
    assert pass_on(web, edge, *wrong, loaded()).json() == {"recorded": 1, "refused": 4}
    assert pass_on(web, add_mirror(web, "narrow", OTHER), loaded()).json() == {"recorded": 0, "refused": 1}
    assert [one.instance for one in web.checkins.snapshot()] == ["web-1"]


def test_a_malformed_batch_is_refused(web: Running) -> None:
    """Nothing that was sent is repeated."""
    edge = add_mirror(web, "eu")
    answer = pass_on(web, edge, {**loaded(), "secret": "s3cret"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "malformed: checkins")
    assert "s3cret" not in answer.text
    many = [loaded(instance=f"web-{number}") for number in range(1001)]
    assert pass_on(web, edge, *many).status_code in {413, 422}
