"""The syncs under way: at most one of each source, which whoever asks for the same one joins."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from syncd import events
from syncd.acts import AskedForSync
from syncd.errors import AbandonedError, RefusedError, StoreError, as_known
from syncd.model import Counts
from syncd.outcomes import joined
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.sync import new_sync_id, sync_source
from syncd.service.holds import tell_ended, tell_opened
from syncd.service.log import Emit
from syncd.service.memory import give_back
from syncd.service.worker import Spare, Worker
from syncd.sources.source import Source

SCHEDULE: Final = "schedule"
"""Who asks, where nobody in particular does."""


@dataclass(frozen=True)
class Stage:
    """How far a sync is: bytes or rows done, of how many (0: not known)."""

    name: str = "start"
    done: int = 0
    total: int = 0


@dataclass
class Running:
    """One sync, under way or just ended. Safe to share between threads."""

    sync_id: str
    source: str
    dry_run: bool
    worker: Worker
    outcome: SyncOutcome | None = None
    _stage: Stage = Stage()
    _news: threading.Condition = field(default_factory=threading.Condition)

    def tell(self, stage: str, done: int, total: int) -> None:
        """How far it is."""
        with self._news:
            self._stage = Stage(stage, done, total)
            self._news.notify_all()

    @property
    def stage(self) -> Stage:
        """How far it is now."""
        with self._news:
            return self._stage

    def end(self, outcome: SyncOutcome) -> None:
        """What came of it."""
        with self._news:
            self.outcome = outcome
            self._news.notify_all()

    def wait(self, seconds: float | None = None) -> SyncOutcome | None:
        """Wait for the end; None where it has not come within ``seconds``."""
        with self._news:
            self._news.wait_for(lambda: self.outcome is not None, seconds)
            return self.outcome

    def stages(self) -> Iterator[Stage]:
        """Each stage as it comes, the newest only where the reader is slow; ends with the sync."""
        seen: Stage | None = None
        while True:
            with self._news:
                while self.outcome is None and self._stage == seen:
                    self._news.wait()
                if self.outcome is not None:
                    return
                seen = self._stage
            yield seen


class Syncs:
    """Starts syncs, each in a thread of its own that a worker process prepares for.

    ``finished`` is told every outcome but those of dry runs, before whoever waits is; ``failed``, which source it was
    where storage keeps a sync from being begun, or its end from being acted on.
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
        self._spare = Spare()
        self._turn = threading.Lock()
        self._running: dict[str, Running] = {}
        self._stopping = False

    def start(self, source: Source, asked_by: str = SCHEDULE, *, dry_run: bool = False) -> tuple[Running, bool]:
        """Start a sync, or join the one under way: returns it, and whether it was joined.

        What a person asks for goes into the audit log first. Raises `RefusedError` where one of the other kind (a dry
        run, or not) is under way, `AbandonedError` where the daemon is stopping, `StoreError`.
        """
        try:
            return self._start(source, asked_by, dry_run)
        except StoreError as error:
            self._failed(source.name, error)
            raise

    def _start(self, source: Source, asked_by: str, dry_run: bool) -> tuple[Running, bool]:
        with self._turn:
            running = self._running.get(source.name)
            if running is not None and running.dry_run != dry_run:
                raise RefusedError(
                    f"{'a dry run' if running.dry_run else 'a sync'} of {source.name} is under way",
                    hint="ask again when that is finished; this one was not started",
                )
            if running is None and self._stopping:
                raise AbandonedError("the daemon is stopping", hint="ask again when it is running")
            joined = running is not None
            running = running or self._new(source, dry_run)
            self._audit(running, asked_by, joined)
            if joined and asked_by != SCHEDULE:
                self._emit(events.SyncJoined(running.sync_id, source.name, asked_by))
            if not joined:
                self._begin(running, source, asked_by)
            return running, joined

    def running(self) -> tuple[Running, ...]:
        """Those under way."""
        with self._turn:
            return tuple(self._running.values())

    def find(self, sync_id: str) -> Running | None:
        """One under way, by its name."""
        return next((one for one in self.running() if one.sync_id == sync_id), None)

    def make_ready(self) -> None:
        """Start a worker process ahead of need, unless a sync has the processors now."""
        if not self.running():
            self._spare.refill()

    def stop(self, patience: float, last: float) -> tuple[str, ...]:
        """Begin none any more; let those under way finish for ``patience`` seconds, then end their workers.

        What is being published by then is finished, for at most ``last`` seconds more. Returns the sources whose sync
        is not at its end even so.
        """
        with self._turn:
            self._stopping = True
        self._spare.close()
        self._wait(patience)
        for running in self.running():
            running.worker.abandon()
        self._wait(last)
        return tuple(one.source for one in self.running())

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for running in self.running():
            running.wait(max(0.0, end - time.monotonic()))

    def _new(self, source: Source, dry_run: bool) -> Running:
        sync_id = new_sync_id()

        def killed(pid: int, seconds: float) -> None:
            self._emit(events.WorkerKilled(sync_id, source.name, pid, seconds))

        return Running(sync_id, source.name, dry_run, Worker(killed, self._spare.take))

    def _audit(self, running: Running, asked_by: str, joined: bool) -> None:
        if asked_by != SCHEDULE:
            act = AskedForSync(running.source, running.sync_id, running.dry_run, joined)
            self._publisher.catalog.append(asked_by, act, self._clock())

    def _begin(self, running: Running, source: Source, asked_by: str) -> None:
        thread = threading.Thread(
            target=self._run, args=(running, source, asked_by), name=f"syncd-sync-{source.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the system, or a limit of the service, gives no more
            raise StoreError(
                f"no sync of {source.name} could be started: {error}",
                hint="is TasksMax= of the service, or memory, used up? ask again then",
            ) from error
        self._running[source.name] = running  # it ends no earlier: it waits for our turn

    def _run(self, running: Running, source: Source, asked_by: str) -> None:
        self._emit(events.SyncStarted(running.sync_id, source.name, asked_by, running.dry_run))
        outcome = self._outcome(running, source)
        try:
            self._tell(outcome)
            if not running.dry_run:
                self._finished(outcome)
        except StoreError as error:
            self._failed(running.source, error)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear the outcome, whatever else goes wrong
            self._emit(events.InternalError.of(error, "after a sync"))
        finally:
            with self._turn:
                del self._running[source.name]
            running.end(outcome)
            give_back()  # last: nobody waits for it

    def _outcome(self, running: Running, source: Source) -> SyncOutcome:
        try:
            return sync_source(
                self._publisher,
                source,
                self._clock,
                running.tell,
                dry_run=running.dry_run,
                prepared_by=running.worker,
                sync_id=running.sync_id,
            )
        except Exception as error:  # noqa: BLE001 - a bug in one sync must not end the daemon, nor leave others waiting
            self._emit(events.InternalError.of(error, f"sync of {source.name}"))
            return SyncOutcome(running.sync_id, source.name, error=as_known(error))

    def _tell(self, outcome: SyncOutcome) -> None:
        for one in outcome.lists:
            total = sum(one.counts.values(), Counts())
            self._emit(
                events.ListSynced(
                    sync_id=outcome.sync_id,
                    source=outcome.source,
                    outcome=one.outcome,
                    list=one.list,
                    version=one.version,
                    serial=one.serial,
                    plan=one.plan,
                    added=total.added,
                    removed=total.removed,
                    relabelled=total.relabelled,
                    rows=one.rows,
                    reason=joined(one.reasons),
                    reasons=one.reasons,
                    message=one.message,
                    to_do=one.to_do,
                )
            )
            tell_opened(self._emit, one.opened)
            tell_ended(self._emit, one.ended)
        message, to_do = (outcome.error.message, outcome.error.hint) if outcome.error else ("", "")
        seconds = round(outcome.seconds, 3)
        self._emit(
            events.SyncFinished(
                outcome.sync_id, outcome.source, outcome.outcome, seconds, outcome.bytes, message, to_do
            )
        )
