"""What the version before format 1 was frozen has written opens, answers as it did, and goes on (`fixtures/today`)."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from command_line import operate, syncd
from standing import prove_feed, prove_partner
from stored import STORED, unpack
from syncd.acts import Earlier
from syncd.feed.signed import load_repository
from syncd.matcher import Matcher
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.publish.journal import Journal
from syncd.service.access import Access
from syncd.verify.copy import prove_copy
from world import HEAD, IMAGES, Clock, World, row

EXPECTED = json.loads((STORED / "today" / "expected.json").read_text())
NOW = datetime.strptime(EXPECTED["now"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
VIDEOS = ListName("videos")


def stored(base: Path, *archives: str) -> World:
    """The world that was stored, a minute later."""
    for archive in archives:
        unpack(f"today/{archive}", base)
    world = World(base, Clock(NOW))
    world.clock.forward(minutes=1)
    return world


@pytest.fixture
def today(tmp_path: Path) -> World:
    """The partner, the operator and the matcher's copy."""
    return stored(tmp_path, "partner", "state", "copy")


def check_answers(matcher: Matcher, expected: dict[str, Any]) -> None:
    """Lists, versions, rows, ages, and the answer to each digest that was asked then."""
    found = {
        one.list: {
            "version": one.version,
            "rows": one.rows,
            "serial": one.serial,
            "verified_at": f"{one.verified_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        for one in matcher.status()
    }
    assert found == expected["lists"]
    asked = {text: matcher.lookup(*text.split(":")) for text in expected["lookup"]}
    assert {text: [list(hit) for hit in hits] for text, hits in asked.items()} == expected["lookup"]


def partner_follows(world: World, expected: dict[str, Any]) -> Matcher:
    """A new matcher that pulls straight from the partner answers as one did then."""
    assert not world.follow().errors
    matcher = Matcher.open(world.mirror, clock=world.clock)
    check_answers(matcher, expected)
    return matcher


def test_a_partners_feed_is_followed_and_goes_on(tmp_path: Path) -> None:
    """Both lists are answered as they were; then an addition, a removal and a fold are published."""
    world = stored(tmp_path, "partner")
    prove_partner(world)
    matcher = partner_follows(world, EXPECTED["partner"])
    assert world.publish(add=[row(901)], remove=[row(7)]).version == 13
    assert world.publish(add=[row(6, "V", "md5")], name=VIDEOS).version == 3
    assert not world.follow().errors
    assert matcher.reload()
    assert (len(world.hits(901, matcher)), world.hits(7, matcher)) == (1, [])
    prove_partner(world)


def test_a_state_is_opened_reported_and_goes_on(today: World) -> None:
    """Catalog, feed and keys are sound; the partner has no news; a new version is fetched as a delta and published."""
    prove_feed(today)
    outcome = today.sync()
    assert [(one.list, one.outcome, one.version) for one in outcome.lists] == [
        (HEAD, Outcome.UP_TO_DATE, EXPECTED["operator"]["lists"][HEAD]["version"]),
        ("iwf.videos", Outcome.UP_TO_DATE, EXPECTED["operator"]["lists"]["iwf.videos"]["version"]),
    ]
    today.publish(add=[row(901)], remove=[row(7)])
    published = today.sync().lists[0]
    assert (published.outcome, str(published.plan), published.version) == (Outcome.PUBLISHED, "deltas", 13)
    prove_feed(today)


def test_status_and_audit_log_tell_what_they_told(today: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list with its version and entries, and every entry of the audit log."""
    operate(today, monkeypatch)
    lists = syncd("status", "--json").json["lists"]
    assert {one["list"]: (one["version"], one["rows"]) for one in lists} == {
        name: (one["version"], one["rows"]) for name, one in EXPECTED["operator"]["lists"].items()
    }
    with today.publisher() as publisher:
        entries = publisher.catalog.audit_entries()
        assert publisher.catalog.check_audit().faults == ()
    told = [
        [one.actor, one.act.action, f"{one.at:%Y-%m-%dT%H:%M:%SZ}"]
        for one in reversed(entries)
        if isinstance(one.act, Earlier)
    ]
    assert told[: len(EXPECTED["audit"])] == EXPECTED["audit"]


def test_tokens_given_out_still_let_in(today: World) -> None:
    """A matcher reads the lists it was given, and a revoked one none."""
    with today.publisher() as publisher:
        access = Access(publisher.catalog)
        web, videos = (access.admit(f"Bearer {EXPECTED['tokens'][name]}".encode()) for name in ("web", "videos-only"))
        revoked = access.admit(b"Bearer syncd_" + b"c" * 43)
    assert web is not None
    assert videos is not None
    assert (web.may_read(HEAD), videos.may_read(HEAD), videos.may_read("iwf.videos")) == (True, False, True)
    assert revoked is None


@pytest.mark.parametrize("copy", ["copy", "copy-no-checksum"])
def test_a_copy_answers_and_is_brought_up_to_date(tmp_path: Path, copy: str) -> None:
    """Also one whose current.json has no checksum; what it holds is not fetched again."""
    world = stored(tmp_path, "partner", "state", copy)
    matcher = world.matcher()
    check_answers(matcher, EXPECTED["operator"])
    again = world.pull()
    assert (again.errors, again.changed) == ([], False)
    world.publish(add=[row(901)], remove=[row(7)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert matcher.reload()
    assert (len(world.hits(901, matcher)), world.hits(7, matcher)) == (1, [])
    assert not prove_copy(world.copy, world.operator_root.read_bytes(), world.clock()).faults


def test_a_publication_killed_before_its_install_is_finished(tmp_path: Path) -> None:
    """Opening the state makes visible what was committed, and the next sync goes on from there."""
    world = stored(tmp_path, "partner", "pending")
    committed = EXPECTED["operator"]["lists"][HEAD]["version"]
    target = f"v1/{HEAD}/manifest.json"
    assert load_repository(world.state.feed).targets()[target].version == committed - 1
    with world.publisher() as publisher:
        assert publisher.catalog.pending() == ()
    assert load_repository(world.state.feed).targets()[target].version == committed
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    prove_feed(world)
    assert (len(world.hits(900)), world.hits(5)) == (1, [])


def test_a_feed_killed_before_its_install_is_finished(tmp_path: Path) -> None:
    """The next publication first makes visible what lay in the journal."""
    world = stored(tmp_path, "journal")
    assert Journal(world.partner).pending()
    assert load_repository(world.partner).targets()[f"v1/{IMAGES}/manifest.json"].version == 12
    assert world.publish(add=[row(902)]).version == 14
    prove_partner(world)
    assert not world.follow().errors
    matcher = Matcher.open(world.mirror, clock=world.clock)
    assert [len(world.hits(number, matcher)) for number in (900, 901, 902)] == [1, 1, 1]
