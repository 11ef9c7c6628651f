"""The API beside feed and news: check-ins, what a proxy asks, and status."""

from collections.abc import Iterator

import httpx
import pytest

from web_site import METRICS, OPERATOR, Running, bearer, named_file, running
from world import World


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    with running(standing) as site:
        yield site


def check_in(web: Running, headers: dict[str, str], **lists: object) -> int:
    document = {"instance": "web-3.4711", "lists": {f"iwf.{name}": version for name, version in lists.items()}}
    return httpx.post(f"{web.url}/api/v1/checkin", json=document, headers=headers).status_code


def test_a_check_in_is_the_whole_truth(web: Running) -> None:
    """A list left out is not loaded any more."""
    mine = web.add("m")
    assert check_in(web, mine, images=1) == 204
    assert [(one.matcher, one.instance, one.list, one.version) for one in web.checkins.snapshot()] == [
        ("m", "web-3.4711", "iwf.images", 1)
    ]
    assert check_in(web, mine) == 204
    assert web.checkins.snapshot() == ()


def test_a_check_in_says_what_can_be(web: Running) -> None:
    """Lists in scope, versions that were published, and whole numbers; by a matcher."""
    mine, other = web.add("m"), web.add("other", "iwf.videos")
    found = [check_in(web, mine, images=version) for version in (1.0, 2, "1", True, 0, None, 1.5)]
    assert found == [204, 409, 422, 422, 422, 422, 422]
    assert check_in(web, other, images=1) == 403
    assert [check_in(web, one, images=1) for one in ({}, bearer(OPERATOR), bearer(METRICS))] == [401, 403, 403]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"instance": "a"}', b'{"instance": "a b", "lists": {}}', b"\xff"])
def test_what_is_malformed_is_not_repeated(web: Running, body: bytes) -> None:
    """The answer names a field at most."""
    answer = httpx.post(f"{web.url}/api/v1/checkin", content=body, headers=web.add("m"))
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] in {
        "malformed: not the expected document",
        "malformed: not JSON",
        "malformed: lists",
        "malformed: instance",
    }


def test_a_token_is_asked_for_before_a_body_is_looked_at(web: Running) -> None:
    """Whoever has none learns nothing of what is expected."""
    for headers in ({}, bearer("nonsense")):
        answer = httpx.post(f"{web.url}/api/v1/checkin", content=b"{", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_proxy_is_told_who_may_read_what(web: Running) -> None:
    """A file of the layout, in scope; the query and how it is written do not matter; what may be sent is counted."""
    mine, other = web.add("m"), web.add("other", "iwf.videos")
    path = named_file(web.world, "v1/iwf.images/segments/*.arrow")

    def asked(uri: str, headers: dict[str, str]) -> int:
        return httpx.get(f"{web.url}/api/v1/auth", headers={**headers, "X-Original-URI": uri}).status_code

    assert [asked(f"/feed/{path}", one) for one in (mine, other, {}, bearer(OPERATOR))] == [204, 403, 401, 403]
    assert asked(f"/feed/{path}?x=1".replace("iwf.images", "iwf%2eimages"), mine) == 204
    assert asked("/feed/metadata/timestamp.json", other) == 204
    wrong = ["/feed/", f"/{path}", "/feed/.work/lock", f"/feed//{path}", f"/feed/v1/../{path}", "/feed/notes", ""]
    assert [asked(uri, mine) for uri in wrong] == [403] * 7
    assert web.pulls.told == []


def test_a_proxy_s_files_are_counted(standing: World) -> None:
    """Where it alone can ask: elsewhere, as above, a matcher could have itself counted for what it never got.

    What is not there has no bytes; metadata is everybody's and is not counted.
    """
    with running(standing, behind_proxy=True) as web:
        mine, path = web.add("m"), named_file(standing, "v1/iwf.images/segments/*.arrow")
        gone = f"v1/iwf.images/segments/{'0' * 64}.arrow"
        for asked in (path, gone, "metadata/timestamp.json"):
            answer = httpx.get(f"{web.url}/api/v1/auth", headers={**mine, "X-Original-URI": f"/feed/{asked}"})
            assert answer.status_code == 204
        assert web.pulls.told == [("m", path, standing.state.feed.path(path).stat().st_size), ("m", gone, 0)]


def test_status_is_the_operator_s(web: Running) -> None:
    """The document of `syncd status --json`."""
    url = f"{web.url}/api/v1/status"
    found = httpx.get(url, headers=bearer(OPERATOR))
    assert (found.status_code, found.headers["cache-control"]) == (200, "no-store")
    assert [(one["list"], one["version"], one["rows"]) for one in found.json()["lists"]] == [("iwf.images", 1, 30)]
    assert [httpx.get(url, headers=one).status_code for one in ({}, bearer(METRICS), web.add("m"))] == [401, 403, 403]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/api/v1/checkin", 405)])
def test_errors_have_one_shape(web: Running, method: str, path: str, status: int) -> None:
    """What is wrong, and what to do."""
    answer = httpx.request(method, f"{web.url}{path}")
    assert (answer.status_code, answer.json()["error"]["hint"]) == (status, "see /openapi.json")


@pytest.mark.parametrize("path", ["/api/v1/status/", "/matchers/", "/api/v1/checkin/"])
def test_nobody_is_sent_to_an_address_of_their_own_making(web: Running, path: str) -> None:
    """One slash too many is 404: a redirect would be made of the Host header, and be plain HTTP behind a proxy."""
    answer = httpx.get(f"{web.url}{path}", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.headers.get("location")) == (404, None)
