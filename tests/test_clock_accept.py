"""A clock that was ahead for too long to correct itself: every view reports it, and a person accepts the right time."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command_line import Ran, configure, operate, syncd, use_clock
from scrapes import scrape_site
from syncd.acts import AcceptedClock
from syncd.clock import ClockReading, in_future
from syncd.errors import RefusedError, RollbackError, StaleMirrorError, UsageError
from syncd.feed.signed import load_repository
from syncd.fetch import Endpoint
from syncd.kernel_clock import KernelClock, kernel_clock
from syncd.locks import lock
from syncd.matcher.pull import PullResult, pull
from syncd.matcher.watch import PullAttempt
from syncd.operate.clock import accept_clock
from syncd.pipeline.timestamp import sign_if_due
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.service.web.dashboard.tasks import tasks
from syncd.sources.feed_memory import FeedMemory
from syncd.trust.values import signed_at
from test_clock_synchronised import program
from test_daemon import daemon, text
from web_site import running
from world import HEAD, START, Clock, World, row, rows

UNITS = Path(__file__).parents[1] / "systemd"
NOW = "2026-01-01T12:10:00Z"
"""When the clock is right again: ten minutes after the world was made."""


@pytest.fixture(autouse=True)
def _a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that says the same on every host."""
    for module in ("clock", "pull", "rotate"):
        monkeypatch.setattr(f"syncd.cli.{module}.kernel_clock", lambda: KernelClock(True, timedelta(milliseconds=12)))


@pytest.fixture
def ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator that synced and a host that pulled thirty hours ahead of time; now both clocks are right."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    world.clock.forward(minutes=10)
    right = world.clock.now
    world.clock.forward(hours=30)
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    world.clock.now = right
    return world


def accept(time: str = NOW, *more: object) -> Ran:
    """The operator's command."""
    return syncd("clock", "accept", time, "--reason", "RTC in local time", *more)


def signed(world: World) -> dict[str, datetime]:
    """When each role of the operator's feed was signed."""
    return {role: signed_at(role, at) for role, at in load_repository(world.state.feed).expiries().items()}


def memory(world: World) -> FeedMemory:
    """The memory of the source."""
    with world.publisher() as publisher:
        return FeedMemory.of(publisher.catalog.source("iwf").memory)


def seen(world: World) -> Overview:
    """The overview that every view shows."""
    with world.publisher() as publisher:
        return overview.read(world.state, publisher.catalog, {"iwf": 3600.0}, world.clock())


# reports


def test_status_names_the_times_and_the_cure(ahead: World) -> None:
    """By how much each is ahead; the document has them all."""
    told = syncd("status").err
    assert "warning: the clock floor of source iwf is dated 1 day in the future (2026-01-02T18:10:00Z); " in told
    assert "; the signature of timestamp is dated 1 day in the future" in told
    assert "run `syncd clock accept TIME --reason R`" in told
    document = syncd("status", "--json").json
    assert document["clock"]["ahead_seconds"] == 30 * 3600
    named = {one["what"] for one in document["clock"]["times"]}
    assert named == {"the clock floor of source iwf", "the signature of timestamp", "the verification of iwf.images"}
    assert {role["role"]: role["state"] for role in document["metadata"]}["timestamp"] == "signed in the future"


def test_the_times_are_shown_beside_the_clock(ahead: World) -> None:
    """With what the kernel says, and what to do; afterwards there are none."""
    ran = syncd("clock")
    assert ran.code == 0
    assert ran.out.startswith(f"this host's clock: {NOW}\nthe kernel says that this clock is synchronised")
    assert "the clock floor of source iwf: 2026-01-02T18:10:00Z, 1 day in the future\n" in ran.out
    assert "syncd clock accept" in ran.err
    assert syncd("clock", "--json").json["ahead_seconds"] == 30 * 3600
    accept()
    assert syncd("clock").out.endswith("no time of the state lies in the future\n")


def test_every_view_reports_the_fault(ahead: World) -> None:
    """The check is critical, the metric positive, and the dashboard has a task; until the clock is accepted."""
    ran = syncd("status", "--check")
    assert ran.code == 2
    assert "`syncd clock accept TIME --reason R`" in ran.out
    (task,) = [task for task in tasks(seen(ahead)) if "clock accept" in task.to_do]
    assert task.urgent
    with running(ahead) as web:
        assert scrape_site(web)("syncd_state_ahead_seconds") == 30 * 3600
    accept()
    assert syncd("status", "--json").json["clock"] == {
        "ahead_seconds": 0,
        "times": [],
        "act": None,
        "section": None,
    }
    assert syncd("status").err == ""
    assert syncd("status", "--check").code == 0
    with running(ahead) as web:
        assert scrape_site(web)("syncd_state_ahead_seconds") == 0


def test_five_minutes_are_no_fault() -> None:
    """Clocks of hosts may differ by that."""
    readings = [ClockReading("a", START + timedelta(minutes=5)), ClockReading("b", START + timedelta(minutes=6))]
    assert [reading.what for reading in in_future(readings, START)] == ["b"]


def test_a_signature_of_another_century_is_replaced_by_the_first_good_sync(world: World) -> None:
    """A partner's timestamp that is valid now, and verified now, proves that the present clock is right."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    right = world.clock.now
    world.clock.now = right.replace(year=2069)
    assert world.sync().exit_code == 4  # the partner's metadata expired long ago, by this clock
    assert signed(world)["timestamp"].year == 2069
    world.clock.now = right + timedelta(minutes=20)
    with world.publisher() as publisher, pytest.raises(RefusedError, match="runs backwards") as refused:
        sign_if_due(publisher, world.clock())
    assert "`syncd clock accept TIME --reason R`" in refused.value.hint
    assert world.sync().exit_code == 0
    assert signed(world)["timestamp"] == world.clock()


def test_a_sync_that_proves_nothing_does_not_sign_over_it(world: World) -> None:
    """A partner that cannot be reached, or that signed in the future of this clock, proves nothing about it."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    right = world.clock.now
    world.clock.now = right.replace(year=2069)
    world.sync()
    world.clock.now = right + timedelta(hours=1)
    world.publish(full=rows(0, 9))  # the partner signs again, an hour later than our clock
    world.clock.now = right
    assert isinstance(world.sync().error, RefusedError)
    world.clock.now = right + timedelta(hours=1)
    assert world.sync(url=(world.base / "gone").as_uri()).exit_code != 0
    assert signed(world)["timestamp"].year == 2069
    assert world.sync().exit_code == 0
    assert signed(world)["timestamp"] == world.clock()


# the operator


def test_accepting_shows_both_times_and_is_recorded(ahead: World) -> None:
    """What was and what is, the kernel's word, and an act with the reason."""
    ran = accept()
    assert ran.code == 0
    assert "the clock floor of source iwf: was 2026-01-02T18:10:00Z, now 2026-01-01T12:10:00Z\n" in ran.out
    assert "the signature of timestamp: was 2026-01-02T18:10:00Z, now 2026-01-01T12:10:00Z\n" in ran.out
    assert ran.err == "note: the kernel says that this clock is synchronised, to within 0.012 s\n"
    with ahead.publisher() as publisher:
        (entry,) = [entry for entry in publisher.catalog.audit_entries() if isinstance(entry.act, AcceptedClock)]
    assert entry.act == AcceptedClock(NOW, "2026-01-02T18:10:00Z", ("iwf",), "RTC in local time")


def test_syncs_go_on_and_ages_count_again(ahead: World) -> None:
    """The refusal names this command; after it, the source is followed, and matchers see the right age."""
    ahead.publish(add=[row(9)])
    refused = ahead.sync().error
    assert isinstance(refused, RefusedError)
    assert "`syncd clock accept TIME --reason R`" in refused.hint
    assert accept().code == 0
    assert ahead.sync().exit_code == 0
    assert signed(ahead)["timestamp"] == ahead.clock()
    assert load_repository(ahead.state.feed).freshness()[HEAD].verified_at == ahead.clock()


def test_the_floors_of_versions_stay(ahead: World) -> None:
    """Only the clock is accepted: an older feed is refused as before."""
    before = memory(ahead).floors
    assert accept().code == 0
    after = memory(ahead).floors
    assert (after.root, after.timestamp, after.snapshot, after.roles) == (
        before.root,
        before.timestamp,
        before.snapshot,
        before.roles,
    )
    assert after.clock == START + timedelta(minutes=10)


def test_it_is_accepted_once(ahead: World) -> None:
    """A second time there is nothing to accept: it is of no use in a unit or script."""
    assert accept().code == 0
    ran = accept()
    assert (ran.code, ran.out) == (6, "")
    assert "there is no clock to accept: no recorded time lies in the future" in ran.err


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("2026-01-01T12:16:00Z", "2026-01-01T12:16:00Z is in the future: this host's clock says 2026-01-01T12:10:00Z"),
        ("2026-01-01T11:59:59Z", "is dated 2026-01-01T12:00:00Z, which is not in the future"),
        ("2025-12-24", "TIME does not name its time zone"),
        ("2026-01-01T12:10", "TIME does not name its time zone"),
        ("0001-01-01T00:00+14:00", "TIME is not a time"),
        ("yesterday", "TIME is not a time"),
        ("", "TIME is not a time"),
        ("10m", "TIME is not a time"),
    ],
)
def test_a_time_that_is_not_permitted_changes_nothing(ahead: World, time: str, said: str) -> None:
    """In the future, below what was signed, without a zone, or no time at all; the lower limit is named."""
    before = memory(ahead)
    ran = accept(time)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "nothing was changed" in ran.err
    assert memory(ahead) == before
    assert accept("2026-01-01T12:00:00Z").code == 0  # the limit itself


def test_a_reason_is_needed(ahead: World) -> None:
    """An empty one is refused."""
    ran = syncd("clock", "accept", NOW, "--reason", " ")
    assert ran.code == 2
    assert "a reason is needed" in ran.err


def test_another_zone_is_the_same_time(ahead: World) -> None:
    """A wall clock shows local time."""
    assert json.loads(accept("2026-01-01T13:10:00+01:00", "--json").out)["time"] == NOW


def test_without_a_state_nothing_is_accepted(ahead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is named."""
    configure(ahead.base / "other.toml", f'state_dir = "{ahead.base}/none"\n', monkeypatch)
    assert accept().code == 2


def test_the_state_of_another_user_is_left_alone(ahead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its owner or the daemon accepts a clock."""
    monkeypatch.setattr("syncd.cli.operator.is_of_another", lambda _: True)
    ran = accept()
    assert ran.code == 6
    assert "belongs to" in ran.err


def test_a_sync_that_runs_is_waited_for(ahead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync would overwrite the new floor; if it does not end, nothing is accepted."""
    monkeypatch.setattr("syncd.operate.clock._PATIENCE", 0.0)
    before = memory(ahead)
    with lock(ahead.state.source("iwf").lock, "a sync of iwf"):
        assert accept().code == 6
    assert memory(ahead) == before


def test_root_and_targets_need_their_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator was set up by a clock that was ahead: the online keys first, then the offline keys."""
    right = world.clock.now
    world.base.joinpath("late").mkdir()
    late = World(world.base / "late", Clock(right + timedelta(days=9)))
    operate(late, monkeypatch)
    late.clock.now = right
    ran = accept("2026-01-01T12:00:00Z")
    assert ran.code == 0
    assert "to do: the signature of root is dated 9 days in the future" in ran.err
    assert "syncd feed renew STATE --state --offline-keys DIR --accept-clock TIME" in ran.err
    assert accept("2026-01-01T12:00:00Z").code == 6
    renewing = ("feed", "renew", late.state.root, "--state", "--reason", "RTC", "--accept-clock", "2026-01-01T12:00Z")
    assert "name their folder with --offline-keys" in syncd(*renewing).err
    assert syncd(*renewing, "--offline-keys", late.offline).code == 0
    assert set(signed(late).values()) == {right}
    assert syncd("status", "--json").json["clock"]["act"] is None


def test_the_floor_is_never_below_a_verification(ahead: World) -> None:
    """A direct call has the same lower limit: the newest past verification that is held."""
    with ahead.publisher() as publisher, pytest.raises(UsageError, match="is too early"):
        accept_clock(publisher, START - timedelta(seconds=1), reason="r", actor="me", now=ahead.clock())


# a copy


def pull_again(world: World, accepted: datetime | None = None) -> PullResult:
    """The matcher's host pulls."""
    feed, root = Endpoint(world.state.feed.root.as_uri()), world.operator_root.read_bytes()
    return pull(feed, root, world.copy, now=world.clock(), deadline=20.0, accept_clock=accepted)


@pytest.fixture
def pulled_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A host that pulled nine hours ahead of time from an operator whose clock is right."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    world.clock.forward(hours=9)
    assert not world.pull().errors
    world.clock.forward(hours=-9, minutes=10)
    return world


def pulling(world: World, *more: object) -> Ran:
    """The command."""
    return syncd("pull", world.state.feed.root.as_uri(), "--root", world.operator_root, "--dir", world.copy, *more)


def test_a_pull_is_refused_and_names_the_way_out(pulled_ahead: World) -> None:
    """The command in the error works as written."""
    ran = pulling(pulled_ahead)
    assert ran.code == 6
    assert "but the last verification was at 2026-01-01 21:00 UTC" in ran.err
    assert "run the same `syncd pull` with `--accept-clock TIME`" in ran.err
    ran = pulling(pulled_ahead, "--accept-clock", NOW)
    assert ran.code == 0
    assert "the last pull into this copy: was 2026-01-01T21:00:00Z, accepted 2026-01-01T12:10:00Z\n" in ran.out
    assert "the kernel says that this clock is synchronised" in ran.err
    assert pulling(pulled_ahead).code == 0


def test_the_copy_reports_the_fault_until_then(pulled_ahead: World) -> None:
    """Status, its check, and a proof."""
    known = "warning: the last pull into this copy is dated 8 hours in the future: "
    shown = syncd("status", pulled_ahead.copy)
    assert known in shown.err
    assert "it is not known when its files were last proved: the clock was ahead then\n" in shown.out
    assert syncd("status", pulled_ahead.copy, "--check").code == 2
    assert "in the future" in syncd("status", pulled_ahead.copy, "--json").json["clock"]
    assert "`--accept-clock TIME`" in syncd("verify", pulled_ahead.copy, "--root", pulled_ahead.operator_root).err
    pulling(pulled_ahead, "--accept-clock", NOW)
    assert syncd("status", pulled_ahead.copy).err == ""
    assert syncd("status", pulled_ahead.copy, "--check").code == 0
    assert syncd("verify", pulled_ahead.copy, "--root", pulled_ahead.operator_root).code == 0


@pytest.mark.parametrize(
    ("time", "code", "said"),
    [
        ("2026-01-01T12:16:00Z", 2, "is in the future"),
        ("2026-01-01T11:59:59Z", 2, "is too early"),
        ("2026-01-01T12:10", 2, "--accept-clock does not name its time zone"),
        ("now", 2, "--accept-clock is not a time"),
    ],
)
def test_a_pull_accepts_no_other_time(pulled_ahead: World, time: str, code: int, said: str) -> None:
    """The rules are those of the operator's command; the lower limit is the time of the feed's signatures."""
    before = (pulled_ahead.copy / "current.json").read_bytes()
    ran = pulling(pulled_ahead, "--accept-clock", time)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert (pulled_ahead.copy / "current.json").read_bytes() == before


def test_a_pull_that_needs_no_clock_refuses_one(pulled_ahead: World) -> None:
    """A first pull and `--watch` refuse it too: it does not belong in a unit."""
    assert pulling(pulled_ahead, "--accept-clock", NOW).code == 0
    assert pulling(pulled_ahead, "--accept-clock", NOW).code == 6
    pulled_ahead.copy = pulled_ahead.base / "new"
    assert pulling(pulled_ahead, "--accept-clock", NOW).code == 6
    ran = pulling(pulled_ahead, "--accept-clock", NOW, "--watch")
    assert ran.code == 2
    assert "--accept-clock is for one pull" in ran.err


def test_a_copy_keeps_the_floors_of_its_versions(world: World) -> None:
    """An older feed is refused with an accepted clock too, even if only ``current.json`` remembers the newer one."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    older = {path.name: path.read_bytes() for path in world.state.feed.path("metadata").iterdir()}
    with world.publisher() as publisher:
        publisher.resign(world.clock())
    world.clock.forward(hours=9)
    world.pull()
    world.clock.forward(hours=-9)
    shutil.rmtree(world.copy / ".work")
    for name, content in older.items():
        world.state.feed.path(f"metadata/{name}").write_bytes(content)
    with pytest.raises((RollbackError, StaleMirrorError)):
        pull_again(world, world.clock())


def test_an_unreachable_feed_leaves_the_floor(pulled_ahead: World) -> None:
    """Nothing was verified by the accepted clock."""
    before = (pulled_ahead.copy / "current.json").read_bytes()
    pulled_ahead.state.feed.path("metadata").rename(pulled_ahead.base / "gone")
    assert pulling(pulled_ahead, "--accept-clock", NOW).code == 5
    assert (pulled_ahead.copy / "current.json").read_bytes() == before


def test_a_feed_that_was_signed_in_the_future_is_reported(ahead: World) -> None:
    """The pull, status and the matcher report it; this host cannot cure it."""
    ahead.copy = ahead.base / "second"
    ran = pulling(ahead)
    assert ran.code == 0
    assert "warning: the feed was signed 1 day in the future: " in ran.err
    assert "ask the feed's operator" in ran.err
    assert pulling(ahead, "--json").json["ahead_seconds"] == 30 * 3600
    (status,) = ahead.matcher().status()
    assert status.ahead == timedelta(hours=30)
    assert "the feed was signed 1 day in the future" in syncd("status", ahead.copy, "--check").out
    accept()
    assert pulling(ahead).err == ""
    (status,) = ahead.matcher().status()
    assert status.ahead is None


def test_a_watched_copy_reports_it_once(ahead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it begins, and when it begins again; not at each poll, and in either form."""

    def polls(pull_once: Callable[[], PullResult], *, on_event: Callable[[PullAttempt], None], **_: object) -> None:
        for act in (None, None, None, accept, None, resign_ahead, None):
            if act:
                act()
            on_event(PullAttempt(pull_once(), None, 1.0))

    def resign_ahead() -> None:
        with ahead.publisher() as publisher:
            publisher.resign(ahead.clock() + timedelta(days=90))

    monkeypatch.setattr("syncd.cli.pull.follow", polls)
    for number, form in enumerate(((), ("--json",))):
        ahead.copy = ahead.base / f"copy-{number}"
        with ahead.publisher() as publisher:
            publisher.resign(ahead.clock() + timedelta(hours=30))
        ran = pulling(ahead, "--watch", *form)
        assert ran.code == 0
        first, second = ran.err.splitlines()
        assert first.startswith("warning: the feed was signed 1 day in the future: check the clock of this host")
        assert second.startswith("warning: the feed was signed 90 days in the future: ")
        assert "its timestamp is valid for far too long, until 2026-04-03 12:10 UTC" in second


# a partner


@pytest.fixture
def partner_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner that published thirty hours ahead of time."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 9))
    world.clock.forward(hours=30)
    world.publish(add=[row(9)])
    world.clock.forward(hours=-30, minutes=10)
    return world


def test_a_partner_signs_again_with_its_online_keys(partner_ahead: World) -> None:
    """The refusal to publish names the command; root and targets were signed in time, so no other key is needed."""
    with pytest.raises(RefusedError, match="runs backwards") as refused:
        partner_ahead.publish(add=[row(10)])
    assert "`syncd feed renew FEED --accept-clock TIME`" in refused.value.hint
    feed = partner_ahead.partner.root
    assert "`syncd feed renew FEED --accept-clock TIME`" in syncd("feed", "status", feed).err
    ran = syncd("feed", "renew", feed, "--accept-clock", NOW, "--online-keys", partner_ahead.partner_keys)
    assert ran.code == 0
    assert f"the signature of timestamp: was 2026-01-02T18:00:00Z, now {NOW}\n" in ran.out
    assert syncd("feed", "status", feed).err == ""
    freshness = load_repository(partner_ahead.partner).freshness()
    assert {one.verified_at for one in freshness.values()} == {partner_ahead.clock()}
    partner_ahead.publish(add=[row(10)])
    assert partner_ahead.sync().exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--accept-clock", "2026-01-01T12:16Z"], 2, "is in the future"),
        (["--accept-clock", "2026-01-01T11:59Z"], 2, "is too early"),
        (["--accept-clock", "12:10"], 2, "--accept-clock is not a time"),
        ([], 2, "name their folder with --offline-keys"),
    ],
)
def test_a_partner_accepts_no_other_time(partner_ahead: World, arguments: list[str], code: int, said: str) -> None:
    """Nor are root and targets signed without their keys."""
    before = {path.name for path in partner_ahead.partner.path("metadata").iterdir()}
    ran = syncd("feed", "renew", partner_ahead.partner.root, *arguments)
    assert ran.code == code
    assert said in ran.err
    assert {path.name for path in partner_ahead.partner.path("metadata").iterdir()} == before


def test_a_feed_made_ahead_of_time_needs_its_offline_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root and targets too were signed in the future: the message says so, and with their keys all is signed again."""
    world.base.joinpath("late").mkdir()
    late = World(world.base / "late", Clock(START + timedelta(days=9)))
    use_clock(late.clock, monkeypatch)
    late.publish(full=rows(0, 9))
    late.clock.now = START
    renewing = ("feed", "renew", late.partner.root, "--accept-clock", "2026-01-01T12:00Z")
    ran = syncd(*renewing)
    assert ran.code == 2
    assert "; the time of root and targets lies in the future" in ran.err
    assert syncd(*renewing, "--offline-keys", late.partner_offline).code == 0
    expiries = load_repository(late.partner).expiries()
    assert {signed_at(role, expires) for role, expires in expiries.items()} == {START}


# the daemon


@pytest.fixture
def today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A state thirty hours ahead of the wall clock, by which the daemon lives."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 3))
    right = world.clock.now
    world.clock.forward(hours=30)
    assert world.sync().exit_code == 0
    world.clock.now = right
    configure(world.base / "syncd.toml", text(world), monkeypatch)
    with world.publisher() as publisher:
        publisher.catalog.note_schedule("iwf", right + timedelta(hours=2))
    return world


def test_the_daemon_accepts_it_when_ordered(today: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports the fault, refuses syncs until the order, and records the order in its log and the audit log."""
    monkeypatch.setattr("test_daemon.SYNCD", program(synchronised=False))
    with daemon(today) as process:
        assert "runs backwards" in process.until("timestamp_not_signed")["message"]
        assert syncd("status", "--check").code == 2
        assert syncd("sync").code == 6
        now = datetime.now(UTC).isoformat(timespec="seconds")
        ran = syncd("clock", "accept", now, "--reason", "RTC in local time")
        assert ran.code == 0, ran.err
        assert process.until("clock_accepted")["sources"] == ["iwf"]
        assert syncd("sync").code == 0
        assert syncd("status", "--json").json["clock"]["act"] is None
        process.stop()
    with today.publisher() as publisher:
        assert any(isinstance(entry.act, AcceptedClock) for entry in publisher.catalog.audit_entries())


# units


@pytest.mark.parametrize("path", sorted(UNITS.glob("*.service")), ids=lambda path: str(path.name))
def test_units_wait_until_the_clock_is_set(path: Path) -> None:
    """If a service of the host says when that is: all of them sign, or judge by the time."""
    lines = path.read_text().splitlines()
    for key in ("Wants", "After"):
        (named,) = [line.partition("=")[2].split() for line in lines if line.startswith(f"{key}=")]
        assert "time-sync.target" in named


# the kernel


def test_the_kernel_is_asked_and_not_changed() -> None:
    """The answer is in words, whatever it is on this host."""
    found = kernel_clock()
    assert found.synchronised in {None, False, True}
    assert timedelta(0) <= found.error < timedelta(seconds=17)
    assert "this clock is" in found.words


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        (KernelClock(None), "it is not known whether this clock is synchronised: the kernel cannot be asked here"),
        (KernelClock(False), "the kernel says that this clock is not synchronised"),
    ],
)
def test_a_clock_that_is_not_synchronised_is_a_warning(
    ahead: World, monkeypatch: pytest.MonkeyPatch, clock: KernelClock, words: str
) -> None:
    """The person decides, but is warned."""
    monkeypatch.setattr("syncd.cli.clock.kernel_clock", lambda: clock)
    ran = accept()
    assert (ran.code, ran.err) == (0, f"warning: {words}\n")
