"""ThreatExchange's adapter against a fake server, which the public client proves."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from partners import real_client
from partners.leaks import told_by_polls
from partners.model import FIRST, Model
from partners.polls import Mirror
from partners.scripts import SCRIPTS, Step, fill, play
from partners.server import Reply, broken_body, cut_body, status
from partners.threatexchange import GROUP, SECRET, TOKEN, TYPES, FakeThreatExchange, type_of
from syncd.errors import ConfigError, SourceError
from syncd.sources.selection import RecordFilter
from syncd.sources.threatexchange import FIELDS, ThreatExchange, TokenRedaction


@pytest.fixture(scope="module")
def server() -> Iterator[FakeThreatExchange]:
    with FakeThreatExchange(Model()).running() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeThreatExchange) -> FakeThreatExchange:
    """Twelve indicators, in four pages."""
    server.restart(Model())
    fill(server.model, 12)
    return server


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def source_of(fake: FakeThreatExchange, token: Path, **options: Any) -> ThreatExchange:
    return ThreatExchange(name="te", url=f"{fake.url}/v21.0", group=GROUP, token_file=token, **options)


def test_the_public_client_reads_the_fake(fake: FakeThreatExchange) -> None:
    """The group, and its updates to the end, with tombstones of two kinds."""
    fake.host = fake.url
    fake.model.delete(3)
    fake.model.delete(5)
    try:
        read = real_client.read("threatexchange", base=f"{fake.url}/v21.0", token=TOKEN, group=int(GROUP))
    finally:
        fake.host = "https://elsewhere.example"
    assert read["group"] == ["Example", True]
    assert {tuple(one) for one in read["records"]} == {
        (500 + one.number, type_of(one), one.hexadecimal(TYPES[type_of(one)]), one.changed, one.deleted)
        for one in fake.model.records.values()
    }


def test_a_first_poll_and_a_later_one(fake: FakeThreatExchange, token: Path) -> None:
    """Everything, then from the newest update on; each kind of tombstone removes; links lead to no other host."""
    mirror = Mirror(source_of(fake, token))
    mirror.poll(fake.model.time)
    assert (mirror.whole, mirror.state) == (True, fake.state)
    assert mirror.checkpoint == {"updated": FIRST + 22, "at": fake.model.now}
    assert {asked.query["fields"] for asked in fake.asked} == {FIELDS}
    fake.model.tick(1000)
    for number in (3, 4, 5):  # by should_delete, by descriptors without owner, without descriptors
        fake.model.delete(number)
    fake.model.tick(5)
    mirror.poll(fake.model.time)
    assert (mirror.whole, mirror.state) == (False, fake.state)
    assert fake.asked[-1].query["start_time"] == str(FIRST + 22 - 60)


def test_empty_pages_and_the_future(fake: FakeThreatExchange, token: Path) -> None:
    """A page without data may have a next one; an update of the future does not move the checkpoint there."""
    fake.empty_pages = True
    fake.extra = [{"id": "1", "last_updated": 1 << 50, "should_delete": True}]
    mirror = Mirror(source_of(fake, token))
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    assert mirror.checkpoint == {"updated": fake.model.now, "at": fake.model.now}


def test_after_85_days_everything_is_read_again(fake: FakeThreatExchange, token: Path) -> None:
    """The partner forgets deletions after 90."""
    mirror = Mirror(source_of(fake, token))
    mirror.poll(fake.model.time)
    fake.model.delete(1)
    fake.model.tick(85 * 86400)
    fake.model.forget(fake.model.now)
    mirror.poll(fake.model.time)
    assert (mirror.whole, mirror.state) == (True, fake.state)


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, True),
        ({"include": RecordFilter(members=("88",))}, False),
        ({"exclude": RecordFilter(members=("78",))}, True),
        ({"include": RecordFilter(statuses=("suspicious",))}, False),
        ({"exclude": RecordFilter(statuses=("NON_MALICIOUS",))}, False),
        ({"include": RecordFilter(classifications=("hate",))}, True),
        ({"exclude": RecordFilter(classifications=("HATE",))}, False),
        ({"include": RecordFilter(votes=3)}, True),
        ({"include": RecordFilter(votes=4)}, False),
        ({"exclude": RecordFilter(votes=1)}, False),
    ],
)
def test_include_and_exclude(fake: FakeThreatExchange, token: Path, options: dict[str, Any], taken: bool) -> None:
    """By owner, status, tag and number of opinions; reactions count as opinions."""
    good = {"id": "1", "owner": {"id": "77"}, "status": "MALICIOUS", "tags": {"data": [{"id": "5", "text": "hate"}]}}
    bad = {"id": "2", "owner": {"id": "78"}, "status": "NON_MALICIOUS"}
    fake.descriptors[1] = {"data": [{**good, "reactions": [{"key": "HELPFUL", "value": "90,91"}]}, bad]}
    mirror = Mirror(source_of(fake, token, **options))
    mirror.poll(fake.model.time)
    assert (("indicators", "501") in mirror.state) is taken


def test_the_token_is_nowhere(
    fake: FakeThreatExchange, token: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, errors, checkpoints or kept answers, although the partner repeats it in every one of them."""
    caplog.set_level(logging.DEBUG)
    redirected = status(302, Location=f"https://a.example/?t={SECRET}")
    mirror = Mirror(source_of(fake, token))
    told = [*told_by_polls(fake, mirror, status(401), redirected, cut_body, broken_body), *capfd.readouterr()]
    told += [record.getMessage() for record in caplog.records if "receive_response_headers" not in record.getMessage()]
    assert [text for text in told if SECRET in text] == []
    assert all("referer" not in asked.headers for asked in fake.asked)


def test_an_escaped_token_is_removed_too() -> None:
    """As JSON or an address may write it."""
    escaped = "".join(rf"\u00{ord(one):02x}" if number % 2 else one for number, one in enumerate(SECRET))
    percent = "".join(f"%{ord(one):02X}" for one in SECRET)
    body = f"{TOKEN} {escaped} {percent} 123456789%7C{SECRET}".encode()
    assert TokenRedaction(TOKEN)(body) == b"*** *** *** 123456789%7C***"


def test_a_token_may_be_written_as_in_an_address(fake: FakeThreatExchange, tmp_path: Path) -> None:
    """As documentation of the partner's shows it."""
    (tmp_path / "token").write_text(TOKEN.replace("|", "%7C"))
    mirror = Mirror(source_of(fake, tmp_path / "token"))
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state


def test_something_else_is_not_a_token(fake: FakeThreatExchange, tmp_path: Path) -> None:
    """The message does not repeat it."""
    (tmp_path / "token").write_text("my-password")
    with pytest.raises(ConfigError, match="not an app's token") as refused:
        source_of(fake, tmp_path / "token").check()
    assert "my-password" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "no data"),
        (b'{"data": [], "paging": {"next": "https://a.example/?x=1"}}', "no cursor"),
        (b'{"data": [], "paging": {"next": "https://[/?after=1"}}', "no cursor"),
        (b'{"data": [], "paging": {"next": "?after=0-1-1"}}', "in a circle"),
    ],
)
def test_hostile_answers(fake: FakeThreatExchange, token: Path, body: bytes, message: str) -> None:
    """Each ends the poll with one sentence."""
    fake.faults = {number: lambda _: Reply(body) for number in range(9)}
    with pytest.raises(SourceError, match=message):
        Mirror(source_of(fake, token)).poll(fake.model.time)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=SCRIPTS)
def test_every_completed_poll_ends_in_the_partners_state(
    server: FakeThreatExchange, token: Path, script: list[Step]
) -> None:
    """Whatever happens to the indicators, before or during polls, and wherever polls are cut off."""
    server.restart(Model())
    server.page = 2
    mirror = Mirror(source_of(server, token))
    for _ in play(server, mirror, script):
        assert mirror.state == server.state
    server.model.tick(1)
    mirror.poll(server.model.time)
    assert mirror.state == server.state
