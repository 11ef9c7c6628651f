"""NCMEC's adapter against a fake server, which the public client proves."""

import base64
import itertools
import json
import logging
import pickle
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from partners import real_client
from partners.leaks import told_by_polls
from partners.model import FIRST, Model
from partners.ncmec import PASSWORD, REASON, USERNAME, FakeNcmec, fingerprints, kind_of, member_of, stamp
from partners.polls import Mirror
from partners.scripts import SCRIPTS, Step, fill, play
from partners.server import Reply, broken_body, cut_body, status
from syncd.errors import ConfigError, FeedError, HttpStatusError, RefusedError, SourceError, SyncdError
from syncd.model import ListName
from syncd.sources import ncmec as adapter
from syncd.sources.ncmec import Ncmec
from syncd.sources.selection import RecordFilter


@pytest.fixture(scope="module")
def server() -> Iterator[FakeNcmec]:
    with FakeNcmec(Model(), page=3).running() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeNcmec) -> FakeNcmec:
    """Twelve entries, in four pages."""
    server.restart(Model())
    server.page, server.upper, server.extra = 3, False, ""
    fill(server.model, 12)
    return server


@pytest.fixture(scope="module")
def password(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "ncmec.password"
    file.write_text(f"{PASSWORD}\n")
    return file


@pytest.fixture
def source(fake: FakeNcmec, password: Path) -> Ncmec:
    return source_of(fake, password)


def source_of(fake: FakeNcmec, password: Path, **options: Any) -> Ncmec:
    return Ncmec(name="ncmec", url=fake.url + fake.base, username=USERNAME, password_file=password, **options)


def ranges(fake: FakeNcmec) -> list[tuple[str, str]]:
    return [(asked.query["from"], asked.query["to"]) for asked in fake.asked if "start" not in asked.query]


def test_the_public_client_reads_the_fake(fake: FakeNcmec) -> None:
    """It pages to the end, in the fake's forms, and its votes arrive as the documentation has them."""
    fake.model.delete(4)
    fake.votes[1] = votes("Md5", ["9"], ["7", "9"])
    read = real_client.read(
        "ncmec", base=fake.url + fake.base, username=USERNAME, password=PASSWORD, until=fake.model.now
    )
    assert (read["status"], read["members"], read["reasons"]) == ("Example Hotline", [7, 9], {REASON: "Not CSAM"})
    found = {(f"{kind}s", f"{member}/{key}"): one for one in read["updates"] for kind, member, key in [one["key"]]}
    assert len(found) == 12
    assert {key for key, one in found.items() if not one["deleted"]} == fake.state.keys()
    assert {key: one["classification"] or "" for key, one in found.items() if not one["deleted"]} == {
        key: label for key, (label, _) in fake.state.items()
    }
    names = {"pdna": "photodna"}
    for key, (_, digests) in fake.state.items():
        given = found[key]["fingerprints"].items()
        hexadecimal = {(names.get(name, name), in_hex(text)) for name, text in given}
        assert hexadecimal == set(digests)
    assert found["images", "7/a-1"]["feedback"]["Md5"] == [
        ["upvote", 9, ""],
        ["downvote", 7, "Not CSAM"],
        ["downvote", 9, "Not CSAM"],
    ]
    assert fake.received == [
        ("/v2/entries/7/a-1/MD5/feedback", "affirmative"),
        ("/v2/entries/7/a-1/PDQ/feedback", f"negative {REASON}"),
    ]


def in_hex(text: str) -> str:
    return base64.b64decode(text).hex() if len(text) == 192 else text


def members(some: list[str]) -> str:
    return f'<members timestamp="x">{"".join(f"""<member id="{one}">M</member>""" for one in some)}</members>'


def in_favour(kind: str, some: list[str]) -> str:
    return f'<affirmativeFeedback type="{kind}" lastUpdateTimestamp="x">{members(some)}</affirmativeFeedback>'


def votes(kind: str, good: list[str], bad: list[str]) -> str:
    reason = f'<reason guid="{REASON}" name="Not CSAM" type="{kind}"/>'
    against = f'<negativeFeedback type="{kind}"><reasons>{reason}{members(bad)}</reasons></negativeFeedback>'
    return f'<feedback lastUpdateTimestamp="x">{in_favour(kind, good)}{against if bad else ""}</feedback>'


def test_a_first_poll_reads_everything(fake: FakeNcmec, source: Ncmec) -> None:
    """Images and videos, two lists; the classification verbatim as label; the partner's key as entry."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.whole
    assert mirror.state == fake.state
    assert mirror.set_aside == {}
    assert mirror.checkpoint == {"to": stamp(fake.model.now - 5)}
    assert [(page.done, page.total) for page in mirror.pages] == [(3, 12), (6, 12), (9, 12), (12, 12)]
    assert {name: (kind.media, kind.purpose) for name, kind in source.kinds.items()} == {
        "images": ("image", "live"),
        "videos": ("video", "live"),
    }


def test_a_kind_without_entries_may_be_left_out(fake: FakeNcmec, source: Ncmec) -> None:
    """And a field that is not known is counted; the rest of its entry counts."""
    fake.restart(Model())
    fake.model.put(1)
    fake.model.put(2)
    fake.model.tick(10)

    def other_form(reply: Reply) -> Reply:
        body = reply.body.replace(b'<videos count="0"></videos>', b"")
        assert body != reply.body
        return Reply(body.replace(b"</timestamp>", b"</timestamp><mood>x</mood>"), kind=reply.kind)

    fake.faults = {0: other_form}
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert (mirror.state, mirror.set_aside) == (fake.state, {"unknown field mood": 2})


def test_a_later_poll_asks_for_what_changed(fake: FakeNcmec, source: Ncmec) -> None:
    """From the checkpoint, overlapping a little, in UTC; a record replaces its predecessor whole; tombstones remove."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    fake.model.tick(3600)
    fake.model.put(1)
    fake.model.delete(2)
    fake.model.put(12)
    fake.model.tick(100)
    fake.asked.clear()
    mirror.poll(fake.model.time)
    assert not mirror.whole
    assert ranges(fake) == [(stamp(FIRST + 12 * 2 + 10 - 5 - 60), stamp(fake.model.now - 5))]
    assert sum(len(page.records) for page in mirror.pages) == 12 + 1  # one second grain: the overlap is all of them
    assert mirror.state == fake.state
    assert "sha1" not in fingerprints(fake.model.records[1])
    fake.model.tick(86400)
    fake.model.put(2)
    fake.model.tick(10)
    mirror.poll(fake.model.time)
    assert sum(len(page.records) for page in mirror.pages) == 1
    assert mirror.state == fake.state


def test_a_tombstone_of_an_unknown_key_changes_nothing(fake: FakeNcmec, source: Ncmec) -> None:
    """It may be of an entry that was added and deleted between two polls."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    fake.model.tick(3600)
    fake.model.put(50)
    fake.model.delete(50)
    fake.model.tick(10)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_times_are_utc_wherever_the_machine_is(
    fake: FakeNcmec, source: Ncmec, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public client sends local time as if it were UTC, and loses entries east of Greenwich."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        mirror = Mirror(source)
        mirror.poll(fake.model.time)
        assert mirror.state == fake.state
        assert ranges(fake)[0] == ("1970-01-01T00:00:00Z", stamp(fake.model.now - 5))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_large_first_poll_is_halved_into_ranges(fake: FakeNcmec, password: Path) -> None:
    """Down to ranges with few entries, and longer again where there are none; together they leave no gap."""
    fake.restart(Model())
    fill(fake.model, 40, each=5)
    mirror = Mirror(source_of(fake, password, largest_range=8))
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    following = {asked.query["from"] for asked in fake.asked if "start" in asked.query}
    assert len(following) > 4
    assert len(fake.asked) < 80


def test_a_second_with_many_entries_is_read(fake: FakeNcmec, password: Path) -> None:
    """Thousands may share one second, which cannot be halved."""
    fake.restart(Model())
    for number in range(40):
        fake.model.put(number)
    fake.model.tick(10)
    mirror = Mirror(source_of(fake, password, largest_range=8))
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state


def test_an_entry_that_moves_while_a_range_is_read_hides_no_other(fake: FakeNcmec, source: Ncmec) -> None:
    """It leaves the range, and those behind it move up by one: the range is halved and read again."""
    mirror = Mirror(source)
    in_order = sorted(fake.model.records.values(), key=fake.order)  # type: ignore[arg-type]

    def change_the_first() -> None:
        fake.model.tick(1)
        fake.model.put(in_order[0].number)

    fake.model.tick(3600)
    fake.before[1] = change_the_first
    mirror.poll(fake.model.time)
    fake.model.tick(10)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    assert len(fake.asked) > 6


def test_the_next_page_is_asked_for_exactly_as_it_was_given(fake: FakeNcmec, source: Ncmec) -> None:
    """With other times than those of its range, the real server skips entries."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    first, *following = fake.asked
    assert [asked.target.partition("start=")[0] for asked in following] == [
        f"/hashsharing/v2/entries?from=1970-01-01T00:00:00Z&to={stamp(fake.model.now - 5)}&"
    ] * 3
    assert "start" not in first.query


@pytest.mark.parametrize("code", [400, 404, 410])
def test_a_range_whose_link_has_expired_is_read_again(fake: FakeNcmec, source: Ncmec, code: int) -> None:
    """The partner keeps its links for some hours; which status it answers then is not public."""
    mirror = Mirror(source)
    fake.faults[2] = status(code)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    for number in range(300):
        fake.faults[len(fake.asked) + number] = status(code)
    with pytest.raises(HttpStatusError, match=f"answered {code} to entries"):  # not a link: the range itself
        mirror.poll(fake.model.time)


def test_a_range_is_begun_again_after_a_long_pause(fake: FakeNcmec, source: Ncmec) -> None:
    """Links are followed for six hours; the partner promises twelve."""
    ticks = itertools.chain([0.0, 1.0, 7 * 3600.0], itertools.repeat(8 * 3600.0))
    mirror = Mirror(source)
    original = adapter.NcmecPoll

    class Slow(original):  # type: ignore[misc, valid-type]
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, clock=lambda: next(ticks))

    adapter.NcmecPoll = Slow  # type: ignore[assignment, misc]
    try:
        mirror.poll(fake.model.time)
    finally:
        adapter.NcmecPoll = original  # type: ignore[misc]
    assert mirror.state == fake.state
    assert len(ranges(fake)) > 1


def test_failures_that_pass_are_tried_again(fake: FakeNcmec, source: Ncmec) -> None:
    """Busy, down, cut off: the poll goes on with the same page."""
    mirror = Mirror(source)
    fake.faults = {0: status(429, Retry_After="0"), 2: status(503), 4: cut_body, 6: broken_body}
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    assert len(fake.asked) == 8


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_these_statuses_pass(fake: FakeNcmec, source: Ncmec, code: int) -> None:
    """Each is tried again, after the pause that the partner asks for."""
    fake.faults = {1: status(code, Retry_After="0")}
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    assert len(fake.asked) == 5


@pytest.mark.parametrize("code", [401, 403, 404, 501, 505])
def test_other_failures_are_not(fake: FakeNcmec, source: Ncmec, code: int) -> None:
    """They need a person."""
    fake.faults = {0: status(code)}
    mirror = Mirror(source)
    with pytest.raises(HttpStatusError, match=f"answered {code} to entries") as failed:
        mirror.poll(fake.model.time)
    assert len(fake.asked) == 1
    assert any(word in failed.value.hint for word in ("source", "partner", "peer"))


def test_a_partner_that_asks_for_a_long_pause_gets_it(fake: FakeNcmec, source: Ncmec) -> None:
    """A poll does not wait longer than two minutes: the next sync is planned for then."""
    fake.faults = {0: status(429, Retry_After="900")}
    with pytest.raises(HttpStatusError) as failed:
        Mirror(source).poll(fake.model.time)
    assert failed.value.retry_after == 900
    assert len(fake.asked) == 1


def test_an_answer_that_stays_cut_off_fails_the_poll(fake: FakeNcmec, source: Ncmec) -> None:
    """The checkpoint and the list stay as they were."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    before = mirror.checkpoint, mirror.state
    fake.model.tick(100)
    fake.faults = {len(fake.asked) + number: cut_body for number in range(9)}
    with pytest.raises(SourceError, match="entries: the answer is not well-formed XML"):
        mirror.poll(fake.model.time)
    assert (mirror.checkpoint, mirror.state) == before


def test_a_clock_that_was_ahead_leaves_no_hole(fake: FakeNcmec, source: Ncmec) -> None:
    """Ahead of the partner's clock, a poll ends where the partner's has got to; ahead and set back, it starts again."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time.replace(year=2027))
    assert mirror.checkpoint == {"to": stamp(fake.model.now - 5)}
    mirror.checkpoint = {"to": "2027-01-01T00:00:00Z"}
    mirror.poll(fake.model.time)
    assert mirror.whole
    assert mirror.state == fake.state


def test_a_clock_behind_the_checkpoint_asks_all_the_same(fake: FakeNcmec, source: Ncmec) -> None:
    """The partner is asked, and the checkpoint does not fall."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    reached = mirror.checkpoint
    fake.asked.clear()
    mirror.poll(fake.model.time - timedelta(seconds=30))
    assert (mirror.checkpoint, mirror.whole, len(fake.asked) > 0) == (reached, False, True)


def test_unknown_and_unusable_values_are_set_aside(fake: FakeNcmec, source: Ncmec) -> None:
    """They are counted and reported, and the rest of the entry stays."""
    fake.more[1] = f"<md5>{'0' * 31}</md5><md5>d41d8cd98f00b204e9800998ecf8427e</md5><pdq>{'00' * 32}</pdq><pdq/>"
    fake.more[2] = f"<sha1>{'zz' * 20}</sha1><newhash>abc</newhash><netclean>abc</netclean><pdna>AAAA</pdna>"
    fake.more[4] = f"<{'ab' * 16}>x</{'ab' * 16}><videntifier rel='self' href='/v2/large/4'/><md5>{'ab' * 20}</md5>"
    fake.extra = "<sound/><image><id>x</id></image>"
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state
    assert mirror.set_aside == {
        "NETCLEAN: not among the configured fingerprints": 1,
        "VIDENTIFIER: not among the configured fingerprints": 1,
        "md5: digest of nothing, or constant": 1,
        "md5: not hexadecimal": 1,
        "md5: wrong width": 1,
        "pdq: digest of nothing, or constant": 1,
        "photodna: wrong width": 1,
        "record with a key that is empty, unprintable or too long": 1,
        "sha1: not hexadecimal": 1,
        "unknown fingerprint newhash": 1,
        "unknown fingerprint that is not a short word": 1,
        "unknown kind of entry sound": 1,
    }


def test_upper_case_is_folded(fake: FakeNcmec, source: Ncmec) -> None:
    """Digests are bytes."""
    fake.upper = True
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.state == fake.state


def test_large_fingerprints_are_fetched_by_their_links(fake: FakeNcmec, password: Path) -> None:
    """If they are configured; each becomes the SHA-256 of its bytes, and is fetched again with each state."""
    fake.large = {"/v2/large/1": b"x" * 300_000, "/v2/large/2": b"y"}
    fake.more[1] = '<videntifier rel="self" href="/v2/large/1"/><tmk-pdqf rel="self" href="/v2/large/2"/>'
    fake.more[2] = '<tmkSaferHash href="/v2/large/2"/><SSVH_PDNA href="/v2/large/none"/>'
    fake.more[4] = "<netclean> y </netclean>"
    names = ("MD5", "NETCLEAN", "VIDENTIFIER", "SSVH_SAFER_HASH", "SSVH_PDNA")
    mirror = Mirror(source_of(fake, password, fingerprints=names))
    mirror.poll(fake.model.time)
    assert {str(one.algorithm) for one in mirror.records["images", "7/a-1"].fingerprints} == {
        "md5",
        "videntifier-sha256",
    }
    found = dict(mirror.state["images", "9/a-2"][1])
    assert found["ssvh_safer_hash-sha256"] == "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"
    assert dict(mirror.state["images", "9/a-4"][1])["netclean-sha256"] == found["ssvh_safer_hash-sha256"]
    assert mirror.set_aside["ssvh_pdna: nothing at its link"] == 1
    assert mirror.set_aside["TMK_PDQF: not among the configured fingerprints"] == 1


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"include": RecordFilter(members=("7",))}, lambda one: member_of(one) == "7"),
        ({"exclude": RecordFilter(members=("7",))}, lambda one: member_of(one) == "9"),
        ({"include": RecordFilter(classifications=("a1", "A2"))}, lambda one: (one.number + one.version) % 5 < 2),
        ({"exclude": RecordFilter(classifications=("",))}, lambda one: (one.number + one.version) % 5 < 4),
        ({"lists": (ListName("videos"),)}, lambda one: kind_of(one) == "video"),
    ],
)
def test_include_and_exclude(fake: FakeNcmec, password: Path, options: dict[str, Any], taken: Any) -> None:
    """By member, classification and list, in any case; an entry that is no longer taken is removed."""
    mirror = Mirror(source_of(fake, password, **options))
    for number in (None, 3, 4, 5):
        if number is not None:
            fake.model.put(number)
            fake.model.tick(100)
        mirror.poll(fake.model.time)
        wanted = {f"{kind_of(one)}s/{member_of(one)}/a-{one.number}" for one in fake.model.live if taken(one)}
        assert {"/".join(key) for key in mirror.state} == wanted


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        (0, 0, {"md5", "sha1", "pdq"}),
        (1, 0, {"md5", "pdq"}),
        (2, 0, {"md5"}),
        (0, 1, {"md5", "sha1"}),
        (0, 2, {"md5", "sha1", "pdq"}),
        (1, 1, {"md5"}),
    ],
)
def test_votes_decide_about_each_fingerprint(
    fake: FakeNcmec, password: Path, include: int, exclude: int, left: set[str]
) -> None:
    """Distinct members in favour, and against, also if reasons and members do not come in pairs."""
    three = '<member id="3"/>'
    odd = f'<negativeFeedback type="Pdq"><reasons><members>{three}{three}</members></reasons></negativeFeedback>'
    fake.votes[2] = votes("Md5", ["1", "2"], []).replace("</feedback>", f"{in_favour('PDQ', ['1'])}{odd}</feedback>")
    options = {"include": RecordFilter(votes=include), "exclude": RecordFilter(votes=exclude)}
    mirror = Mirror(source_of(fake, password, **options))
    mirror.poll(fake.model.time)
    record = mirror.records["images", "9/a-2"]
    assert {str(one.algorithm) for one in record.fingerprints} == left


def test_the_shape_is_all_that_decides_about_rows(fake: FakeNcmec, password: Path) -> None:
    """Another filter, list, fingerprint or address is another shape; a purpose or a proxy is not."""
    plain = source_of(fake, password)
    same = [source_of(fake, password, purpose="review"), source_of(fake, password, proxy="http://proxy.example:1")]
    others = [
        source_of(fake, password, lists=(ListName("images"),)),
        source_of(fake, password, fingerprints=("MD5",)),
        source_of(fake, password, include=RecordFilter(members=("7",))),
        source_of(fake, password, exclude=RecordFilter(votes=1)),
        Ncmec(name="ncmec", url="https://other.example/", username=USERNAME, password_file=password),
    ]
    assert [one.shape for one in same] == [plain.shape] * 2
    assert len({json.dumps(one.shape) for one in [plain, *others]}) == 6


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><queryResult>&b;</queryResult>",
            FeedError,
            "document type",
        ),
        (b"<queryResult>" + b"<a>" * 300 + b"</a>" * 300 + b"</queryResult>", SourceError, "not well-formed XML"),
        (b"<other/>", SourceError, "not a queryResult"),
        (b"", SourceError, "not well-formed XML"),
        (b"<q>" + b"<a/>" * 2_000_001 + b"</q>", FeedError, "more than 1000000 elements"),
        (b" " * ((32 << 20) + 1), SourceError, "larger than 33554432 bytes"),
        (
            b"<queryResult><paging><next>@evil.example/</next></paging></queryResult>",
            SourceError,
            "the link to the next page is not a path",
        ),
        (
            b"<queryResult><paging><next>/v2/entries?from=1970-01-01T00:00:00Z&amp;to=1970-01-01T00:00:00Z&amp;start=1"
            b"</next></paging></queryResult>",
            SourceError,
            "lead in a circle",
        ),
    ],
)
def test_hostile_answers(fake: FakeNcmec, source: Ncmec, body: bytes, error: type[SyncdError], message: str) -> None:
    """Each ends the poll with one sentence, and without a request elsewhere."""
    fake.faults = {number: lambda _: Reply(body, kind="application/xml") for number in range(9)}
    with pytest.raises(error, match=message):
        Mirror(source).poll(fake.model.time)


def test_the_password_is_nowhere(
    fake: FakeNcmec, source: Ncmec, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in the source as it goes to the worker, logs, kept answers, checkpoints or errors; it is sent in a header."""
    caplog.set_level(logging.DEBUG)
    basic = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    mirror = Mirror(source)
    fake.extra = f"<sound>{PASSWORD} {basic}</sound>"
    redirected = status(302, Location=f"https://{basic}.example/")
    told = [*told_by_polls(fake, mirror, status(401), redirected, cut_body, broken_body)]
    told += [pickle.dumps(source).decode(errors="replace"), caplog.text, *capfd.readouterr()]
    assert [text for text in told if PASSWORD in text or (basic in text and ".example" not in text)] == []
    assert all(PASSWORD not in asked.target and basic not in asked.target for asked in fake.asked)


def test_the_source_goes_to_the_worker_and_back(source: Ncmec) -> None:
    """As JSON, with plain values."""
    kind = TypeAdapter(Ncmec)
    assert kind.validate_json(kind.dump_json(source)) == source


def test_what_is_configured_is_checked(source: Ncmec, password: Path, tmp_path: Path) -> None:
    """Before the first poll: the file with the password is there and holds one."""
    source.check()
    (tmp_path / "empty").write_text("\n")
    for path, message in [(tmp_path / "none", "the password of source ncmec"), (tmp_path / "empty", "empty")]:
        with pytest.raises(ConfigError, match=message):
            Ncmec(name="ncmec", url=source.url, username="u", password_file=path).check()
    source.check_trust({})
    source.check_trust({"type": "ncmec"})
    with pytest.raises(RefusedError, match="the type of source ncmec has changed"):
        source.check_trust({"type": "feed"})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=SCRIPTS, largest=st.sampled_from([5, 1000]))
def test_every_completed_poll_ends_in_the_partners_state(
    server: FakeNcmec, password: Path, script: list[Step], largest: int
) -> None:
    """Whatever happens to the entries, before or during polls, and wherever polls are cut off."""
    server.restart(Model())
    server.page = 2
    fill(server.model, 12)
    server.model.tick(1000)
    mirror = Mirror(source_of(server, password, largest_range=largest))
    for step in play(server, mirror, script):
        if step.seconds > 5:
            assert mirror.state == server.state
    server.model.tick(10)
    mirror.poll(server.model.time)
    assert mirror.state == server.state


def test_a_count_that_is_overstated_costs_requests_and_no_entry(fake: FakeNcmec, source: Ncmec) -> None:
    """Declared counts are a reason to doubt, never to believe."""
    original = fake.answer

    def overstated(asked: Any) -> Reply:
        reply = original(asked)
        return Reply(reply.body.replace(b"max=12", b"max=900000"), kind=reply.kind)

    fake.answer = overstated  # type: ignore[method-assign]
    try:
        mirror = Mirror(source)
        mirror.poll(fake.model.time)
    finally:
        del fake.answer
    assert mirror.state == fake.state
