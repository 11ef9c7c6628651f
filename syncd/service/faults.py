"""Storage failures that currently affect the daemon: each is kept, and reported, until the same task succeeds."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.errors import StoreError, SyncdError
from syncd.event import Emit
from syncd.pipeline.outcome import SyncOutcome
from syncd.report import runbook
from syncd.report.judged import StorageFault
from syncd.service.scheduler import source_of

TIMESTAMP: Final = "timestamp"
"""The hourly signature, which has its own events."""
REPEAT_AFTER: Final = timedelta(minutes=10)
"""Between two events of the same lasting fault: some tasks are tried every few seconds."""


def sync_of(source: str) -> str:
    """Return the name under which sync failures of a source are kept."""
    return f"sync of {source}"


def section_of(what: str) -> str:
    """Return the section of the runbook about a storage failure of a task."""
    if what == TIMESTAMP:
        return runbook.TIMESTAMP
    return runbook.SYNCS_FAIL if what.startswith(sync_of("")) else runbook.STORAGE


class Faults:
    """Current faults, by task. Safe to share between threads."""

    def __init__(self, catalog: Catalog, clock: Callable[[], datetime], emit: Emit) -> None:
        self._catalog, self._clock, self._emit = catalog, clock, emit
        self._lock = threading.Lock()
        self._faults: dict[str, StorageFault] = {}
        self._reported_at: dict[str, datetime] = {}

    def current(self) -> tuple[StorageFault, ...]:
        """Return the current faults, oldest first."""
        with self._lock:
            return tuple(self._faults.values())

    def failed(self, what: str, error: BaseException) -> None:
        """Record and report a storage failure. Any other error is a bug, and is reported as one."""
        if not isinstance(error, StoreError):
            self._emit(events.InternalError.of(error, what))
            return
        now = self._clock()
        with self._lock:
            before = self._faults.get(what)
            since = before.since if before else now
            self._faults[what] = StorageFault(what, since, error.message, error.hint, section_of(what))
            due = before is None or abs(now - self._reported_at[what]) >= REPEAT_AFTER
            if due:
                self._reported_at[what] = now
        if due and what != TIMESTAMP:
            self._emit(events.StorageFailed(error.message, error.hint, what))

    def worked(self, what: str) -> None:
        """Clear the fault of a task, if it had one."""
        with self._lock:
            before = self._faults.pop(what, None)
        if before is not None:
            self._emit(events.StorageRecovered(what))

    def sync_failed(self, source: str, error: StoreError) -> None:
        """Record that a sync could not be started, or that its outcome could not be processed."""
        self.failed(sync_of(source), error)

    def not_signed(self, error: SyncdError) -> None:
        """Record that the hourly signature, tried every minute, failed."""
        self._emit(events.TimestampNotSigned(error.message, error.hint))
        if isinstance(error, StoreError):
            self.failed(TIMESTAMP, error)

    def job_failed(self, job: str, error: BaseException) -> None:
        """Record that a scheduled job failed."""
        source = source_of(job)
        self.failed(job if source is None else sync_of(source), error)

    def job_done(self, job: str) -> None:
        """Record that a scheduled job returned. The job of a source only starts a sync, which proves nothing yet."""
        if source_of(job) is None and job != TIMESTAMP:
            self.worked(job)

    def sync_ended(self, outcome: SyncOutcome) -> None:
        """Record the end of a sync. If the catalog lacks its outcome, keep its storage error, or nobody sees it."""
        what = sync_of(outcome.source)
        if self._is_recorded(outcome):
            self.worked(what)
        elif isinstance(outcome.error, StoreError):
            self.failed(what, outcome.error)

    def _is_recorded(self, outcome: SyncOutcome) -> bool:
        try:
            record = self._catalog.sync(outcome.sync_id)
        except StoreError:
            return False
        return record is not None and record.outcome is outcome.outcome
