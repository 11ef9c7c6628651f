"""When each source is due: APScheduler, with the state that must survive a restart in the catalog.

The next run of each source is written to the catalog before the sync begins. So a daemon in a loop of restarts or kills
contacts a partner no more often than one that keeps running.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import SourceState
from syncd.errors import SourceError
from syncd.fetch.backoff import backoff, vary
from syncd.outcomes import Outcome
from syncd.pipeline.outcome import SyncOutcome

JITTER: Final = 0.1
"""Largest share of the interval by which a run comes earlier or later, so that followers do not stay in step."""
SPREAD: Final = 60.0
"""Longest span, in seconds, over which the first runs after a start are spread."""
BACKOFF_BASE: Final = 60.0
"""Seconds; see `syncd.fetch.backoff.backoff`."""

_SOURCE: Final = "source:"

Random = Callable[[], float]
"""Returns a number from 0 to 1."""

_TOLERATED_STEP: Final = timedelta(seconds=5)
"""A wall clock that is slewed, or set back by no more than this, needs no attention."""


@dataclass(frozen=True)
class PlannedRun:
    """Next sync of a source. ``why`` is one of the reasons of the event `syncd.events.SyncScheduled`."""

    at: datetime
    why: str


def first_run(state: SourceState, interval: float, now: datetime, draw: float) -> PlannedRun:
    """Return the first sync of a source after a start or a reload. Pure. ``interval`` in seconds.

    A planned run or a cool-down is kept, but a run is never further ahead than one interval, which may have become
    shorter. If nothing is planned, or its time has passed, the source is synced soon, spread by ``draw``, from 0 to 1.
    """
    latest = now + timedelta(seconds=interval * (1 + JITTER))
    if state.cool_down_until is not None and now < state.cool_down_until <= now + _LONGEST_COOL_DOWN:
        return PlannedRun(state.cool_down_until, "cool_down")
    if state.next_run_at is not None and now < state.next_run_at:
        return PlannedRun(min(state.next_run_at, latest), "stored")
    return PlannedRun(now + timedelta(seconds=min(interval, SPREAD) * draw), "start")


_LONGEST_COOL_DOWN: Final = timedelta(hours=2)
"""No cool-down is longer: a stored one that ends later was written by a wrong clock, and is ignored."""


def cool_down(outcome: SyncOutcome, failures: int, interval: float, draw: float) -> float | None:
    """Return how many seconds to leave a source alone. None if this sync reached it. Pure.

    Exponential in ``failures``, the number of syncs in a row that did not reach it, with full jitter (``draw``, from 0
    to 1), and no shorter than the source asks for (Retry-After), up to an hour.
    """
    errors = (outcome.error, *(result.error for result in outcome.lists))
    error = next((error for error in errors if isinstance(error, SourceError)), None)
    return None if error is None else backoff(error, failures, min(interval, BACKOFF_BASE), draw)


def source_of(job: str) -> str | None:
    """Return the source whose syncs this job starts. None if the job is a chore."""
    return job.removeprefix(_SOURCE) if job.startswith(_SOURCE) else None


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Trigger that fires every ``seconds``, plus or minus the share ``jitter`` of them.

    Missed runs count as one. APScheduler's own trigger steps through each missed run while all other jobs wait: after
    the clock was set forward by a year, that takes half a minute and a gigabyte.
    """

    def __init__(self, seconds: float, jitter: float, rng: Random, longest: timedelta = timedelta()) -> None:
        self._seconds, self._jitter, self._rng = seconds, jitter, rng
        self.longest: Final = max(longest, timedelta(seconds=seconds * (1 + jitter)))
        """the furthest ahead that a run may be planned"""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the first run after ``now``."""
        wait = timedelta(seconds=vary(self._seconds, self._jitter, self._rng()))
        due = (previous_fire_time or now) + wait
        return due if due > now else now + wait


class Schedule:
    """Calls ``sync(source)``, which starts a sync and returns, whenever a source is due. Nothing runs before `start`.

    ``on_planned`` is called with the first run of a source, ``on_fault`` with a job and the error that it raised,
    ``on_done`` with a job that returned: for the job of a source (`source_of`), that means its sync was started.
    """

    def __init__(
        self,
        catalog: Catalog,
        sync: Callable[[str], None],
        clock: Callable[[], datetime],
        rng: Random,
        on_planned: Callable[[str, PlannedRun], None],
        on_fault: Callable[[str, BaseException], None],
        on_done: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._catalog, self._sync, self._clock, self._rng = catalog, sync, clock, rng
        self._on_planned = on_planned
        self._intervals: dict[str, float] = {}
        self._lock = threading.RLock()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(4), "chores": ThreadPoolExecutor(4)},
            # Run a late job once, however late (a laptop that slept, a sync that took longer than the interval).
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(lambda event: on_fault(event.job_id, event.exception), EVENT_JOB_ERROR)
        self._scheduler.add_listener(lambda event: on_done(event.job_id), EVENT_JOB_EXECUTED)
        logging.getLogger("apscheduler").propagate = False  # our events say more, and hold no traceback
        logging.getLogger("apscheduler").addHandler(logging.NullHandler())

    def set_sources(self, intervals: Mapping[str, float]) -> None:
        """Schedule exactly these sources, each at its interval in seconds. Unchanged ones keep their next run.

        Raises `StoreError`; then nothing has changed.
        """
        now = self._clock()
        with self._lock:
            changed = {name: value for name, value in intervals.items() if self._intervals.get(name) != value}
            planned = {
                name: first_run(self._catalog.source(name), value, now, self._rng()) for name, value in changed.items()
            }
            for name in self._intervals.keys() - intervals.keys():
                with contextlib.suppress(JobLookupError):
                    self._scheduler.remove_job(_SOURCE + name)
            self._intervals = dict(intervals)
            for name, value in changed.items():
                trigger = Every(value, JITTER, self._rng, _LONGEST_COOL_DOWN)
                self._scheduler.add_job(
                    self._due,
                    trigger,
                    (name,),
                    id=_SOURCE + name,
                    next_run_time=planned[name].at,
                    replace_existing=True,
                )
                self._on_planned(name, planned[name])

    def add_chore(self, name: str, seconds: float, run: Callable[[], None]) -> None:
        """Run a chore now, and again every ``seconds``."""
        trigger = Every(seconds, 0.0, self._rng)
        self._scheduler.add_job(
            run, trigger, id=name, executor="chores", next_run_time=self._clock(), replace_existing=True
        )

    def start(self) -> None:
        """Begin to run due jobs."""
        self._scheduler.start()

    def pause(self) -> None:
        """Start no more jobs. Running ones go on, and their next runs are still planned."""
        self._scheduler.pause()

    def stop(self) -> None:
        """Shut the scheduler down, without waiting for running jobs."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def next_runs(self) -> dict[str, datetime]:
        """Return the next run of each source."""
        jobs = {job.id: job for job in self._scheduler.get_jobs()}
        with self._lock:
            return {name: jobs[_SOURCE + name].next_run_time for name in self._intervals if _SOURCE + name in jobs}

    def finished(self, outcome: SyncOutcome) -> PlannedRun | None:
        """Plan the next run after a sync, scheduled or ordered. Return the cool-down, if there is one.

        Raises `StoreError`.
        """
        source = outcome.source
        with self._lock:
            interval = self._intervals.get(source)
            if interval is None or outcome.outcome is Outcome.INTERRUPTED:
                return None  # the source is no longer configured, or the outcome says nothing about it
            failures = self._catalog.source(source).failures + 1
            seconds = cool_down(outcome, failures, interval, self._rng())
            if seconds is None:
                self._catalog.note_schedule(source, self.next_runs().get(source))
                return None
            planned = PlannedRun(self._clock() + timedelta(seconds=seconds), "cool_down")
            self._move(source, planned.at)
            self._catalog.note_schedule(source, planned.at, cool_down_until=planned.at, failures=failures)
            return planned

    def postpone(self, name: str, seconds: float) -> None:
        """Sync a source in ``seconds`` instead of now."""
        with self._lock:
            self._move(name, self._clock() + timedelta(seconds=seconds))

    def clock_went_back(self, by: timedelta) -> None:
        """Move every next run back with the wall clock, so that the wait for it stays the same."""
        with self._lock:
            for job in self._scheduler.get_jobs():
                if job.next_run_time is not None:
                    job.modify(next_run_time=job.next_run_time - by)

    def replan_far_runs(self) -> None:
        """Plan again each run further ahead than its trigger allows: it was planned while the clock was ahead."""
        now = self._clock()
        with self._lock:
            for job in self._scheduler.get_jobs():
                if job.next_run_time is not None and job.next_run_time - now > job.trigger.longest:
                    job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))

    def _due(self, name: str) -> None:
        """Store the next run, which APScheduler planned before it called this, then sync."""
        with self._lock:
            known = self._catalog.source(name)
            self._catalog.note_schedule(name, self.next_runs().get(name), failures=known.failures)
        self._sync(name)

    def _move(self, name: str, at: datetime) -> None:
        job: Any = self._scheduler.get_job(_SOURCE + name)
        if job is not None:
            job.modify(next_run_time=at)


class WallClock:
    """Detects that the wall clock was set back. Every next run would otherwise wait until it has caught up.

    Compares ``wall`` with ``steady``, in seconds, which only goes up.
    """

    def __init__(self, wall: Callable[[], datetime], steady: Callable[[], float]) -> None:
        self._wall, self._steady = wall, steady
        self._before = wall(), steady()

    def went_back(self) -> timedelta | None:
        """Return how far the clock was set back since the last call. None if it was not, or by 5 seconds at most.

        A clock set forward needs no attention: due jobs then run.
        """
        wall, steady = self._before
        self._before = self._wall(), self._steady()
        behind = timedelta(seconds=self._before[1] - steady) - (self._before[0] - wall)
        return behind if behind > _TOLERATED_STEP else None
