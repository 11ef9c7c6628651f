"""A timestamp that is valid for far too long, since its signer's clock was ahead: reported, and its expiry capped."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from command_line import operate, syncd
from runbook import what_to_do
from scrapes import scrape
from syncd import events
from syncd.errors import ExpiredError
from syncd.event import Event
from syncd.feed.folder import TRUST
from syncd.publish import author
from syncd.publish.rotate import KeyFolders, in_feed, renew
from syncd.report import overview
from syncd.service.syncs import Syncs
from syncd.service.web.dashboard.tasks import tasks
from syncd.trust.overlong import COUNTED, LateExpiry, OverlongTimestamp, judge_lifetime, read_overlong
from test_metrics import told
from world import HEAD, START, World, row, rows

DAYS = timedelta(days=1)
YEAR = 365 * DAYS
AHEAD = 100 * DAYS
LATE = LateExpiry(START + AHEAD + 2 * DAYS, START + 30 * DAYS)
"""The partner's timestamp, as it states and as it counts."""
WORDS = "its timestamp is valid for far too long, until 2026-04-13 12:00 UTC: it counts only until 2026-01-31 12:00 UTC"


@pytest.fixture
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner whose clock was a hundred days ahead when it published; ours is right."""
    operate(world, monkeypatch)
    publish_ahead(world, 0, 9)
    return world


def publish_ahead(world: World, start: int, stop: int) -> None:
    world.clock.now += AHEAD
    world.publish(full=rows(start, stop))
    world.clock.now -= AHEAD


def sign_again(world: World) -> None:
    """The partner's clock is right again, and it accepts that."""
    at = KeyFolders(world.partner_keys, (world.partner_offline,))
    renew(world.partner, in_feed(world.partner), at, world.clock(), world.clock())
    author.sign(world.partner, world.partner_signers(), world.clock())


# the judgement

SEEN = OverlongTimestamp(7, START + YEAR, START)


@pytest.mark.parametrize(
    ("known", "version", "left", "after", "judged"),
    [
        (None, 7, 2 * DAYS, 0 * DAYS, None),
        (None, 7, COUNTED, 0 * DAYS, None),
        (None, 7, YEAR, 0 * DAYS, SEEN),
        (SEEN, 7, YEAR, 10 * DAYS, SEEN),
        (SEEN, 7, YEAR, 30 * DAYS, replace(SEEN, ended=True)),
        (SEEN, 8, YEAR + 10 * DAYS, 10 * DAYS, OverlongTimestamp(8, START + YEAR + 10 * DAYS, START + 10 * DAYS)),
        (SEEN, 8, 12 * DAYS, 10 * DAYS, None),
        (replace(SEEN, ended=True), 7, YEAR, 340 * DAYS, replace(SEEN, ended=True)),
        (SEEN, 7, YEAR, -9 * DAYS, replace(SEEN, since=START - 9 * DAYS)),
        (SEEN, 7, YEAR, 340 * DAYS, None),
    ],
    ids=[
        "as syncd signs",
        "thirty days",
        "a year",
        "counted from the first time",
        "thirty days later",
        "another timestamp",
        "an honest one",
        "ended, and little is left",
        "our clock was ahead when it was first seen",
        "our clock was a year behind when it was first seen",
    ],
)
def test_a_lifetime_is_judged_from_the_first_time_a_timestamp_is_seen(
    known: OverlongTimestamp | None,
    version: int,
    left: timedelta,
    after: timedelta,
    judged: OverlongTimestamp | None,
) -> None:
    """``left``: until its stated expiry, from `START`; ``after``: the time since then."""
    assert judge_lifetime(known, version, START + left, START + after) == judged


# a source


def test_a_sync_publishes_and_reports_it_once(world: World) -> None:
    """What was verified is used; the warning says what counts."""
    ran = syncd("sync", "--json")
    assert (ran.code, ran.json["syncs"][0]["late_expiry"]["message"]) == (0, WORDS)
    assert syncd("sync", "--json").json["syncs"][0]["late_expiry"] is None
    publish_ahead(world, 0, 8)
    ran = syncd("sync")
    assert ran.code == 0
    assert f"warning: iwf: {WORDS}\n" in ran.err


def test_every_view_tells_it(world: World) -> None:
    """Status, its check, the dashboard and the metrics, and which of its two times is which."""
    assert world.sync().exit_code == 0
    assert f"warning: iwf: {WORDS}; check the clock of this host" in syncd("status").err
    (source,) = syncd("status", "--json").json["sources"]
    assert source["late_expiry"]["expires"] == "2026-04-13T12:00:00Z"
    assert source["late_expiry"]["counts_until"] == "2026-01-31T12:00:00Z"
    check = syncd("status", "--check")
    assert check.code == 1
    assert WORDS in check.out
    with world.publisher() as publisher:
        seen = overview.read(world.state, publisher.catalog, {"iwf": 3600.0}, world.clock())
    (task,) = [one for one in tasks(seen) if one.why == WORDS]
    assert not task.urgent
    with told(world) as (_, metrics, _events):
        scraped = scrape(metrics)
        assert scraped("syncd_source_late_expiry_seconds", source="iwf") == (AHEAD - 28 * DAYS).total_seconds()
        until = scraped("syncd_source_metadata_expiry_timestamp_seconds", source="iwf", role="timestamp")
        assert until == LATE.until.timestamp()


def test_the_daemon_logs_it_once(world: World) -> None:
    """As an event that a person must act on."""
    logged: list[Event] = []
    with world.publisher() as publisher:
        syncs = Syncs(publisher, world.clock, logged.append, lambda _: None)
        for outcome in (world.sync(), world.sync()):
            syncs._emit_outcome(outcome)
    (found,) = [event for event in logged if isinstance(event, events.LateExpiryFound)]
    assert (found.message, found.source, found.expires, found.counts_until) == (WORDS, "iwf", LATE.expires, LATE.until)


def test_a_feed_that_is_no_longer_signed_is_rejected_after_thirty_days(world: World) -> None:
    """However long the timestamp states, and also once less than thirty days are left of that."""
    assert world.sync().exit_code == 0
    world.clock.forward(days=29)
    assert world.sync().exit_code == 0
    for days in (1, 60):
        world.clock.forward(days=days)
        outcome = world.sync()
        assert isinstance(outcome.error, ExpiredError)
        assert outcome.error.message == f"the feed was not signed again for 30 days, and {WORDS}"
        assert "iwf.images version 1" in outcome.error.serving


def test_a_partner_that_signs_again_ends_it(world: World) -> None:
    """In every view, at the first sync; also after it was rejected."""
    assert "ask the partner to correct theirs and sign again" in " ".join(what_to_do("SyncdPartnerClockAhead").split())
    assert world.sync().exit_code == 0
    world.clock.forward(days=40)
    assert world.sync().exit_code == 4
    sign_again(world)
    assert world.sync().exit_code == 0
    assert syncd("status", "--json").json["sources"][0]["late_expiry"] is None
    assert syncd("status", "--check").code == 0
    assert not world.state.source("iwf").work.joinpath(TRUST, ".overlong").exists()


def test_a_clock_of_ours_that_was_far_behind_rejects_nothing(world: World) -> None:
    """The partner's was right: once ours is too, its timestamp counts in full."""
    world.clock.now = START - timedelta(hours=1)
    assert world.sync().late_expiry is not None
    world.clock.now = START + AHEAD
    assert world.sync().exit_code == 0
    assert syncd("status", "--json").json["sources"][0]["late_expiry"] is None


def test_a_record_that_is_damaged_is_made_again(world: World) -> None:
    """It counts from then on."""
    assert world.sync().exit_code == 0
    folder = world.state.source("iwf").work / TRUST
    (folder / ".overlong").write_text("{")
    assert read_overlong(folder) is None
    assert world.sync().late_expiry == LATE


# a copy


def test_a_copy_warns_and_its_metadata_expires_after_thirty_days(world: World) -> None:
    """The pull says it, status and the matcher too, from the copy alone; then pulls are refused."""
    root = ("--root", world.root, "--dir", world.mirror)
    ran = syncd("pull", world.url, *root)
    assert ran.code == 0
    assert "warning: the feed was signed 100 days in the future: " in ran.err
    assert WORDS in ran.err
    assert syncd("pull", world.url, *root, "--json").json["timestamp_counts_until"] == "2026-01-31T12:00:00Z"
    assert WORDS in syncd("status", world.mirror).err
    assert syncd("status", world.mirror, "--check").code == 2
    world.copy = world.mirror
    matcher = world.matcher()
    assert [(one.late_expiry, one.expired) for one in matcher.status()] == [(LATE, ())]
    world.clock.forward(days=30)
    assert [one.expired for one in matcher.status()] == [("timestamp",)]
    assert syncd("pull", world.url, *root).code == 4
    assert len(world.hits(1)) == 1


def test_a_copy_of_an_honest_feed_does_not_mention_it(world: World) -> None:
    """Neither in its record, whose form is frozen, nor in any view."""
    sign_again(world)
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert set(json.loads((world.copy / "current.json").read_text())["lists"][HEAD]) == {
        "version",
        "manifest",
        "metadata",
        "verified_at",
        "retired",
    }
    (status,) = world.matcher().status()
    assert status.late_expiry is None
    assert [hit.list for hit in world.matcher().lookup("sha256", row(1)[1])] == [HEAD]
