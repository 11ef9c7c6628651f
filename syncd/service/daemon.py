"""The daemon: start, reload, stop. The work itself is done by the parts that it assembles."""

import os
import queue
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from syncd import __version__, events
from syncd.acts import Act, ReloadedConfiguration, StartedDaemon, StoppedDaemon
from syncd.config import Config, Serve
from syncd.errors import AbandonedError, RefusedError, StoreError, SyncdError
from syncd.event import Emit, Event
from syncd.kernel_clock import KernelClock
from syncd.limits import ListLimits
from syncd.model import ListName
from syncd.operate.backup import remove_left_over
from syncd.pipeline.known_good import KnownGoodFolder
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher
from syncd.report import overview
from syncd.report.judged import Overview
from syncd.retention import RetentionLimits
from syncd.service import ballast, client
from syncd.service.access import Access
from syncd.service.ballast import Ballast
from syncd.service.checkins import Checkins
from syncd.service.control import ControlSocket
from syncd.service.faults import Faults
from syncd.service.file_proof import FileProof
from syncd.service.fleet import Fleet
from syncd.service.leader_work import LeaderWork
from syncd.service.list_orders import ListOrders
from syncd.service.log import RecentEvents
from syncd.service.news import Announcements
from syncd.service.orders import Orders
from syncd.service.pulls import Pulls
from syncd.service.questions import Questions
from syncd.service.reload import changes, check_reload
from syncd.service.scheduler import Random, Schedule, WallClock
from syncd.service.signers import LiveSigners
from syncd.service.syncs import Syncs
from syncd.service.systemd import SystemdStatus
from syncd.service.web.health import Health
from syncd.sources.source import Source
from syncd.units import count
from syncd.users import this_user

if TYPE_CHECKING:
    from syncd.service.web.site import Site

FINISH_WITHIN: Final = 2.0
"""Seconds that running syncs get to finish when the daemon is stopped, before their workers are killed."""
PUBLISH_WITHIN: Final = 5.0
"""Seconds, after that, for publications in progress."""
DRAIN_WITHIN: Final = 1.0
"""Seconds for clients of the control socket to read their last answers. The three add up to less than ten."""

_ANSWER_WITHIN: Final = 5.0
"""Seconds for our own HTTP server to answer us."""
_WRITE_EVERY: Final = 5.0
"""Seconds between two flushes of check-ins to the catalog."""
_EXCHANGE_EVERY: Final = 1.0
"""Seconds between two exchanges of sessions and wrong tokens with other daemons."""
_LOOK_EVERY: Final = 60.0
"""Seconds between two checks of certificates, pulls, ballast and unproved lists."""
_READY_EVERY: Final = 2.0
"""Seconds between two checks that a spare worker process is ready."""
_DRY_RUN_DELAY: Final = 60.0
"""Seconds by which a sync is postponed if it was due during a dry run."""


@dataclass(frozen=True)
class Environment:
    """The daemon's access to log, clocks, random numbers and environment variables. Tests pass their own."""

    emit: Emit
    clock: Callable[[], datetime]
    rng: Random
    variables: Mapping[str, str]
    kernel_clock: Callable[[], KernelClock]


_LOOK: Final = 1.0
"""Seconds. A signal that arrives in the instant before a wait begins does not end it."""


def _next(inbox: "queue.SimpleQueue[int]", seconds: float) -> int | None:
    """Return the next signal. None if it does not come within ``seconds``."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(queue.Empty):
            return inbox.get(timeout=min(left, _LOOK))
    return None


class Daemon:
    """A daemon on one state, whose lock the caller holds."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        publisher: Publisher,
        environment: Environment,
        keys: LiveSigners | None = None,
    ) -> None:
        """``keys``: those of a daemon that shares its catalog with others; None: it is the only one."""
        self._recent = RecentEvents(environment.emit, environment.clock)
        environment = replace(environment, emit=self._recent)
        self._config, self._load, self._environment = config, load, environment
        self._site: Site | None = None
        self._news = Announcements(_epoch(environment.clock(), alone=keys is None))
        self._publisher = publisher = replace(
            publisher,
            announce=self._announce,
            limits=self._limits,
            second_operator=lambda: self._config.corrections.second_operator,
            retention=self._retention,
        )
        self._faults = faults = Faults(publisher.catalog, environment.clock, self._emit)
        self._syncs = Syncs(publisher, environment.clock, self._emit, self._finished, faults.sync_failed)
        self._schedule = Schedule(
            publisher.catalog,
            self._due,
            environment.clock,
            environment.rng,
            on_planned=lambda name, planned: self._emit(events.SyncScheduled(name, planned.at, planned.why)),
            on_fault=faults.job_failed,
            on_done=faults.job_done,
        )
        self._access = Access(publisher.catalog)
        self._checkins = Checkins(publisher.catalog, self._loaded, shared=keys is not None)
        self._pulls = Pulls(publisher.catalog)
        self._questions = Questions(publisher.folder, publisher.catalog, environment.clock)
        lists = ListOrders(publisher, environment.clock, self._emit, self._news.changed, lambda: self._config)
        self._suppressions = lists.suppressions
        self._work = LeaderWork(
            publisher,
            self._schedule,
            self._syncs,
            self._suppressions,
            faults,
            config=lambda: self._config,
            leads=self._leads,
            clock=environment.clock,
            kernel_clock=environment.kernel_clock,
            emit=self._emit,
            changed=self._news.changed,
        )
        self._fleet = None if keys is None else self._join(keys)
        self._orders = orders = Orders(
            state_dir=str(config.state_dir),
            syncs=self._syncs,
            catalog=publisher.catalog,
            sources=self._sources,
            overview=self._overview,
            access=self._access,
            checkins=self._checkins,
            clock=environment.clock,
            emit=self._emit,
            lists=lists,
            questions=self._questions,
            elsewhere=self._fleet.elsewhere if self._fleet else lambda: None,
        )
        if self._fleet:
            self._fleet.carry_out(orders)
        self._health = Health(publisher.folder, publisher.catalog, self._emit)
        self._file_proof = FileProof(
            publisher.folder, publisher.catalog, environment.clock, self._emit, self._files_at_fault
        )
        if config.serve:
            self._site = self._make_site(config.serve)
        self._control = ControlSocket(config.control_socket, orders, self._emit)
        self._systemd = SystemdStatus(environment.variables, self._responds, self._describe)
        self._wall_clock = WallClock(environment.clock, time.monotonic)

    def run(self, inbox: "queue.SimpleQueue[int]") -> bool:
        """Serve until a stop signal. Return True if every thread ended."""
        try:
            self._start()
        except SyncdError:
            self._control.close()
            raise
        while True:
            number = _next(inbox, self._systemd.beat)
            if number == signal.SIGHUP:
                self._reload()
            elif number is not None:
                return self._stop(signal.Signals(number).name)
            self._check_clock()
            self._systemd.feed_watchdog()  # even if reload signals keep coming

    def _start(self) -> None:
        # Of several daemons only the leader knows which syncs were interrupted, and syncs: see `LeaderWork.begin`.
        interrupted = 0 if self._fleet else self._publisher.catalog.mark_interrupted(self._environment.clock())
        sources = tuple(self._config.sources)
        with suppress(StoreError):  # the daemon can run with left-over files
            remove_left_over(self._publisher.folder)
            KnownGoodFolder(self._publisher.folder.known_good).remove_left_over()
        self._control.open()
        self._emit(events.DaemonStarted(__version__, os.getpid(), str(self._config.state_dir), sources, interrupted))
        self._record(StartedDaemon(__version__, sources))
        self._work.set_sources(self._config)
        self._work.add_chores()
        self._schedule.add_chore("beat", self._systemd.beat, self._systemd.note_beat)
        self._schedule.add_chore("worker", _READY_EVERY, self._syncs.make_ready)
        self._schedule.add_chore(ballast.CHORE, _LOOK_EVERY, Ballast(self._publisher.folder).keep)
        self._health.prove()
        self._schedule.add_chore("proof", _LOOK_EVERY, self._health.prove_again)
        if self._site or self._fleet:  # also one without readers shows what checked in with the others
            self._schedule.add_chore("check-ins", _WRITE_EVERY, self._checkins.flush)
        if self._site:
            self._site.start()
            self._schedule.add_chore("site", _LOOK_EVERY, self._site.look)
            if self._fleet:
                self._schedule.add_chore("sign-ins", _EXCHANGE_EVERY, self._site.app.exchange)
            self._schedule.add_chore("pulls", _LOOK_EVERY, lambda: self._pulls.flush(self._environment.clock()))
        self._schedule.start()
        self._file_proof.start()
        if self._fleet:
            self._fleet.start()
        self._emit(events.DaemonReady(str(self._config.control_socket)))
        self._systemd.send_status("READY=1")

    def _stop(self, name: str) -> bool:
        """Stop, in order. Return True if every thread ended."""
        self._emit(events.DaemonStopping(name, tuple(sync.source for sync in self._syncs.running())))
        self._systemd.send("STOPPING=1", "STATUS=stopping")
        self._schedule.pause()
        self._file_proof.stop()
        self._control.close()
        self._questions.stop()
        end = time.monotonic() + FINISH_WITHIN + PUBLISH_WITHIN + DRAIN_WITHIN
        if self._site:
            self._site.tell_to_stop()
        unfinished = self._syncs.stop(FINISH_WITHIN, PUBLISH_WITHIN)
        if self._fleet and not unfinished:
            self._fleet.stop()  # another daemon leads at once, while this one says goodbye to its readers
        self._control.drain(DRAIN_WITHIN)
        ended = self._site is None or self._site.stop(max(DRAIN_WITHIN, end - time.monotonic()))
        self._schedule.stop()
        self._flush()
        self._record(StoppedDaemon(name))
        self._emit(events.DaemonStopped(unfinished))
        return ended and not unfinished

    def _flush(self) -> None:
        """Write check-ins and pulls, which are kept in memory, to the catalog."""
        try:
            self._checkins.flush()
            self._pulls.flush(self._environment.clock(), final=True)
        except SyncdError as error:
            self._emit(events.InternalError.of(error, "check-ins"))

    def _record(self, act: Act) -> None:
        """Record in the audit log what the daemon's user did. A catalog that cannot be written stops nothing here."""
        try:
            self._publisher.catalog.append(this_user(), act, self._environment.clock())
        except StoreError as error:
            self._emit(events.InternalError.of(error, "audit log"))

    def _reload(self) -> None:
        self._systemd.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        before = self._config
        try:
            config = self._load()
            check_reload(before, config)
            self._config = config  # first, since a new source may be due at once
            self._work.set_sources(config)
            if self._site and config.serve:
                self._site.reload(config.serve, config.operators)
        except SyncdError as error:
            self._config = before
            with suppress(StoreError):  # if it fails again, the event below has the cause
                self._work.set_sources(before)
            self._emit(events.ConfigRejected(error.message, error.hint))
        else:
            done = changes(before, config)
            self._emit(done)
            self._record(ReloadedConfiguration(done.added, done.removed, done.changed))
        self._systemd.send_status("READY=1")

    def _leads(self) -> bool:
        return self._fleet is None or self._fleet.epoch() is not None

    def _join(self, keys: LiveSigners) -> Fleet:
        emit, announce, acted = self._emit, self._announce, self._acted_elsewhere
        return Fleet(self._publisher, keys, self._work, emit=emit, announce=announce, acted=acted)

    def _acted_elsewhere(self) -> None:
        """Take note of acts at other daemons: they may have added or revoked matchers, or forgotten instances."""
        self._access.reload()
        self._checkins.note_acts()

    def _limits(self, source: str, name: ListName) -> ListLimits:
        return self._config.limits(source, name)  # of the configuration in force: a reload may have replaced it

    def _sources(self, name: str | None) -> tuple[Source, ...]:
        return self._config.all_sources() if name is None else (self._config.source(name),)

    def _overview(self) -> Overview:
        publisher, config, now = self._publisher, self._config, self._environment.clock()
        certificates, loaded = config.certificates(), self._checkins.snapshot()
        current = overview.read(
            publisher.folder,
            publisher.catalog,
            config.intervals(),
            now,
            certificates,
            loaded,
            ages=config.max_ages(),
            answering=self._fleet.answering() if self._fleet else None,
        )
        return replace(current, faults=self._faults.current())

    def _due(self, name: str) -> None:
        """Sync a source that the schedule says is due, unless a sync of it is already running."""
        config = self._config  # a reload may replace it
        if name not in config.sources or not self._leads():
            return
        try:
            self._syncs.start(config.source(name))
        except AbandonedError:
            return
        except RefusedError:
            self._schedule.postpone(name, _DRY_RUN_DELAY)

    def _files_at_fault(self, source: str | None) -> None:
        """Report faults in the published files. ``source``: the one to sync, because it can supply lost files again."""
        self._health.prove()
        if source is not None:
            self._due(source)

    def _emit(self, event: Event) -> None:
        """Log an event, and count it."""
        self._environment.emit(event)
        if self._site:
            self._site.app.metrics.activity.count(event)

    def _loaded(self, name: ListName, seconds: float) -> None:
        """Record that an instance of a matcher loaded a version, ``seconds`` after its publication."""
        if self._site:
            self._site.app.metrics.activity.loaded(name, seconds)

    def _announce(self, name: ListName, version: int) -> None:
        """Announce a published version to feed, event streams and dashboard."""
        if self._site:
            self._site.app.feed.refresh()
        self._news.announce(name, version)
        self._suppressions.note_publication()

    def _make_site(self, serve: Serve) -> "Site":
        # Imported here: only a daemon that serves HTTP needs the web framework.
        from syncd.service.web.context import Context
        from syncd.service.web.limits import Limits
        from syncd.service.web.site import Site, read_tokens

        catalog = self._publisher.catalog
        tokens = read_tokens(serve, self._config.operators)
        self._access.set_tokens(tokens.operator, tokens.metrics, tokens.people)
        for head in catalog.heads():
            self._news.announce(head.list, head.version)
        context = Context(
            catalog=catalog,
            folder=self._publisher.folder,
            access=self._access,
            checkins=self._checkins,
            pulls=self._pulls,
            news=self._news,
            health=self._health,
            clock=self._environment.clock,
            emit=self._emit,
            overview=self._overview,
            config=lambda: self._config,
            orders=self._orders,
            limits=Limits(connections=serve.max_connections, streams=serve.max_streams),
            recent=self._recent.newest,
            daemon=self._fleet.daemon if self._fleet else "",
        )
        return Site(serve, context)

    def _finished(self, outcome: SyncOutcome) -> None:
        self._news.changed()
        self._faults.sync_ended(outcome)
        self._suppressions.look_for_entries()
        planned = self._schedule.finished(outcome)
        if planned is not None:
            failures = self._publisher.catalog.source(outcome.source).failures
            self._emit(events.CoolDown(outcome.sync_id, outcome.source, planned.at, failures))
        self._systemd.send_status()

    def _retention(self) -> RetentionLimits:
        return self._config.retention_limits()

    def _check_clock(self) -> None:
        by = self._wall_clock.went_back()
        if by is not None:
            self._emit(events.ClockSetBack(round(by.total_seconds(), 3)))
            self._schedule.clock_went_back(by)
        self._schedule.replan_far_runs()

    def _responds(self, seconds: float) -> bool:
        """Return True if the control socket and the HTTP server answer."""
        if not client.responds(self._config.control_socket, str(self._config.state_dir), seconds):
            return False
        return self._site is None or self._site.answers(min(seconds, _ANSWER_WITHIN))

    def _describe(self) -> str:
        runs = self._schedule.next_runs().values()
        following = f"; next sync {min(runs):%H:%M:%S} UTC" if runs else ""
        running = [sync.source for sync in self._syncs.running()]
        now = f"; syncing {', '.join(running)}" if running else ""
        faults = sorted(name or "the metadata" for name in self._health.faults)
        wrong = f"not proved: {', '.join(faults)}; " if faults else ""
        part = "" if self._fleet is None else "leads; " if self._leads() else "stands by; "
        return f"{wrong}{part}{count(len(self._config.sources), 'source')}{now}{following}"


def _epoch(now: datetime, *, alone: bool) -> str:
    """Return a word for the event ids of this run, which no other run has, also on another machine."""
    run = f"{int(now.timestamp() * 1000):x}.{os.getpid()}"
    return run if alone else f"{run}.{secrets.token_hex(4)}"
