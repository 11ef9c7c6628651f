import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import SourceState
from syncd.errors import AbandonedError, ExpiredError, HttpStatusError, SourceError
from syncd.model import ListName
from syncd.pipeline.outcome import ListOutcome, SyncOutcome
from syncd.service.scheduler import Every, PlannedRun, Schedule, cool_down, first_run
from world import START, Clock

SECOND = timedelta(seconds=1)
UNREACHABLE = SourceError("no answer")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (SourceState("iwf"), PlannedRun(START + 30 * SECOND, "start")),
        (SourceState("iwf", next_run_at=START - SECOND), PlannedRun(START + 30 * SECOND, "start")),
        (SourceState("iwf", next_run_at=START + 400 * SECOND), PlannedRun(START + 400 * SECOND, "stored")),
        (SourceState("iwf", next_run_at=START + 9999 * SECOND), PlannedRun(START + 660 * SECOND, "stored")),
        (
            SourceState("iwf", next_run_at=START + SECOND, cool_down_until=START + 3000 * SECOND, failures=4),
            PlannedRun(START + 3000 * SECOND, "cool_down"),
        ),
        (SourceState("iwf", cool_down_until=START - SECOND), PlannedRun(START + 30 * SECOND, "start")),
        (SourceState("iwf", cool_down_until=START + timedelta(days=400)), PlannedRun(START + 30 * SECOND, "start")),
    ],
)
def test_a_start_keeps_what_was_planned(state: SourceState, expected: PlannedRun) -> None:
    """A next run and a cool-down survive; what is overdue is spread over a minute; a date far ahead is not believed."""
    assert first_run(state, 600.0, START, 0.5) == expected


def test_first_runs_are_spread_over_no_more_than_an_interval() -> None:
    """So that several daemons started together do not come together."""
    runs = [first_run(SourceState("iwf"), 60.0, START, chance / 10).at - START for chance in range(11)]
    assert (min(runs), max(runs), len(set(runs))) == (0 * SECOND, 60 * SECOND, 11)


def outcome(error: SourceError | ExpiredError | None, *, in_list: bool = False, source: str = "iwf") -> SyncOutcome:
    """A sync that ended so."""
    if error is None or not in_list:
        return SyncOutcome("5afe", source, error=error)
    return SyncOutcome("5afe", source, (ListOutcome(ListName("iwf.a"), error.outcome, error=error),))


@pytest.mark.parametrize(
    ("ended", "failures", "chance", "seconds"),
    [
        (outcome(None), 1, 0.5, None),
        (outcome(ExpiredError("old")), 1, 0.5, None),
        (outcome(UNREACHABLE), 1, 0.5, 60.0),
        (outcome(UNREACHABLE, in_list=True), 1, 1.0, 120.0),
        (outcome(UNREACHABLE), 2, 1.0, 240.0),
        (outcome(UNREACHABLE), 60, 1.0, 600.0),
        (outcome(UNREACHABLE), 60, 0.0, 1.0),
        (outcome(HttpStatusError("busy", 429, retry_after=900.0)), 1, 0.5, 900.0 + 1.0 + 12.0),
        (outcome(HttpStatusError("busy", 429, retry_after=1e6)), 1, 0.0, 3600.2),
    ],
)
def test_a_source_that_cannot_be_reached_is_left_alone(
    ended: SyncOutcome, failures: int, chance: float, seconds: float | None
) -> None:
    """Longer with each failure, at random, and as long as it asks for; what was rejected is asked at the usual pace."""
    assert cool_down(ended, failures, 600.0, chance) == (None if seconds is None else pytest.approx(seconds))


@dataclass
class Ran:
    """A schedule, and what it was told to do."""

    catalog: Catalog
    clock: Clock = field(default_factory=Clock)
    synced: list[str] = field(default_factory=list)
    planned: list[tuple[str, PlannedRun]] = field(default_factory=list)

    def schedule(self, chance: float = 0.5) -> Schedule:
        """A new one, as after a start."""
        return Schedule(
            self.catalog,
            self.synced.append,
            self.clock,
            lambda: chance,
            lambda name, planned: self.planned.append((name, planned)),
            lambda *_: None,
        )


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Ran]:
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:
        yield Ran(catalog)


def test_a_cool_down_survives_a_restart(ran: Ran) -> None:
    """And so do the failures in a row, which the next success forgets."""
    schedule = ran.schedule()
    schedule.set_sources({"iwf": 600.0})
    for number, seconds in enumerate((60, 120, 240), 1):
        cooled = schedule.finished(outcome(UNREACHABLE))
        assert cooled == PlannedRun(START + seconds * SECOND, "cool_down")
        assert ran.catalog.source("iwf").failures == number
    restarted = ran.schedule()
    restarted.set_sources({"iwf": 600.0})
    assert restarted.next_runs() == {"iwf": START + 240 * SECOND}
    assert restarted.finished(outcome(None)) is None
    known = ran.catalog.source("iwf")
    assert (known.failures, known.cool_down_until) == (0, None)


def test_a_stop_says_nothing_about_the_source(ran: Ran) -> None:
    """A sync that was abandoned neither counts as a failure nor makes those before it forgotten."""
    schedule = ran.schedule()
    schedule.set_sources({"iwf": 600.0})
    schedule.finished(outcome(UNREACHABLE))
    before = ran.catalog.source("iwf")
    assert schedule.finished(SyncOutcome("5afe", "iwf", error=AbandonedError("stopping"))) is None
    assert ran.catalog.source("iwf") == before


def test_a_daemon_killed_in_each_sync_asks_no_more_often(ran: Ran) -> None:
    """The next run is in the catalog before the sync begins, so a circle of restarts keeps to the interval."""
    schedule = ran.schedule()
    schedule.set_sources({"iwf": 600.0})
    schedule._due("iwf")  # and then it is killed
    assert ran.synced == ["iwf"]
    stored = ran.catalog.source("iwf").next_run_at
    assert stored == START + 30 * SECOND
    ran.clock.forward(seconds=1)
    restarted = ran.schedule()
    restarted.set_sources({"iwf": 600.0})
    assert restarted.next_runs() == {"iwf": stored}


def test_a_reload_moves_only_what_changed(ran: Ran) -> None:
    """A source that stays keeps its run; one that goes is no longer run; one that comes is spread."""
    schedule = ran.schedule()
    schedule.set_sources({"a": 600.0, "b": 600.0, "c": 600.0})
    ran.planned.clear()
    ran.clock.forward(seconds=10)
    schedule.set_sources({"a": 600.0, "b": 20.0, "d": 600.0})
    assert {name for name, _ in ran.planned} == {"b", "d"}
    assert schedule.next_runs() == {"a": START + 30 * SECOND, "b": START + 20 * SECOND, "d": START + 40 * SECOND}
    assert schedule.finished(outcome(UNREACHABLE, source="c")) is None


def test_what_is_due_runs_and_is_planned_again(tmp_path: Path) -> None:
    """By the real clock: the first run comes at once here, the next an interval later, give or take a tenth."""
    came = threading.Event()
    now = datetime.now(START.tzinfo)
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:
        schedule = Schedule(catalog, lambda _: came.set(), lambda: now, lambda: 0.0, lambda *_: None, lambda *_: None)
        schedule.set_sources({"iwf": 600.0})
        schedule.start()
        assert came.wait(20)
        schedule.stop()
        stored = catalog.source("iwf").next_run_at
    assert stored is not None
    assert 539 * SECOND < stored - now < 662 * SECOND


def test_a_fault_in_a_job_is_told_and_the_schedule_goes_on(ran: Ran) -> None:
    """By its kind: nothing else of it reaches the log."""
    came, told, faults = threading.Event(), threading.Event(), []

    def fail() -> None:
        raise ValueError("secret")

    def fault(job: str, error: BaseException) -> None:
        faults.append((job, type(error).__name__))
        told.set()

    now = datetime.now(START.tzinfo)
    schedule = Schedule(ran.catalog, ran.synced.append, lambda: now, lambda: 0.5, lambda *_: None, fault)
    schedule.add_chore("bad", 600.0, fail)
    schedule.add_chore("good", 600.0, came.set)
    schedule.start()
    assert came.wait(20)
    assert told.wait(20)
    schedule.stop()
    assert faults == [("bad", "ValueError")]


def test_a_clock_set_back_delays_nothing(ran: Ran) -> None:
    """What was planned comes as much earlier by the new time, chores included."""
    schedule = ran.schedule()
    beaten = threading.Event()
    schedule.add_chore("beat", 3600, beaten.set)
    schedule.start()
    try:
        assert beaten.wait(20)
        beaten.clear()
        schedule.clock_went_back(timedelta(days=365))
        assert beaten.wait(20)
    finally:
        schedule.stop()


def test_a_clock_set_forward_has_what_was_missed_run_once(ran: Ran) -> None:
    """At once: a host that is told the time only after the start does not go through each run that it missed."""
    came = threading.Event()
    ran.clock.now = datetime.now(START.tzinfo) - timedelta(days=1000)
    schedule = ran.schedule()
    schedule.add_chore("worker", 2.0, came.set)
    schedule.start()
    try:
        assert came.wait(20)
    finally:
        schedule.stop()


@pytest.mark.parametrize(
    ("chance", "previous", "expected"),
    [(0.5, None, 600), (0.5, 0, 600), (0.0, 0, 540), (1.0, 0, 660), (0.5, -595, 5), (0.5, -600, 600), (1.0, -9e8, 660)],
)
def test_a_run_follows_the_one_before(chance: float, previous: float | None, expected: float) -> None:
    """An interval after it, give or take a tenth; where that has passed, after now."""
    before = None if previous is None else START + previous * SECOND
    assert Every(600.0, 0.1, lambda: chance).get_next_fire_time(before, START) == START + expected * SECOND


def test_a_clock_that_ran_ahead_for_a_moment_delays_nothing(ran: Ran) -> None:
    """Between two looks at it, so that nobody saw it: what was planned then comes in its time all the same."""
    now, beaten = datetime.now(START.tzinfo), threading.Event()
    schedule = ran.schedule()
    ran.clock.now = now + timedelta(days=400)
    schedule.add_chore("beat", 0.05, beaten.set)
    schedule.set_sources({"a": 600.0, "b": 20000.0, "c": 60.0})
    schedule.start()
    try:
        ran.clock.now = now
        schedule.postpone("c", 7100.0)
        schedule.replan_far_runs()
        assert beaten.wait(20)
        assert schedule.next_runs() == {
            "a": now + 600 * SECOND,
            "b": now + 20000 * SECOND,
            "c": now + 7100 * SECOND,
        }
    finally:
        schedule.stop()
