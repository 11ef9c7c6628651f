"""Running syncs: at most one per source. An order for a sync that is already running joins it."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pyarrow as pa

from syncd import events
from syncd.acts import AskedForSync
from syncd.errors import AbandonedError, NotLeadingError, RefusedError, StoreError, UnexpectedError, as_known
from syncd.event import Emit
from syncd.model import Counts
from syncd.outcomes import CANARY_CURE, joined
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.sync import new_sync_id, sync_source
from syncd.service.list_events import emit_ended, emit_opened
from syncd.service.worker import SpareWorker, Worker
from syncd.sources.source import Source
from syncd.trust.overlong import TO_DO

SCHEDULE: Final = "schedule"
"""Who asked for a sync, if no person did."""


@dataclass(frozen=True)
class Stage:
    """Progress of a sync: bytes or rows ``done`` of ``total`` (0 if not known)."""

    name: str = "start"
    done: int = 0
    total: int = 0


@dataclass
class RunningSync:
    """One sync, running or just ended. Safe to share between threads."""

    sync_id: str
    source: str
    dry_run: bool
    worker: Worker
    outcome: SyncOutcome | None = None
    _stage: Stage = Stage()
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def report(self, stage: str, done: int, total: int) -> None:
        """Set the progress; a `syncd.pipeline.preparation.Progress`."""
        with self._changed:
            self._stage = Stage(stage, done, total)
            self._changed.notify_all()

    @property
    def stage(self) -> Stage:
        """Current progress."""
        with self._changed:
            return self._stage

    def end(self, outcome: SyncOutcome) -> None:
        """Set the outcome and wake all waiting threads."""
        with self._changed:
            self.outcome = outcome
            self._changed.notify_all()

    def wait(self, seconds: float | None = None) -> SyncOutcome | None:
        """Wait for the end and return the outcome. None if it takes longer than ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self.outcome is not None, seconds)
            return self.outcome

    def stages(self) -> Iterator[Stage]:
        """Yield each stage as it comes; a slow reader gets the newest only. Ends with the sync."""
        seen: Stage | None = None
        while True:
            with self._changed:
                while self.outcome is None and self._stage == seen:
                    self._changed.wait()
                if self.outcome is not None:
                    return
                seen = self._stage
            yield seen


class Syncs:
    """Starts syncs, each in a thread of its own, with a worker process that fetches and stages.

    ``finished`` is called with every outcome except those of dry runs, before waiting clients get it. ``failed`` is
    called with the source if a storage failure prevents the start of a sync, or the processing of its outcome.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Callable[[], datetime],
        emit: Emit,
        finished: Callable[[SyncOutcome], None],
        failed: Callable[[str, StoreError], None] = lambda _source, _error: None,
    ) -> None:
        self._publisher, self._clock, self._emit = publisher, clock, emit
        self._finished, self._failed = finished, failed
        self._spare = SpareWorker()
        self._lock = threading.Lock()
        self._running: dict[str, RunningSync] = {}
        self._stopping = False

    def start(
        self, source: Source, asked_by: str = SCHEDULE, *, dry_run: bool = False, reason: str = ""
    ) -> tuple[RunningSync, bool]:
        """Start a sync, or join the running one. Return it, and True if it was joined.

        An order by a person goes into the audit log first. Raises `RefusedError` if a dry run was asked for and a real
        sync is running, or the reverse; `AbandonedError` if the daemon is stopping; `StoreError`.
        """
        try:
            return self._start(source, asked_by, dry_run, reason)
        except StoreError as error:
            self._failed(source.name, error)
            raise

    def _start(self, source: Source, asked_by: str, dry_run: bool, reason: str) -> tuple[RunningSync, bool]:
        with self._lock:
            running = self._running.get(source.name)
            if running is not None and running.dry_run != dry_run:
                raise RefusedError(
                    f"{'a dry run' if running.dry_run else 'a sync'} of {source.name} is already running",
                    hint="run the command again when that has finished; this one was not started",
                )
            if running is None and self._stopping:
                raise AbandonedError(
                    "the daemon is stopping", hint="run the command again once the daemon has restarted"
                )
            joined = running is not None
            running = running or self._new(source, dry_run)
            if asked_by != SCHEDULE:
                act = AskedForSync(running.source, running.sync_id, running.dry_run, joined, reason)
                self._publisher.catalog.append(asked_by, act, self._clock())
            if joined and asked_by != SCHEDULE:
                self._emit(events.SyncJoined(running.sync_id, source.name, asked_by))
            if not joined:
                self._begin(running, source, asked_by)
            return running, joined

    def running(self) -> tuple[RunningSync, ...]:
        """Return the running syncs."""
        with self._lock:
            return tuple(self._running.values())

    def find(self, sync_id: str) -> RunningSync | None:
        """Return the running sync with this ID. None if there is no such sync."""
        return next((sync for sync in self.running() if sync.sync_id == sync_id), None)

    def make_ready(self) -> None:
        """Start a worker process ahead of need, unless a sync needs the processors now."""
        if not self.running():
            self._spare.refill()

    def stop(self, finish_within: float, publish_within: float) -> tuple[str, ...]:
        """Start no more syncs, let running ones finish for ``finish_within`` seconds, then kill their workers.

        Publications then get ``publish_within`` seconds more to finish. Return the sources whose sync has not ended
        even then.
        """
        with self._lock:
            self._stopping = True
        self._spare.close()
        self._wait(finish_within)
        for running in self.running():
            running.worker.abandon()
        self._wait(publish_within)
        return tuple(sync.source for sync in self.running())

    def abandon(self) -> None:
        """Kill the workers of all running syncs, and wait until their threads have ended."""
        for running in self.running():
            running.worker.abandon()
            running.wait()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for running in self.running():
            running.wait(max(0.0, end - time.monotonic()))

    def _new(self, source: Source, dry_run: bool) -> RunningSync:
        sync_id = new_sync_id()

        def killed(pid: int, seconds: float) -> None:
            self._emit(events.WorkerKilled(sync_id, source.name, pid, seconds))

        return RunningSync(sync_id, source.name, dry_run, Worker(killed, self._spare.take))

    def _begin(self, running: RunningSync, source: Source, asked_by: str) -> None:
        thread = threading.Thread(
            target=self._run, args=(running, source, asked_by), name=f"syncd-sync-{source.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # out of threads: a limit of the system or of the service
            raise StoreError(
                f"the sync of {source.name} could not be started: {error}",
                hint="check free memory and TasksMax= of the service, then sync again",
            ) from error
        self._running[source.name] = running  # in time: its thread needs our lock to end

    def _run(self, running: RunningSync, source: Source, asked_by: str) -> None:
        self._emit(events.SyncStarted(running.sync_id, source.name, asked_by, running.dry_run))
        outcome = self._outcome(running, source)
        try:
            self._emit_outcome(outcome)
            if not running.dry_run:
                self._finished(outcome)
        except NotLeadingError:
            pass  # the outcome says it, and whoever leads now plans the next sync
        except StoreError as error:
            self._failed(running.source, error)
        except Exception as error:  # noqa: BLE001 - waiting clients must get the outcome, whatever else goes wrong
            self._emit(events.InternalError.of(error, "after a sync"))
        finally:
            with self._lock:
                del self._running[source.name]
            running.end(outcome)
            _return_memory()  # last, since nothing waits for it

    def _outcome(self, running: RunningSync, source: Source) -> SyncOutcome:
        try:
            return sync_source(
                self._publisher,
                source,
                self._clock,
                running.report,
                dry_run=running.dry_run,
                prepared_by=running.worker,
                sync_id=running.sync_id,
            )
        except Exception as error:  # noqa: BLE001 - a bug in one sync must not end the daemon or leave clients waiting
            return SyncOutcome(running.sync_id, source.name, error=as_known(error))

    def _emit_outcome(self, outcome: SyncOutcome) -> None:
        for result in outcome.lists:
            total = sum(result.counts.values(), Counts())
            self._emit(
                events.ListSynced(
                    sync_id=outcome.sync_id,
                    source=outcome.source,
                    outcome=result.outcome,
                    list=result.list,
                    version=result.version,
                    serial=result.serial,
                    plan=result.plan,
                    added=total.added,
                    removed=total.removed,
                    relabelled=total.relabelled,
                    rows=result.rows,
                    reason=joined(result.reasons),
                    reasons=result.reasons,
                    message=result.message,
                    to_do=result.to_do,
                    known_good=sum(result.known_good.values()),
                )
            )
            emit_opened(self._emit, result.opened)
            emit_ended(self._emit, result.ended)
        for error in (outcome.error, *(result.error for result in outcome.lists)):
            if isinstance(error, UnexpectedError):
                self._emit(events.InternalError.of(error, f"sync of {outcome.source}"))
        for mended in outcome.mended:
            self._emit(events.StateNotProved(mended.list, mended.error.message, mended.error.hint))
        self._emit_canaries(outcome)
        for reason, number in outcome.set_aside.items():
            self._emit(events.FingerprintsSetAside(outcome.sync_id, outcome.source, reason, number))
        if late := outcome.late_expiry:
            self._emit(
                events.LateExpiryFound(
                    message=late.why,
                    to_do=TO_DO,
                    sync_id=outcome.sync_id,
                    source=outcome.source,
                    expires=late.expires,
                    counts_until=late.until,
                )
            )
        message, to_do = (outcome.error.message, outcome.error.hint) if outcome.error else ("", "")
        seconds = round(outcome.seconds, 3)
        self._emit(
            events.SyncFinished(
                sync_id=outcome.sync_id,
                source=outcome.source,
                outcome=outcome.outcome,
                seconds=seconds,
                bytes=outcome.bytes,
                message=message,
                to_do=to_do,
            )
        )

    def _emit_canaries(self, outcome: SyncOutcome) -> None:
        emit_opened(self._emit, outcome.opened)
        emit_ended(self._emit, outcome.ended)
        for warning in outcome.warnings:
            self._emit(
                events.CanaryFault(
                    message=warning.message, to_do=warning.hint, sync_id=outcome.sync_id, source=outcome.source
                )
            )
        for note in outcome.canaries:
            self._emit(
                events.CanaryMissing(
                    sync_id=outcome.sync_id,
                    source=outcome.source,
                    list=note.list,
                    missing=note.missing,
                    must_have=note.must_have,
                    to_do=CANARY_CURE,
                )
            )


def _return_memory() -> None:
    """Release memory that the sync has freed, but allocators keep, to the system: a daemon runs for years. Takes ms."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # malloc_trim(3): glibc has it, musl does not
    if trim is not None:
        trim(0)
