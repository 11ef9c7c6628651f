"""A clock that was ahead, however far, and that the kernel now says is synchronised: no person has to accept it."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from command_line import configure, operate, syncd
from syncd.acts import AUTOMATIC, AcceptedClock
from syncd.catalog.records import AuditEntry
from syncd.errors import ExpiredError, RefusedError, RollbackError, StaleMirrorError
from syncd.feed.signed import load_repository
from syncd.kernel_clock import KernelClock, kernel_clock
from syncd.locks import lock
from syncd.operate.clock import ClockAcceptance, accept_synchronised
from syncd.pipeline.timestamp import sign_if_due
from syncd.report import overview
from syncd.sources.feed_memory import FeedMemory
from syncd.trust.values import signed_at
from test_daemon import Process, text
from world import HEAD, START, Clock, World, row, rows

ERROR = timedelta(milliseconds=12)
RIGHT = START + timedelta(minutes=10)
"""When the clock is right again."""


def kernel(world: World) -> KernelClock:
    """A kernel that says that the world's clock is synchronised."""
    return KernelClock(True, ERROR, world.clock())


@pytest.fixture(params=[timedelta(minutes=6), timedelta(hours=9), timedelta(hours=30), timedelta(days=15_700)])
def ahead(world: World, request: pytest.FixtureRequest) -> World:
    """An operator that synced, and again while its clock was ahead: by minutes to decades."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    world.clock.now = RIGHT + request.param
    world.sync()  # decades ahead the partner's metadata has expired, and only the timestamp is signed
    with world.publisher() as publisher:
        publisher.resign(world.clock())
    world.clock.now = RIGHT
    return world


@pytest.fixture
def days_ahead(world: World) -> World:
    """An operator that synced thirty hours ahead of time."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    world.clock.now = RIGHT + timedelta(hours=30)
    assert world.sync().exit_code == 0
    world.clock.now = RIGHT
    return world


def tick(world: World, said: KernelClock | None = None) -> ClockAcceptance | None:
    """What the daemon does each minute."""
    with world.publisher() as publisher:
        done = accept_synchronised(publisher, said or kernel(world), world.clock())
        if done is None:
            sign_if_due(publisher, world.clock())
        return done


def signed(world: World) -> dict[str, datetime]:
    """When each role of the operator's feed was signed."""
    return {role: signed_at(role, at) for role, at in load_repository(world.state.feed).expiries().items()}


def memory(world: World) -> FeedMemory:
    """The memory of the source."""
    with world.publisher() as publisher:
        return FeedMemory.of(publisher.catalog.source("iwf").memory)


def acceptances(world: World) -> list[AuditEntry]:
    """The acceptances in the audit log."""
    with world.publisher() as publisher:
        return [entry for entry in publisher.catalog.audit_entries() if isinstance(entry.act, AcceptedClock)]


def test_it_is_signed_at_the_next_tick(ahead: World) -> None:
    """No time of the state is left in the future, nothing is asked of anybody, and syncs and pulls go on."""
    assert tick(ahead) is not None
    assert signed(ahead)["timestamp"] == RIGHT
    with ahead.publisher() as publisher:
        assert overview.read(ahead.state, publisher.catalog, {"iwf": 3600.0}, RIGHT).clock is None
    assert load_repository(ahead.state.feed).freshness()[HEAD].verified_at <= RIGHT
    assert tick(ahead) is None
    ahead.publish(add=[row(9)])
    assert ahead.sync().exit_code == 0
    assert not ahead.pull().errors
    assert ahead.hits(9)


def test_it_is_recorded_like_that_of_a_person(days_ahead: World) -> None:
    """With what the kernel said as the reason; once, and not in anybody's name."""
    tick(days_ahead)
    tick(days_ahead)
    (entry,) = acceptances(days_ahead)
    assert entry.actor == AUTOMATIC
    reason = "no person: the kernel says that this clock is synchronised, to within 0.012 s"
    assert entry.act == AcceptedClock("2026-01-01T12:10:00Z", "2026-01-02T18:10:00Z", ("iwf",), reason)


def test_what_is_older_than_what_was_verified_is_refused_as_before(world: World) -> None:
    """The floors of versions stay."""
    world.publish(full=rows(0, 9))
    older = {path.name: path.read_bytes() for path in world.partner.path("metadata").iterdir()}
    world.publish(add=[row(9)])
    world.clock.forward(hours=30)
    assert world.sync().exit_code == 0
    world.clock.now = RIGHT
    assert tick(world) is not None
    for name, content in older.items():
        world.partner.path(f"metadata/{name}").write_bytes(content)
    assert isinstance(world.sync().error, RollbackError | StaleMirrorError)
    assert len(world.pull().lists) == 1
    assert world.hits(9)


def test_an_acceptance_changes_only_the_floor_of_the_clock(days_ahead: World) -> None:
    """And versions that are signed go on rising."""
    before = memory(days_ahead).floors
    versions = load_repository(days_ahead.state.feed).versions
    tick(days_ahead)
    assert memory(days_ahead).floors == replace(before, clock=RIGHT)
    after = load_repository(days_ahead.state.feed).versions
    assert {role: number for role, number in after.items() if number < versions[role]} == {}
    assert after["timestamp"] == versions["timestamp"] + 1


@pytest.mark.parametrize(
    "said",
    [
        KernelClock(None),
        KernelClock(False, at=RIGHT),
        KernelClock(True, ERROR),
        KernelClock(True, ERROR, RIGHT + timedelta(hours=1)),
    ],
    ids=["unknown", "not synchronised", "without its time", "another clock"],
)
def test_without_the_word_of_the_kernel_a_person_or_a_sync_is_needed(days_ahead: World, said: KernelClock) -> None:
    """As if nothing could be known; a clock that only this process sees is not the kernel's."""
    with pytest.raises(RefusedError, match="runs backwards"):
        tick(days_ahead, said)
    assert signed(days_ahead)["timestamp"] == RIGHT + timedelta(hours=30)
    assert acceptances(days_ahead) == []


@pytest.mark.parametrize("days", [0.5, 3, 400])
def test_a_clock_that_a_lying_time_server_set_back_is_not_accepted(world: World, days: float) -> None:
    """The kernel believes the server; the partner's newest timestamp does not lie in a future that both clocks saw."""
    world.clock.forward(days=500)
    world.base.joinpath("late").mkdir()
    late = World(world.base / "late", world.clock)
    late.publish(full=rows(0, 9))
    assert late.sync().exit_code == 0
    before, right = memory(late).floors, late.clock.now
    late.clock.forward(days=-days)
    if days < 1:
        assert tick(late) is None
    else:
        with pytest.raises(RefusedError, match="runs backwards"):
            tick(late)
    assert isinstance(late.sync().error, RefusedError)
    assert memory(late).floors == before
    assert acceptances(late) == []
    late.clock.now = right
    assert late.sync().exit_code == 0


def test_a_clock_set_back_behind_every_partner_rolls_nothing_back(world: World) -> None:
    """A partner that signed days ago cannot contradict. Our signatures then expire early: matchers keep what they hold.

    Once the clock is right, everything is as it was, without anybody's help.
    """
    world.publish(full=rows(0, 9))
    world.clock.forward(hours=40)
    world.sync()
    assert not world.pull().errors
    held, right = world.matcher().status()[0], world.clock.now
    world.clock.forward(hours=-39)  # after the partner's signature
    assert tick(world) is not None
    versions = load_repository(world.state.feed).versions
    world.clock.now = right + timedelta(hours=10)  # 49 hours later by a clock that is right
    with pytest.raises(ExpiredError):
        world.pull()
    assert world.matcher().status()[0].version == held.version
    assert world.hits(3)
    assert tick(world) is None
    assert not world.pull().errors
    assert load_repository(world.state.feed).versions["timestamp"] == versions["timestamp"] + 1
    world.publish(add=[row(9)])
    assert world.sync().exit_code == 0


def test_clocks_may_differ_by_minutes(days_ahead: World) -> None:
    """The partner's is four minutes before ours: the new floor is not below its timestamp."""
    days_ahead.clock.forward(minutes=4)
    days_ahead.publish(add=[row(9)])
    days_ahead.clock.forward(hours=30)
    assert days_ahead.sync().exit_code == 0
    days_ahead.clock.now = RIGHT
    done = tick(days_ahead)
    assert done is not None
    assert done.time == RIGHT + timedelta(minutes=4)
    assert memory(days_ahead).floors.clock == done.time
    assert signed(days_ahead)["timestamp"] == RIGHT


def test_a_clock_that_is_ahead_and_synchronised_changes_nothing(days_ahead: World) -> None:
    """Nothing lies in its future; that it is ahead of the partner's timestamp is what time does."""
    days_ahead.clock.forward(days=20)
    before = memory(days_ahead)
    assert tick(days_ahead) is None
    assert memory(days_ahead) == before


def test_a_running_sync_is_not_overtaken(days_ahead: World) -> None:
    """It would write the old floor back: the next tick accepts."""
    with lock(days_ahead.state.source("iwf").lock, "a sync of iwf"), pytest.raises(RefusedError):
        tick(days_ahead)
    assert tick(days_ahead) is not None


def test_what_cannot_be_signed_is_not_recorded_each_minute(world: World) -> None:
    """If only signatures lie in the future, the record is committed with the new one."""
    with world.publisher() as publisher:
        publisher.resign(START + timedelta(days=2))
        unsigned = replace(publisher, signers={})
        for _ in range(3):
            with pytest.raises(RefusedError, match="needs 1 of its keys"):
                accept_synchronised(unsigned, kernel(world), START)
    assert acceptances(world) == []
    assert tick(world) is not None
    assert len(acceptances(world)) == 1


def test_root_and_targets_stay_a_fault(world: World) -> None:
    """An operator that was set up ahead of time: the online keys sign, and the rest is a person's."""
    world.base.joinpath("late").mkdir()
    late = World(world.base / "late", Clock(START + timedelta(days=9)))
    late.clock.now = START
    done = tick(late)
    assert done is not None
    assert done.left is not None
    assert "--offline-keys" in done.left.to_do
    assert signed(late)["timestamp"] == START
    assert tick(late) is None


def test_a_sync_without_a_daemon_does_it_too(days_ahead: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which times it corrected, and then syncs."""
    operate(days_ahead, monkeypatch)
    monkeypatch.setattr("syncd.cli.sync.kernel_clock", lambda: kernel(days_ahead))
    assert syncd("sync", "--dry-run").code == 6
    ran = syncd("sync")
    assert ran.code == 0
    told = "note: the clock floor of source iwf was dated 2026-01-02T18:10:00Z, in the future: now 2026-01-01T12:10:00Z"
    assert told in ran.err
    assert "note: the signature of timestamp was dated 2026-01-02T18:10:00Z" in ran.err
    assert syncd("status").err == ""


def test_the_kernel_names_the_time_of_its_clock() -> None:
    """Which this process reads too, unless somebody shows it another."""
    found = kernel_clock()
    if found.at is None:
        pytest.skip("the kernel cannot be asked here")
    assert abs(datetime.now(UTC) - found.at) < timedelta(minutes=1)
    assert replace(found, synchronised=True).vouches_for(datetime.now(UTC))
    assert not replace(found, synchronised=True).vouches_for(START)


# the daemon

_RUN = """
from datetime import UTC, datetime, timedelta

from syncd import kernel_clock
from syncd.kernel_clock import KernelClock

kernel_clock.kernel_clock = lambda: KernelClock({synchronised}, timedelta(milliseconds=12), datetime.now(UTC))

from syncd.cli.main import run

run()
"""


def program(*, synchronised: bool) -> tuple[str, ...]:
    """The command ``syncd``, on a host whose kernel says this of its clock."""
    return (sys.executable, "-c", _RUN.format(synchronised=synchronised))


def test_the_daemon_accepts_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, if the kernel says so by then; with an event and an act."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 3))
    right = world.clock.now
    world.clock.forward(hours=30)
    assert world.sync().exit_code == 0
    world.clock.now = right
    configure(world.base / "syncd.toml", text(world), monkeypatch)
    with world.publisher() as publisher:
        publisher.catalog.note_schedule("iwf", right + timedelta(hours=2))
    monkeypatch.setattr("test_daemon.SYNCD", program(synchronised=True))
    with Process(world.base / "syncd.toml") as process:
        event = process.until("clock_accepted")
        assert (event["sources"], event["asked_by"]) == (["iwf"], AUTOMATIC)
        assert "the kernel says that this clock is synchronised" in event["reason"]
        process.until("timestamp_signed")
        assert syncd("status", "--json").json["clock"]["act"] is None
        assert syncd("sync").code == 0
        process.stop()
    assert len(acceptances(world)) == 1
