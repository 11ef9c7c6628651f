"""Wrong tokens on every route: what is answered, what is logged, who must wait and who never does."""

from collections.abc import Iterator

import httpx
import pytest

from syncd.event import Event
from syncd.events import TokenRefused
from syncd.service.attempts import FAILURES, MOST_ADDRESSES, Attempts
from web_site import ALICE, METRICS, OPERATOR, VERA, Running, bearer, running
from world import Clock, World

ROUTES = {
    "/feed/metadata/timestamp.json": "/feed/",
    "/api/v1/events": "/api/v1/events",
    "/api/v1/status": "/api/v1/status",
    "/metrics": "/metrics",
    "/readyz": "/readyz",
}
WRONG = bearer("a-wrong-token-of-somebody")


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    with running(standing) as site:
        yield site


def get(web: Running, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(f"{web.url}{path}", headers=headers)


def refused(web: Running) -> list[Event]:
    return web.named("token_refused")


@pytest.mark.parametrize(("path", "route"), ROUTES.items())
def test_a_wrong_token_is_logged_with_address_and_route(web: Running, path: str, route: str) -> None:
    """The log holds neither the token nor the client's text; a request without a token is no attempt."""
    assert get(web, path, {}).status_code == get(web, path, WRONG).status_code
    assert refused(web) == [TokenRefused("127.0.0.1", route)]
    assert "a-wrong-token" not in str([event.document() for event in web.events])


def test_posted_check_ins_are_no_way_round(web: Running) -> None:
    """The routes of matchers count like all others."""
    body = {"instance": "web-1", "lists": {}}
    assert httpx.post(f"{web.url}/api/v1/checkin", json=body, headers=WRONG).status_code == 401
    assert get(web, "/api/v1/auth", {**WRONG, "X-Original-URI": "/feed/x"}).status_code == 401
    assert refused(web) == [TokenRefused("127.0.0.1", "/api/v1/checkin"), TokenRefused("127.0.0.1", "/api/v1/auth")]


def test_ten_wrong_tokens_make_further_ones_wait_unread(web: Running) -> None:
    """The right one of a person included, whichever route they were sent to, and only ten are logged."""
    for number in range(FAILURES):
        assert get(web, list(ROUTES)[number % 3], WRONG).status_code == 401
    for path in ("/feed/metadata/timestamp.json", "/api/v1/events", "/api/v1/status", "/metrics"):
        for header in (WRONG, bearer(OPERATOR), bearer(ALICE.token), bearer(VERA.token)):
            answer = get(web, path, header)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "60"), path
    assert get(web, "/metrics", bearer(METRICS)).status_code == 429
    assert "iwf.images" not in get(web, "/readyz", bearer(OPERATOR)).text
    assert len(refused(web)) == FAILURES
    web.world.clock.forward(minutes=1)
    assert get(web, "/api/v1/status", bearer(OPERATOR)).status_code == 200
    assert get(web, "/metrics", bearer(METRICS)).status_code == 200


def test_a_neighbour_with_a_revoked_token_cuts_off_no_matcher(web: Running) -> None:
    """Matchers behind one address share it; nobody can guess 256 random bits."""
    mine = web.add("m")
    for _ in range(FAILURES + 5):
        get(web, "/feed/metadata/timestamp.json", WRONG)
    assert get(web, "/feed/metadata/timestamp.json", mine).status_code == 200
    body = {"instance": "web-1", "lists": {"iwf.images": 1}}
    assert httpx.post(f"{web.url}/api/v1/checkin", json=body, headers=mine).status_code == 204


def test_nginx_is_never_answered_429(web: Running) -> None:
    """Its auth_request takes only 401 and 403 for a refusal, and anything else for an error."""
    for _ in range(FAILURES + 5):
        assert get(web, "/api/v1/auth", {**WRONG, "X-Original-URI": "/feed/x"}).status_code == 401
    assert get(web, "/api/v1/auth", {**bearer(OPERATOR), "X-Original-URI": "/feed/x"}).status_code == 401


def test_guessers_elsewhere_blind_no_metrics(standing: World) -> None:
    """A hundred wrong tokens from ten addresses make people wait, but not the collector."""
    with running(standing, behind_proxy=True) as web:
        for number in range(100):
            get(web, "/api/v1/status", {**WRONG, "X-Forwarded-For": f"192.0.2.{number // 10}"})
        mine = {"X-Forwarded-For": "198.51.100.1"}
        assert get(web, "/api/v1/status", {**bearer(OPERATOR), **mine}).status_code == 429
        assert get(web, "/api/v1/status", {**WRONG, **mine}).status_code == 429
        assert get(web, "/metrics", {**bearer(METRICS), **mine}).status_code == 200
        assert refused(web)[0] == TokenRefused("192.0.2.0", "/api/v1/status")


def test_what_is_remembered_is_bounded() -> None:
    """However many addresses guess: the oldest makes room, and a minute later nothing counts."""
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(FAILURES):
        attempts.failed("192.0.2.1")
    for number in range(MOST_ADDRESSES):
        attempts.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts._by_network) == MOST_ADDRESSES
    assert attempts.wait_alone("192.0.2.1") == 0
    assert attempts.wait("192.0.2.1") == 60
    clock.forward(minutes=1)
    assert attempts.wait("192.0.2.1") == 0


def test_a_viewer_sees_all_that_get_shows(web: Running) -> None:
    """Status, metrics and the names at /readyz; the feed is for matchers only."""
    vera = bearer(VERA.token)
    seen = [get(web, path, vera).status_code for path in ROUTES]
    assert seen == [403, 403, 200, 200, 200]
    assert "iwf.images" in get(web, "/readyz", vera).text
    assert refused(web) == []


def test_a_role_that_changes_ends_the_sessions_of_before(web: Running) -> None:
    """The token is the same, and what it gives access to is not."""
    before = web.access.admit_person(ALICE.token)
    assert before is not None
    web.access.set_tokens(OPERATOR, METRICS, (type(ALICE)("alice", VERA.kind, ALICE.token),))
    assert not web.access.is_in_force(before)
