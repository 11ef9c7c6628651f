"""Several daemons on one catalog are one place to sign in: sessions, forms, and the limit on wrong tokens."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from syncd.catalog.catalog import Catalog
from syncd.catalog.sign_in_records import StoredSession
from syncd.errors import StoreError
from syncd.service.access import Kind, Visitor
from syncd.service.attempts import FAILURES, FAILURES_OF_ALL, Attempts
from syncd.service.shared_attempts import SharedAttempts
from syncd.service.web.dashboard.sessions import MOST
from syncd.service.web.dashboard.shared_sessions import MOST_RECALLS, SharedSessions
from test_dashboard_acts import OURS, hidden, sign_in
from web_site import ALICE, Running, running
from world import Clock, World, rows

PERSON = Visitor("alice", Kind.OPERATOR, None, b"k" * 32)


class Node:
    """One daemon: its own connection to the catalog, and the tokens of its own configuration."""

    def __init__(self, path: Path, name: str, clock: Clock) -> None:
        self.catalog = Catalog.open(path)
        self.people = [PERSON]
        self.sessions = SharedSessions(self.catalog, lambda: self.people, clock, lambda one: one in self.people)
        self.attempts = Attempts(clock)
        self.shared = SharedAttempts(self.catalog, name, self.attempts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nodes(tmp_path: Path, clock: Clock) -> Iterator[tuple[Node, Node]]:
    """Two daemons on one catalog."""
    pair = tuple(Node(tmp_path / "catalog.sqlite3", name, clock) for name in "ab")
    yield pair[0], pair[1]
    for node in pair:
        node.catalog.close()


# sessions


def test_a_session_opened_at_one_daemon_is_open_at_all(nodes: tuple[Node, Node]) -> None:
    """At once, if the request that follows asks the catalog; by the next look without any request."""
    here, there = nodes
    first, second = here.sessions.open(PERSON), here.sessions.open(PERSON)
    assert not there.sessions.is_known(first)
    there.sessions.recall(first)
    assert there.sessions.visitor(first) == PERSON
    assert not there.sessions.is_open(second)
    there.sessions.look()
    assert there.sessions.is_known(second)
    assert there.sessions.is_open(second)


def test_a_session_closed_at_one_daemon_is_closed_at_all(nodes: tuple[Node, Node]) -> None:
    """By the next look; and no look brings it back where it was closed."""
    here, there = nodes
    session = here.sessions.open(PERSON)
    there.sessions.look()
    assert there.sessions.is_open(session)
    there.sessions.close(session)
    assert not there.sessions.is_open(session)
    here.sessions.look()
    there.sessions.look()
    assert not here.sessions.is_open(session)
    assert not there.sessions.is_open(session)
    there.sessions.recall(session)
    assert not there.sessions.is_open(session)


def test_a_session_that_was_closed_stays_closed_although_the_catalog_still_has_it(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog could be read and not written."""
    here, there = nodes
    session = here.sessions.open(PERSON)
    there.sessions.look()

    def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(there.catalog, "store_sessions", fail)
    there.sessions.close(session)
    there.sessions.recall(session)
    assert not there.sessions.is_open(session)
    monkeypatch.undo()
    there.sessions.look()
    here.sessions.look()
    assert not here.sessions.is_open(session)


def test_a_session_whose_token_was_revoked_at_one_daemon_is_closed_at_all(nodes: tuple[Node, Node]) -> None:
    """A daemon that does not have the token yet closes nothing: it may be new."""
    here, there = nodes
    there.people.clear()
    session = here.sessions.open(PERSON)
    there.sessions.look()
    assert not there.sessions.is_open(session)
    there.sessions.look()
    here.sessions.look()
    assert here.sessions.is_open(session)
    there.people.append(PERSON)
    assert there.sessions.is_open(session)
    here.people.clear()
    here.sessions.look()
    there.sessions.look()
    assert not there.sessions.is_open(session)


def test_a_session_ends_everywhere_after_twelve_hours(nodes: tuple[Node, Node], clock: Clock) -> None:
    """Wherever it was opened."""
    here, there = nodes
    session = here.sessions.open(PERSON)
    there.sessions.look()
    clock.forward(hours=11, minutes=59)
    assert there.sessions.is_open(session)
    clock.forward(minutes=1)
    assert not there.sessions.is_open(session)


def test_the_catalog_holds_nothing_that_opens_a_session(nodes: tuple[Node, Node]) -> None:
    """Neither its id nor anything that a token could be guessed by."""
    here, _ = nodes
    session = here.sessions.open(PERSON)
    (stored,) = here.catalog.stored_sessions()
    assert stored.id_sha256 == hashlib.sha256(session.encode()).hexdigest()
    told = f"{stored.id_sha256} {stored.proof}"
    assert session not in told
    assert PERSON.key.hex() not in told
    assert hashlib.sha256(PERSON.key).hexdigest() not in told
    assert not here.sessions.is_open(stored.id_sha256)


def test_sessions_are_bounded_over_all_daemons(nodes: tuple[Node, Node]) -> None:
    """One too many ends the oldest."""
    here, there = nodes
    made = [(here, there)[number % 2].sessions.open(PERSON) for number in range(4)]
    assert len(here.catalog.stored_sessions()) == 4
    here.catalog.store_sessions((), (), 3)
    assert len(here.catalog.stored_sessions()) == 3
    here.sessions.look()
    assert sum(map(here.sessions.is_open, made)) == 3
    assert MOST == 256


def test_a_catalog_that_cannot_be_reached_signs_nobody_out(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was opened and closed meanwhile is made up for."""
    here, there = nodes
    before = here.sessions.open(PERSON)
    there.sessions.look()

    def fail(*_: object) -> None:
        raise StoreError("cannot reach the catalog")

    for name in ("store_sessions", "stored_sessions", "stored_session"):
        monkeypatch.setattr(here.catalog, name, fail)
    session = here.sessions.open(PERSON)
    assert here.sessions.is_open(session)
    here.sessions.close(before)
    here.sessions.recall("A" * 43)
    with pytest.raises(StoreError):
        here.sessions.look()
    assert [here.sessions.is_open(one) for one in (session, before)] == [True, False]
    monkeypatch.undo()
    here.sessions.look()
    there.sessions.look()
    assert [there.sessions.is_open(one) for one in (session, before)] == [True, False]


def test_invented_sessions_cost_few_look_ups(
    nodes: tuple[Node, Node], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second later a person's session is found again, and by then `look` has it anyway."""
    here, there = nodes
    asked: list[str] = []
    look_up = here.catalog.stored_session

    def watch(key: str) -> StoredSession | None:
        asked.append(key)
        return look_up(key)

    monkeypatch.setattr(here.catalog, "stored_session", watch)
    for number in range(MOST_RECALLS + 5):
        here.sessions.recall(f"{number:043}")
    assert len(asked) == MOST_RECALLS
    assert here.sessions.is_known("not an id")
    session = there.sessions.open(PERSON)
    here.sessions.recall(session)
    assert not here.sessions.is_open(session)
    clock.forward(seconds=1)
    here.sessions.recall(session)
    assert here.sessions.is_open(session)


# wrong tokens


def test_wrong_tokens_at_one_daemon_count_at_all(nodes: tuple[Node, Node], clock: Clock) -> None:
    """By the network they came from; each once, for a minute."""
    here, there = nodes
    for _ in range(FAILURES):
        here.attempts.failed("2001:db8::1")
    here.shared.look()
    for _ in range(2):
        there.shared.look()
        here.shared.look()
    assert 59 <= there.attempts.wait("2001:db8::2") <= 60
    assert there.attempts.wait("192.0.2.1") == 0
    assert len(there.attempts._of_all) == len(here.attempts._of_all) == FAILURES
    (network,) = {one.network for one in there.catalog.attempts_elsewhere("b")}
    assert network == "2001:db8::/64"
    clock.forward(minutes=1)
    assert there.attempts.wait("2001:db8::2") == 0


def test_a_hundred_anywhere_slow_everybody(nodes: tuple[Node, Node]) -> None:
    """Half of them at each daemon."""
    here, there = nodes
    for number in range(FAILURES_OF_ALL):
        (here, there)[number % 2].attempts.failed(f"192.0.2.{number}")
    assert here.attempts.wait("198.51.100.1") == 0
    for node in (here, there, here):
        node.shared.look()
    assert here.attempts.wait("198.51.100.1") > 0
    assert there.attempts.wait("198.51.100.1") > 0


def test_wrong_tokens_are_sent_once_the_catalog_is_back(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses gains nothing by cutting it off."""
    here, there = nodes

    def fail(*_: object) -> None:
        raise StoreError("cannot reach the catalog")

    monkeypatch.setattr(here.catalog, "note_attempts", fail)
    for _ in range(FAILURES):
        here.attempts.failed("192.0.2.1")
        with pytest.raises(StoreError):
            here.shared.look()
    monkeypatch.undo()
    here.shared.look()
    there.shared.look()
    assert there.attempts.wait_alone("192.0.2.1") > 0


def test_those_of_other_daemons_keep_their_order(clock: Clock) -> None:
    """They are heard of later than our own, and the tenth last decides how long to wait."""
    attempts = Attempts(clock)
    for _ in range(FAILURES - 1):
        attempts.failed("192.0.2.1")
    attempts.failed_elsewhere("192.0.2.1", timedelta(seconds=40))
    assert attempts.wait_alone("192.0.2.1") == 20


# over HTTP


@pytest.fixture
def sites(standing: World) -> Iterator[tuple[Running, Running]]:
    """Two daemons; hold 1 waits at both."""
    standing.publish(remove=rows(0, 30))
    standing.sync()
    with running(standing, actions=True, daemon="a") as first, running(standing, actions=True, daemon="b") as second:
        yield first, second


def test_a_browser_that_is_sent_to_another_daemon_each_time_notices_nothing(sites: tuple[Running, Running]) -> None:
    """It signs in with a form of one at the other one, acts, reads what was done, and signs out everywhere."""
    first, second = sites
    with httpx.Client(headers=OURS) as client:
        page = client.get(f"{first.url}/login")
        form = {"form": hidden(page, "form"), "token": ALICE.token}
        assert client.post(f"{second.url}/login", data=form).status_code == 303
        assert "Sign out" in client.get(f"{first.url}/").text
        path = "/acts/release/1"
        page = client.get(f"{first.url}{path}")
        done = client.post(
            f"{second.url}{path}",
            data={
                "form": hidden(page, "form"),
                "seal": hidden(page, "seal"),
                "reason": "confirmed",
                "token": ALICE.token,
            },
        )
        assert done.status_code == 303
        there = client.get(f"{second.url}{done.headers['location']}")
        assert "released" in there.text
        elsewhere = client.get(f"{first.url}{done.headers['location']}")
        assert "Done: the audit log has the details." in elsewhere.text
        assert "Done: the audit log" not in there.text
        assert "Done:" not in client.get(f"{first.url}/?done={'0' * 80}").text
        out = client.post(f"{second.url}/logout", data={"form": hidden(client.get(f"{first.url}/"), "form")})
        assert out.headers["location"] == "/login"
        first.site.app.exchange()
        assert client.get(f"{first.url}/").headers["location"] == "/login"


def test_a_session_that_was_signed_out_elsewhere_is_refused_here(sites: tuple[Running, Running]) -> None:
    """With its cookie, which somebody may have kept."""
    first, second = sites
    with httpx.Client(headers=OURS, base_url=first.url) as client:
        sign_in(client, ALICE)
        kept = dict(client.cookies)
        client.post(f"{second.url}/logout", data={"form": hidden(client.get(f"{second.url}/"), "form")})
        first.site.app.exchange()
        with httpx.Client(headers=OURS, base_url=first.url, cookies=kept) as thief:
            assert thief.get("/").status_code == 303
            assert act_page(thief) == 303


def act_page(client: httpx.Client) -> int:
    return client.get("/acts/release/1").status_code


def test_wrong_tokens_on_one_site_are_answered_429_by_the_other(sites: tuple[Running, Running]) -> None:
    """After the next exchange."""
    first, second = sites
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(FAILURES):
        assert httpx.get(f"{first.url}/api/v1/status", headers=wrong).status_code == 401
    assert httpx.get(f"{second.url}/api/v1/status", headers=wrong).status_code == 401
    first.site.app.exchange()
    second.site.app.exchange()
    assert httpx.get(f"{second.url}/api/v1/status", headers=wrong).status_code == 429


def test_a_daemon_alone_keeps_its_sessions_to_itself(standing: World) -> None:
    """In memory only, as before there were several."""
    with running(standing) as web, httpx.Client(headers=OURS, base_url=web.url) as client:
        sign_in(client, ALICE)
        web.site.app.exchange()
        assert client.get("/").status_code == 200
        assert web.publisher.catalog.stored_sessions() == ()
