"""What a mirror passes on upstream, and the tokens that it has from there."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import HttpStatusError, SourceError
from syncd.event import Event
from syncd.fetch.endpoint import Deadline, Endpoint
from syncd.mirror import relay, tokens
from syncd.mirror.relay import GATHER, CheckinRelay
from syncd.mirror.tokens import CONFIRMED_WITHIN, TokenWatch, UpstreamTokens
from world import HEAD, START, Clock

API = Endpoint("https://upstream.example.org/api/v1/")
ALL = b'{"lists": null, "matchers": [{"name": "web", "token_sha256": "%s", "lists": null, "mirror": false}]}' % (
    b"ab" * 32
)
NONE = b'{"lists": null, "matchers": []}'


class Timer:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Upstream:
    """Takes batches, and answers about tokens; or fails."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.error: Exception | None = None
        self.answer: tuple[bytes, str] | None = (ALL, '"1"')
        self.tags: list[str] = []

    def send(self, endpoint: Endpoint, content: bytes, deadline: Deadline) -> None:
        assert endpoint == API
        if self.error:
            raise self.error
        assert len(content) <= 64 << 10
        self.batches.append(json.loads(content)["checkins"])

    def access(self, endpoint: Endpoint, tag: str, deadline: Deadline) -> tuple[bytes, str] | None:
        self.tags.append(tag)
        if self.error:
            raise self.error
        return self.answer


def make(upstream: Upstream, timer: Timer) -> CheckinRelay:
    return CheckinRelay(API, send=upstream.send, timer=timer, rng=lambda: 1.0)


def sent(upstream: Upstream) -> list[tuple[str, int | None]]:
    return [(one["instance"], one["lists"].get(HEAD)) for batch in upstream.batches for one in batch]


def test_check_ins_are_gathered_into_one_batch() -> None:
    """The newest of each instance, half a second after the first."""
    upstream, timer = Upstream(), Timer()
    found = make(upstream, timer)
    for instance, version in (("a", 1), ("b", 1), ("a", 2)):
        found.note("web", instance, {HEAD: version}, START, "far")
    assert (found.step(), upstream.batches) == (GATHER, [])
    found.step()
    assert upstream.batches == [
        [
            {"matcher": "web", "instance": "b", "lists": {HEAD: 1}, "via": "far"},
            {"matcher": "web", "instance": "a", "lists": {HEAD: 2}, "via": "far"},
        ]
    ]
    assert (found.waiting, found.passed) == (0, 2)


def test_a_batch_fits_what_the_upstream_takes() -> None:
    """Many check-ins go in several."""
    upstream, timer = Upstream(), Timer()
    found = make(upstream, timer)
    for number in range(1500):
        found.note("web", f"host-{number}", {HEAD: 1}, START)
    found.step()
    found.step()
    assert len(upstream.batches) > 1
    assert sent(upstream) == [(f"host-{number}", 1) for number in range(1500)]


def test_check_ins_wait_for_an_upstream_that_is_away() -> None:
    """Those whose instance has checked in again by then are dropped; an end is kept, since it will not come again."""
    upstream, timer = Upstream(), Timer()
    found = make(upstream, timer)
    found.note("web", "old", {HEAD: 1}, START)
    found.note("web", "ended", {}, START)
    upstream.error = SourceError("away")
    found.step()
    assert found.step() > GATHER
    assert found.waiting == 2
    timer.now = 400.0
    found.note("web", "new", {HEAD: 1}, START)
    upstream.error = None
    found.step()
    assert sent(upstream) == [("ended", None), ("new", 1)]
    assert (found.passed, found.dropped) == (2, 1)


def test_a_check_in_during_the_sending_is_sent_too() -> None:
    """It is newer than the one that is on its way."""
    upstream, timer = Upstream(), Timer()

    def send(endpoint: Endpoint, content: bytes, deadline: Deadline) -> None:
        if not upstream.batches:
            found.note("web", "a", {HEAD: 2}, START)
        upstream.send(endpoint, content, deadline)

    found = CheckinRelay(API, send=send, timer=timer)
    found.note("web", "a", {HEAD: 1}, START)
    found.step()
    found.step()
    assert sent(upstream) == [("a", 1), ("a", 2)]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that checks in for hours does not fill the memory."""
    monkeypatch.setattr(relay, "MOST_WAITING", 3)
    found = make(Upstream(), Timer())
    for number in range(5):
        found.note("web", str(number), {HEAD: 1}, START)
    assert (found.waiting, found.dropped) == (3, 2)


def test_what_waits_is_sent_at_the_end() -> None:
    """A mirror that is stopped loses no check-in if its upstream is there."""
    upstream = Upstream()
    found = CheckinRelay(API, send=upstream.send, wait=threading.Event.wait)
    found.start()
    found.note("web", "a", {HEAD: 1}, START)
    found.close()
    assert sent(upstream) == [("a", 1)]


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Answers about tokens."""
    found = Upstream()
    monkeypatch.setattr(tokens, "fetch_access", found.access)
    return found


def names(found: UpstreamTokens) -> list[str]:
    return [one.name for one in found.matchers()]


def test_tokens_outlive_a_restart(upstream: Upstream, tmp_path: Path) -> None:
    """In a file that only this user reads; an unchanged answer writes nothing."""
    file, changes = tmp_path / "access.json", list[int]()
    found = UpstreamTokens(API, file, Clock())
    found.on_change = lambda: changes.append(len(found.matchers()))
    found.refresh(Deadline(1))
    assert (names(found), found.scope, changes) == (["web"], None, [1])
    assert file.stat().st_mode & 0o777 == 0o600
    upstream.answer = None
    found.refresh(Deadline(1))
    assert (upstream.tags, changes) == (["", '"1"'], [1])
    again = UpstreamTokens(API, file, Clock())
    again.load()
    assert (again.known, names(again), again.confirmed_at) == (True, ["web"], None)


def test_a_damaged_file_counts_as_none(upstream: Upstream, tmp_path: Path) -> None:
    """The upstream is asked."""
    (tmp_path / "access.json").write_text("{")
    found = UpstreamTokens(API, tmp_path / "access.json", Clock())
    found.load()
    assert (found.known, found.scope) == (False, frozenset())
    found.refresh(Deadline(1))
    assert names(found) == ["web"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_mirror_admits_nobody(upstream: Upstream, tmp_path: Path, status: int) -> None:
    """Nor after a restart. A web page with that status is a proxy's, and changes nothing."""
    found = UpstreamTokens(API, tmp_path / "access.json", Clock())
    found.refresh(Deadline(1))
    for page, left in ((True, ["web"]), (False, [])):
        upstream.error = HttpStatusError("no", status, page=page)
        with pytest.raises(HttpStatusError):
            found.refresh(Deadline(1))
        again = UpstreamTokens(API, tmp_path / "access.json", Clock())
        again.load()
        assert names(found) == names(again) == left


def test_a_revocation_is_in_force_even_if_it_cannot_be_kept(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is a fault of its own."""
    found = UpstreamTokens(API, tmp_path / "access.json", Clock())
    found.refresh(Deadline(1))

    def full(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(tokens, "install_bytes", full)
    upstream.answer = (NONE, '"2"')
    with pytest.raises(OSError, match="no room"):
        found.refresh(Deadline(1))
    assert names(found) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"lists": null}', b'{"lists": ["../x"], "matchers": []}'])
def test_an_answer_that_cannot_be_read_changes_nothing(upstream: Upstream, tmp_path: Path, content: bytes) -> None:
    """It is reported as a fault of the upstream."""
    found = UpstreamTokens(API, tmp_path / "access.json", Clock())
    found.refresh(Deadline(1))
    upstream.answer = (content, '"2"')
    with pytest.raises(SourceError, match="cannot be read"):
        found.refresh(Deadline(1))
    assert names(found) == ["web"]


def test_an_upstream_that_is_away_for_a_minute_is_told_once(upstream: Upstream, tmp_path: Path) -> None:
    """And so is its return; a shorter outage is not."""
    timer, told = Timer(), list[Event]()
    found = UpstreamTokens(API, tmp_path / "access.json", Clock(), timer)
    watch = TokenWatch(found, told.append)
    assert watch.look() <= 24.0
    upstream.error = SourceError("away")
    for seconds in (20.0, CONFIRMED_WITHIN + 1, 100.0):
        timer.now = seconds
        watch.look()
    assert [(event.name(), event.document().get("seconds")) for event in told] == [("tokens_not_confirmed", 61)]
    assert names(found) == ["web"]
    upstream.error = None
    watch.look()
    watch.look()
    assert [event.name() for event in told] == ["tokens_not_confirmed", "tokens_confirmed"]
    upstream.error = HttpStatusError("answered 401", 401)
    watch.look()
    watch.look()
    assert [event.name() for event in told[2:]] == ["mirror_refused"]
