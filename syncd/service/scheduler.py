"""When each source is due: APScheduler underneath, and what survives a restart in the catalog.

The next run of each source is in the catalog before the sync begins. So a daemon that is started again, even one that
is killed and restarted in a circle, asks a partner no more often than one that runs through.
"""

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
"""A run comes up to this part of the interval earlier or later, so that many followers do not come at once for ever."""
SPREAD: Final = 60.0
"""Seconds over which the first runs after a start are spread, at most."""
BACKOFF_BASE: Final = 60.0
"""Seconds; see `syncd.fetch.backoff.backoff`."""

_SOURCE: Final = "source:"

Random = Callable[[], float]
"""From 0 to 1."""


@dataclass(frozen=True)
class Planned:
    """When a source is synced next, and why then: a word of the event `syncd.events.SyncScheduled`."""

    at: datetime
    why: str


def first_run(state: SourceState, interval: float, now: datetime, chance: float) -> Planned:
    """When a daemon that was just started, or reloaded, syncs a source. Pure; ``interval`` in seconds.

    A run that was planned is kept, also a cool-down, but no further ahead than an interval (which may have become
    shorter). Where none is, or its time has passed, soon: spread by ``chance``, from 0 to 1.
    """
    latest = now + timedelta(seconds=interval * (1 + JITTER))
    if state.cool_down_until is not None and now < state.cool_down_until <= now + _LONGEST_COOL_DOWN:
        return Planned(state.cool_down_until, "cool_down")
    if state.next_run_at is not None and now < state.next_run_at:
        return Planned(min(state.next_run_at, latest), "stored")
    return Planned(now + timedelta(seconds=min(interval, SPREAD) * chance), "start")


_LONGEST_COOL_DOWN: Final = timedelta(hours=2)
"""No cool-down is longer: one that is stored with a time far ahead was written by a clock that was wrong."""


def cool_down(outcome: SyncOutcome, failures: int, interval: float, chance: float) -> float | None:
    """Seconds to leave a source alone after the ``failures``-th sync in a row that did not reach it; None: no need.

    Exponential with full jitter, and no less than the source asks for (Retry-After), up to an hour. Pure.
    """
    errors = (outcome.error, *(one.error for one in outcome.lists))
    error = next((one for one in errors if isinstance(one, SourceError)), None)
    return None if error is None else backoff(error, failures, min(interval, BACKOFF_BASE), chance)


def source_of(job: str) -> str | None:
    """The source that a job begins the syncs of; None: it is a chore."""
    return job.removeprefix(_SOURCE) if job.startswith(_SOURCE) else None


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Every so many ``seconds``, give or take the part ``jitter`` of them.

    What was missed counts once. APScheduler's own trigger goes through every run that was missed, with all other jobs
    waiting: after a clock set forward by a year, half a minute and a gigabyte.
    """

    def __init__(self, seconds: float, jitter: float, chance: Random, longest: timedelta = timedelta()) -> None:
        self._seconds, self._jitter, self._chance = seconds, jitter, chance
        self.longest: Final = max(longest, timedelta(seconds=seconds * (1 + jitter)))
        """how far ahead a run may be planned"""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first run after ``now``."""
        wait = timedelta(seconds=vary(self._seconds, self._jitter, self._chance()))
        due = (previous_fire_time or now) + wait
        return due if due > now else now + wait


class Schedule:
    """Calls ``sync(source)``, which starts one and returns, whenever a source is due, each at its interval.

    ``on_planned`` is told when a source was given its first run, ``on_fault`` what a job raised, ``on_done`` which one
    has run (of a source (`source_of`): its sync was begun). ``chance`` gives numbers from 0 to 1. Nothing runs before
    `start`.
    """

    def __init__(
        self,
        catalog: Catalog,
        sync: Callable[[str], None],
        clock: Callable[[], datetime],
        chance: Random,
        on_planned: Callable[[str, Planned], None],
        on_fault: Callable[[str, BaseException], None],
        on_done: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._catalog, self._sync, self._clock, self._chance = catalog, sync, clock, chance
        self._on_planned = on_planned
        self._intervals: dict[str, float] = {}
        self._turn = threading.RLock()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(4), "chores": ThreadPoolExecutor(4)},
            # However late, once is enough: a laptop that slept, a sync that took longer than the interval.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(lambda event: on_fault(event.job_id, event.exception), EVENT_JOB_ERROR)
        self._scheduler.add_listener(lambda event: on_done(event.job_id), EVENT_JOB_EXECUTED)
        logging.getLogger("apscheduler").propagate = False  # our events tell more, and never a traceback
        logging.getLogger("apscheduler").addHandler(logging.NullHandler())

    def set_sources(self, intervals: Mapping[str, float]) -> None:
        """Follow exactly these sources, each at its interval in seconds; those that stay as they are keep their run.

        Raises `StoreError`, and then has changed nothing.
        """
        now = self._clock()
        with self._turn:
            changed = {name: value for name, value in intervals.items() if self._intervals.get(name) != value}
            planned = {
                name: first_run(self._catalog.source(name), value, now, self._chance())
                for name, value in changed.items()
            }
            for name in self._intervals.keys() - intervals.keys():
                self._remove(name)
            self._intervals = dict(intervals)
            for name, value in changed.items():
                self._add(name, value, planned[name])

    def add_chore(self, name: str, seconds: float, run: Callable[[], None]) -> None:
        """Run something else every ``seconds``, from now on."""
        trigger = Every(seconds, 0.0, self._chance)
        self._scheduler.add_job(
            run, trigger, id=name, executor="chores", next_run_time=self._clock(), replace_existing=True
        )

    def start(self) -> None:
        """From now on what is due is run."""
        self._scheduler.start()

    def pause(self) -> None:
        """Run nothing more; what is running goes on, and is planned again as ever."""
        self._scheduler.pause()

    def stop(self) -> None:
        """Forget everything."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def next_runs(self) -> dict[str, datetime]:
        """When each source is due."""
        jobs = {one.id: one for one in self._scheduler.get_jobs()}
        with self._turn:
            return {name: jobs[_SOURCE + name].next_run_time for name in self._intervals if _SOURCE + name in jobs}

    def finished(self, outcome: SyncOutcome) -> Planned | None:
        """Plan the next run by what came of this one: returns the cool-down, where there is one. Raises `StoreError`.

        Called for every sync, scheduled or asked for.
        """
        source = outcome.source
        with self._turn:
            interval = self._intervals.get(source)
            if interval is None or outcome.outcome is Outcome.INTERRUPTED:
                return None  # no longer configured; or it says nothing about the source
            failures = self._catalog.source(source).failures + 1
            seconds = cool_down(outcome, failures, interval, self._chance())
            if seconds is None:
                self._catalog.note_schedule(source, self.next_runs().get(source))
                return None
            planned = Planned(self._clock() + timedelta(seconds=seconds), "cool_down")
            self._move(source, planned.at)
            self._catalog.note_schedule(source, planned.at, cool_down_until=planned.at, failures=failures)
            return planned

    def postpone(self, name: str, seconds: float) -> None:
        """Sync a source in so many seconds, since it cannot be just now."""
        with self._turn:
            self._move(name, self._clock() + timedelta(seconds=seconds))

    def clock_went_back(self, by: timedelta) -> None:
        """Have everything run as much earlier by the wall clock: after as long as it would have without that change."""
        with self._turn:
            for job in self._scheduler.get_jobs():
                if job.next_run_time is not None:
                    job.modify(next_run_time=job.next_run_time - by)

    def bring_near(self) -> None:
        """Have nothing wait longer than it ever may: a clock that ran ahead, unseen, for a moment had it planned so."""
        now = self._clock()
        with self._turn:
            for job in self._scheduler.get_jobs():
                if job.next_run_time is not None and job.next_run_time - now > job.trigger.longest:
                    job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))

    def _add(self, name: str, interval: float, planned: Planned) -> None:
        trigger = Every(interval, JITTER, self._chance, _LONGEST_COOL_DOWN)
        self._scheduler.add_job(
            self._due, trigger, (name,), id=_SOURCE + name, next_run_time=planned.at, replace_existing=True
        )
        self._on_planned(name, planned)

    def _due(self, name: str) -> None:
        """APScheduler has planned the next run before it calls this one: keep that, then sync."""
        with self._turn:
            known = self._catalog.source(name)
            self._catalog.note_schedule(name, self.next_runs().get(name), failures=known.failures)
        self._sync(name)

    def _move(self, name: str, at: datetime) -> None:
        job: Any = self._scheduler.get_job(_SOURCE + name)
        if job is not None:
            job.modify(next_run_time=at)

    def _remove(self, name: str) -> None:
        try:
            self._scheduler.remove_job(_SOURCE + name)
        except JobLookupError:
            return
