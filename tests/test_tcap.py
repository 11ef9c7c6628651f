"""TCAP's adapter against a fake server, which the public client proves."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from partners import real_client
from partners.leaks import told_by_polls
from partners.model import Model
from partners.polls import Mirror
from partners.scripts import SCRIPTS, Step, fill, play
from partners.server import Reply, cut_body, status
from partners.tcap import PASSWORD, USERNAME, FakeTcap, ideology_of
from syncd.errors import HttpStatusError, SourceError
from syncd.sources.selection import RecordFilter
from syncd.sources.tcap import Tcap


@pytest.fixture(scope="module")
def server() -> Iterator[FakeTcap]:
    with FakeTcap(Model()).running() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeTcap) -> FakeTcap:
    """Twelve records, in four pages."""
    server.restart(Model())
    fill(server.model, 12)
    return server


@pytest.fixture(scope="module")
def password(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "tcap.password"
    file.write_text(PASSWORD)
    return file


def source_of(fake: FakeTcap, password: Path, **options: Any) -> Tcap:
    return Tcap(name="tcap", url=fake.url, username=USERNAME, password_file=password, **options)


def test_the_public_client_reads_the_fake(fake: FakeTcap) -> None:
    """With its curious addresses, to the end; it logs in before every page."""
    fake.model.delete(4)
    read = real_client.read("tcap", base=fake.url, username=USERNAME, password=PASSWORD)
    assert {(one["id"], one["hash_digest"], one["deleted"]) for one in read["records"]} == {
        (one.number, one.hexadecimal(one_algorithm), one.deleted)
        for one in fake.model.records.values()
        for one_algorithm in [["pdq", "md5", "sha256", "sha512"][one.number % 4]]
    }
    assert (len(read["checkpoints"]), fake.log_ins) == (4, 4)


def test_a_first_poll_and_a_later_one(fake: FakeTcap, password: Path) -> None:
    """Everything, then what changed after the position of the last record; deletions are applied."""
    mirror = Mirror(source_of(fake, password))
    mirror.poll(fake.model.time)
    assert (mirror.whole, mirror.state, fake.log_ins) == (True, fake.state, 1)
    assert {asked.headers.get("host") for asked in fake.asked} == {fake.url.removeprefix("http://")}
    position = mirror.checkpoint
    fake.model.delete(3)
    fake.model.put(4)
    fake.model.tick(5)
    mirror.poll(fake.model.time)
    assert (mirror.whole, mirror.state) == (False, fake.state)
    assert fake.asked[-1].query["after"] == position["after"]  # type: ignore[call-overload, index]
    assert sum(len(page.records) for page in mirror.pages) == 2


def test_without_positions_the_links_are_followed(fake: FakeTcap, password: Path) -> None:
    """Their limit, offset and order, on our host, with ``after`` kept."""
    mirror = Mirror(source_of(fake, password))
    fake.positions = False
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    pages = [asked.query for asked in fake.asked if asked.method == "GET"]
    assert [(one["offset"], one["after"]) for one in pages] == [("0", ""), ("3", ""), ("6", ""), ("9", "")]


def test_an_empty_position_keeps_the_old_one(fake: FakeTcap, password: Path) -> None:
    """Also at the path that the public client uses."""
    mirror = Mirror(source_of(fake, password, list_path="api/hash-list/v2/all"))
    mirror.poll(fake.model.time)
    position = mirror.checkpoint
    fake.positions = False
    fake.model.put(20)
    fake.model.tick(5)
    mirror.poll(fake.model.time)
    assert (mirror.state, mirror.checkpoint, mirror.whole) == (fake.state, position, False)
    assert {asked.path for asked in fake.asked if asked.method == "GET"} == {"/api/hash-list/v2/all"}


def test_an_expired_token_is_replaced_once(fake: FakeTcap, password: Path) -> None:
    """It lasts some minutes; a page that is refused right after a log-in is a matter for people."""
    mirror = Mirror(source_of(fake, password))
    fake.lasts = 1
    mirror.poll(fake.model.time)
    assert (mirror.state, fake.log_ins) == (fake.state, 4)
    fake.lasts = 0
    with pytest.raises(HttpStatusError, match="answered 403 to the hash list"):
        mirror.poll(fake.model.time)
    assert fake.log_ins == 5


def test_a_log_in_is_not_repeated(fake: FakeTcap, password: Path) -> None:
    """Only questions are."""
    fake.faults = {0: status(503)}
    with pytest.raises(HttpStatusError, match="answered 503 to the log-in"):
        Mirror(source_of(fake, password)).poll(fake.model.time)
    assert len(fake.asked) == 1


def test_unknown_values_and_filters(fake: FakeTcap, password: Path) -> None:
    """Counted; ideologies in any case."""
    usual = {"hash_digest": "ab" * 16, "algorithm": "MD5", "ideology": "islamist", "deleted": False}
    fake.extra = [
        {**usual, "id": 99, "algorithm": "TLSH", "mood": 1},
        usual,
        7,
        {**usual, "id": 98, "hash_digest": "x"},
    ]
    mirror = Mirror(source_of(fake, password, include=RecordFilter(classifications=("FAR-RIGHT",))))
    mirror.poll(fake.model.time)
    wanted = {str(one.number) for one in fake.model.live if ideology_of(one).lower() == "far-right"}
    assert {key for _, key in mirror.state} == wanted
    assert mirror.set_aside["record that is not an object"] == 4
    assert mirror.set_aside["unknown field mood"] == 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "no results"),
        (b'{"results": [], "next": "https://a.example/?offset=x"}', "leads nowhere"),
        (b'{"results": [], "next": "https://a.example/?offset=1&order=desc"}', "leads nowhere"),
        (b'{"results": [], "next": "https://[/"}', "leads nowhere"),
    ],
)
def test_hostile_answers(fake: FakeTcap, password: Path, body: bytes, message: str) -> None:
    """Each ends the poll with one sentence."""
    fake.faults = {number: lambda _: Reply(body) for number in range(1, 9)}
    with pytest.raises(SourceError, match=message):
        Mirror(source_of(fake, password)).poll(fake.model.time)


def test_password_and_token_are_nowhere(
    fake: FakeTcap, password: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, kept answers, checkpoints or errors."""
    caplog.set_level(logging.DEBUG)
    mirror = Mirror(source_of(fake, password))
    fake.extra = [{"id": 1000, "mood": f"{PASSWORD} token-00000001"}]
    told = [*told_by_polls(fake, mirror, status(401), cut_body), caplog.text, *capfd.readouterr()]
    assert [text for text in told if PASSWORD in text or "token-0000" in text] == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=SCRIPTS)
def test_every_completed_poll_ends_in_the_partners_state(server: FakeTcap, password: Path, script: list[Step]) -> None:
    """Whatever happens to the records, before or during polls, and wherever polls are cut off."""
    server.restart(Model())
    server.page = 2
    mirror = Mirror(source_of(server, password))
    for _ in play(server, mirror, script):
        assert mirror.state == server.state
    server.model.tick(1)
    mirror.poll(server.model.time)
    assert mirror.state == server.state
