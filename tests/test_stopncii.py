"""StopNCII's adapter against a fake server, which the public client proves."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import TypeAdapter

from partners import real_client
from partners.leaks import told_by_polls
from partners.model import FIRST, Model
from partners.polls import Mirror
from partners.scripts import SCRIPTS, Step, fill, play
from partners.server import Reply, broken_body, cut_body, status
from partners.stopncii import FUNCTION_KEY, SUBSCRIPTION_KEY, FakeStopNcii, digest, kind_of, status_of
from syncd.errors import HttpStatusError, SyncdError, TruncatedError
from syncd.sources.selection import RecordFilter
from syncd.sources.stopncii import StopNcii


@pytest.fixture(scope="module")
def server() -> Iterator[FakeStopNcii]:
    with FakeStopNcii(Model()).running() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeStopNcii) -> FakeStopNcii:
    """Twelve hashes."""
    server.restart(Model())
    fill(server.model, 12)
    return server


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "function").write_text(f"{FUNCTION_KEY}\n")
    (folder / "subscription").write_text(SUBSCRIPTION_KEY)
    return folder


def source_of(fake: FakeStopNcii, keys: Path, **options: Any) -> StopNcii:
    files = {"function_key_file": keys / "function", "subscription_key_file": keys / "subscription", "page_size": 3}
    return StopNcii(name="stopncii", url=f"{fake.url}/v1", **{**files, **options})


def stated(mirror: Mirror) -> dict[tuple[str, str], tuple[str, str]]:
    """The mirror's rows in the fake's form: by list and digest."""
    return {
        (key[0], one.digest.hex()): (record.label, str(one.algorithm))
        for key, record in mirror.records.items()
        for one in record.fingerprints
    }


@pytest.fixture
def source(fake: FakeStopNcii, keys: Path) -> StopNcii:
    return source_of(fake, keys)


def test_the_public_client_reads_the_fake(fake: FakeStopNcii) -> None:
    """To the end, and its submissions arrive as it sends them, with its mistake in the type."""
    fake.most = 5
    fake.model.delete(4)
    read = real_client.read(
        "stopncii", base=f"{fake.url}/v1", function_key=FUNCTION_KEY, subscription_key=SUBSCRIPTION_KEY
    )
    wanted = {
        (kind_of(one), digest(one), status_of(one))
        for one in fake.model.records.values()
        if status_of(one) != "NewStatus"  # the client drops what it does not know
    }
    assert {(kind, value.lower(), state) for kind, value, state in read["records"]} == wanted
    assert len(read["checkpoints"]) == 3
    (feedback, one), (hashes, two) = fake.received
    assert (feedback, one["hashFeedbacks"]) == (
        "SubmitFeedback",
        [{"tags": [], "feedbackValue": "Blocked", "hashValue": "f" * 64}],
    )
    assert (hashes, two["hashRecords"][0]["signalType"]) == ("SubmitHashes", "StopNCIISignalType.ImagePDQ")


def test_a_first_poll_reads_everything(fake: FakeStopNcii, source: StopNcii) -> None:
    """From the beginning, in pages; for review unless configured otherwise."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.whole
    assert stated(mirror) == fake.state
    assert [asked.query["startTimestamp"] for asked in fake.asked] == ["10"] * 4
    assert {asked.query["pageSize"] for asked in fake.asked} == {"3"}
    assert mirror.checkpoint == {"next": FIRST + 22, "at": fake.model.now}
    media = {name: kind.media for name, kind in source.kinds.items()}
    assert media == {"images": "image", "videos": "video", "other": "any"}
    assert {kind.purpose for kind in source.kinds.values()} == {"review"}
    assert mirror.set_aside == {"unknown status NewStatus": 3}


def test_withdrawals_are_applied(fake: FakeStopNcii, source: StopNcii) -> None:
    """The public client keeps withdrawn and deleted hashes forever."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    fake.model.delete(1)
    fake.model.delete(2)
    fake.model.tick(10)
    mirror.poll(fake.model.time)
    assert not mirror.whole
    assert stated(mirror) == fake.state
    assert len(mirror.records) == 10
    assert fake.asked[-1].query["startTimestamp"] == str(FIRST + 22)


def test_a_hash_has_one_entry_in_either_case(fake: FakeStopNcii, source: StopNcii) -> None:
    """Stated in upper case and withdrawn in lower case, it is gone; other values are kept as they are written."""
    usual = {"signalType": "ImagePDQ", "caseNumbers": {}}
    fake.extra += [
        {**usual, "hashValue": "AB" * 32, "hashStatus": "Active"},
        {**usual, "hashValue": "ab" * 32, "hashStatus": "Withdrawn"},
        {"signalType": "Text", "hashValue": "QQ", "hashStatus": "Active"},
        {"signalType": "Text", "hashValue": "qq", "hashStatus": "Withdrawn"},
    ]
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert stated(mirror) == fake.state | {("other", sha256("QQ")): ("Active", "text-sha256")}


def test_an_entry_never_shows_a_hash(fake: FakeStopNcii, source: StopNcii) -> None:
    """The partner's key contains the hash itself, and entries are shown to operators."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert {key for _, key in mirror.records if any(digest(one) in key for one in fake.model.live)} == set()
    assert all(key.startswith(("ImagePDQ/", "VideoMD5/")) for _, key in mirror.records)


def test_a_falling_checkpoint_is_not_followed(fake: FakeStopNcii, source: StopNcii) -> None:
    """Only the one of the last page counts, and never one before the stored one, nor one in the future."""
    fake.falls = True
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert mirror.checkpoint == {"next": FIRST + 22, "at": fake.model.now}
    for value, reached in [(FIRST - 100, FIRST + 22), (FIRST * 2, fake.model.now)]:
        body = {"hasMoreRecords": False, "nextSetTimestamp": value, "hashRecords": []}
        fake.faults = {len(fake.asked): lambda _, body=body: Reply(json.dumps(body).encode())}  # type: ignore[misc]
        mirror.poll(fake.model.time)
        assert mirror.checkpoint == {"next": reached, "at": fake.model.now}


def test_a_page_that_comes_cut_off_is_asked_for_smaller(fake: FakeStopNcii, keys: Path) -> None:
    """Again, from the same place: nothing is skipped."""
    fake.cut_above = 2
    mirror = Mirror(source_of(fake, keys, page_size=8))
    mirror.poll(fake.model.time)
    assert stated(mirror) == fake.state
    assert [asked.query["pageSize"] for asked in fake.asked[:3]] == ["8", "4", "2"]
    assert mirror.set_aside["page that came cut off"] == 2


def test_a_page_that_stays_cut_off_holds_the_checkpoint(fake: FakeStopNcii, source: StopNcii) -> None:
    """The list stays, its age says so, and the message says whose fault it is."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    before = mirror.checkpoint, mirror.state
    fake.model.put(20)
    fake.model.tick(10)
    fake.cut_above = 0
    with pytest.raises(TruncatedError, match="not well-formed JSON, even with only") as failed:
        mirror.poll(fake.model.time)
    assert "nothing is skipped" in failed.value.hint
    assert (mirror.checkpoint, mirror.state) == before
    fake.cut_above = None
    mirror.poll(fake.model.time)
    assert stated(mirror) == fake.state


def test_a_token_that_is_refused_holds_the_checkpoint(fake: FakeStopNcii, source: StopNcii) -> None:
    """Tokens live for a short time: the next poll begins again, and misses nothing."""
    fake.faults = {1: status(400)}
    mirror = Mirror(source)
    with pytest.raises(HttpStatusError, match="answered 400 to FetchHashes"):
        mirror.poll(fake.model.time)
    assert mirror.checkpoint is None
    mirror.poll(fake.model.time)
    assert stated(mirror) == fake.state


def test_after_thirty_days_everything_is_read_again(fake: FakeStopNcii, source: StopNcii) -> None:
    """The partner forgets withdrawals by then: what it does not state any more is removed."""
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    fake.model.delete(1)
    fake.model.tick(29 * 86400)
    mirror.poll(fake.model.time)
    assert (mirror.whole, len(mirror.records)) == (False, 11)
    fake.model.delete(2)
    fake.model.tick(30 * 86400)
    fake.model.forget(fake.model.now)
    mirror.poll(fake.model.time)
    assert mirror.whole
    assert stated(mirror) == fake.state


def test_unknown_words_are_kept_and_reported(fake: FakeStopNcii, source: StopNcii) -> None:
    """An unknown status, feedback or field does not drop the record; an unusable hash does."""
    usual = {"signalType": "ImagePDQ", "hashStatus": "Active", "caseNumbers": {}}
    fake.extra += [
        {
            **usual,
            "hashValue": "ab" * 32,
            "newField": 1,
            "CSPFeedbacks": [{"feedbackValue": "Great"}, {"feedbackValue": "Undefined"}, "x"],
        },
        {**usual, "hashValue": "ab" * 16},
        {**usual, "hashValue": "00" * 32},
        {**usual, "hashValue": ""},
        {**usual, "signalType": "ImagePhotoDNA", "hashValue": "ab" * 144},
        {**usual, "signalType": "VideoTMK", "hashValue": " X "},
        {**usual, "signalType": "Text", "hashValue": "x", "hashStatus": "Withdrawn"},
        {**usual, "signalType": "ab" * 16, "hashValue": "x"},
        "record",
    ]
    mirror = Mirror(source)
    mirror.poll(fake.model.time)
    assert stated(mirror) == fake.state | {
        ("images", "ab" * 32): ("Active", "pdq"),
        ("images", sha256("ab" * 144)): ("Active", "imagephotodna-sha256"),
        ("videos", sha256("X")): ("Active", "videotmk-sha256"),
        ("other", sha256("x")): ("Active", "unnamed-sha256"),
    }
    entries = {key for _, key in mirror.records if not key.startswith(("ImagePDQ/", "VideoMD5/"))}
    assert {key.partition("/")[0] for key in entries} == {"ImagePhotoDNA", "VideoTMK", "unnamed"}
    assert mirror.set_aside == {
        "hash of type VideoTMK, carried by the SHA-256 of its text": 1,
        "pdq: digest of nothing, or constant": 1,
        "pdq: wrong width": 1,
        "record that is not an object": 1,
        "record without a hash": 1,
        "unknown feedback Great": 1,
        "unknown feedback that is not a short word": 1,
        "unknown field newField": 1,
        "unknown status NewStatus": 3,
        "unknown type of hash ImagePhotoDNA": 1,
        "unknown type of hash that is not a short word": 1,
    }


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, {1, 2}),
        ({"include": RecordFilter(votes=1)}, {1}),
        ({"exclude": RecordFilter(votes=2)}, {1}),
        ({"exclude": RecordFilter(statuses=("active",))}, {1}),
        ({"include": RecordFilter(statuses=("Active",))}, {2}),
    ],
)
def test_include_and_exclude(fake: FakeStopNcii, keys: Path, options: dict[str, Any], left: set[int]) -> None:
    """By status, and by the number of members that blocked, or did not, after review."""
    fake.restart(Model())
    fake.model.put(1)
    fake.model.put(2)
    fake.model.put(1)
    fake.model.put(2)
    fake.model.put(2)  # 1 is Unknown now, 2 is Received; then:
    fake.model.put(2)
    fake.feedback[1] = [{"source": "A", "feedbackValue": "Blocked"}, {"feedbackValue": "NotBlocked", "source": "B"}]
    fake.feedback[2] = [{"source": one, "feedbackValue": "NotBlocked"} for one in "ABA"]
    assert [status_of(one) for one in fake.model.live] == ["Unknown", "Active"]
    mirror = Mirror(source_of(fake, keys, **options))
    fake.model.tick(10)
    mirror.poll(fake.model.time)
    wanted = {digest(one) for one in fake.model.live if one.number in left}
    assert {key for _, key in stated(mirror)} == wanted


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "not a JSON object"),
        (b'{"hashRecords": {}}', "no hashRecords"),
        (b'{"hashRecords": [], "hasMoreRecords": true, "nextPageToken": null}', "without a way to them"),
        (b'{"hashRecords": [], "hasMoreRecords": true, "nextPageToken": "10-1"}', "without a way to them"),
        (b'{"hashRecords": [], "hasMoreRecords": false, "nextSetTimestamp": -1}', "no nextSetTimestamp"),
        (b'{"hashRecords": [], "hasMoreRecords": false, "nextSetTimestamp": 1e999}', "no nextSetTimestamp"),
        (b'{"a":' * 100_000, "well-formed"),
        (b'{"a": NaN}', "well-formed"),
        (b'{"a": [' + b"0," * 1_000_001 + b"0]}", "more than 1000000 elements"),
    ],
)
def test_hostile_answers(fake: FakeStopNcii, source: StopNcii, body: bytes, message: str) -> None:
    """Each ends the poll with one sentence."""
    fake.faults = {number: lambda _: Reply(body) for number in range(20)}
    with pytest.raises(SyncdError, match=message):
        Mirror(source).poll(fake.model.time)


def test_the_keys_are_nowhere(
    fake: FakeStopNcii, source: StopNcii, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are sent in headers, and are in no log, kept answer, checkpoint or error."""
    caplog.set_level(logging.DEBUG)
    fake.extra.append({"signalType": FUNCTION_KEY, SUBSCRIPTION_KEY: 1})
    mirror = Mirror(source)
    told = [*told_by_polls(fake, mirror, status(401), status(503), cut_body, broken_body), caplog.text]
    told += capfd.readouterr()
    assert [text for text in told if FUNCTION_KEY in text or SUBSCRIPTION_KEY in text] == []
    assert all(FUNCTION_KEY not in asked.target for asked in fake.asked)


def test_wrong_keys_are_a_matter_for_people(fake: FakeStopNcii, keys: Path, tmp_path: Path) -> None:
    """They are not tried again."""
    (tmp_path / "wrong").write_text("wrong-key")
    source = source_of(fake, keys, function_key_file=tmp_path / "wrong")
    with pytest.raises(HttpStatusError, match="answered 401 to FetchHashes"):
        Mirror(source).poll(fake.model.time)
    assert len(fake.asked) == 1
    kind = TypeAdapter(StopNcii)
    assert kind.validate_json(kind.dump_json(source)) == source


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=SCRIPTS)
def test_every_completed_poll_ends_in_the_partners_state(server: FakeStopNcii, keys: Path, script: list[Step]) -> None:
    """Whatever happens to the hashes, before or during polls, and wherever polls are cut off."""
    server.restart(Model())
    mirror = Mirror(source_of(server, keys, page_size=2))
    for _ in play(server, mirror, script):
        assert stated(mirror) == server.state
    server.model.tick(1)
    mirror.poll(server.model.time)
    assert stated(mirror) == server.state
