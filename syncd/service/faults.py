"""What storage keeps the daemon from doing: remembered until the same thing succeeds, and told meanwhile."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.errors import StoreError, SyncdError
from syncd.pipeline.outcome import SyncOutcome
from syncd.report.faults import StorageFault
from syncd.service.log import Emit
from syncd.service.scheduler import source_of

TIMESTAMP: Final = "timestamp"
"""The hourly signature, which has events of its own."""
AGAIN: Final = timedelta(minutes=10)
"""Between two events of one fault that lasts: some of what fails is tried every few seconds."""


def sync_of(source: str) -> str:
    """The name that a fault in syncing a source goes by."""
    return f"sync of {source}"


class Faults:
    """What failed last, by name. Safe to share between threads."""

    def __init__(self, catalog: Catalog, clock: Callable[[], datetime], emit: Emit) -> None:
        self._catalog, self._clock, self._emit = catalog, clock, emit
        self._turn = threading.Lock()
        self._faults: dict[str, StorageFault] = {}
        self._told: dict[str, datetime] = {}

    def current(self) -> tuple[StorageFault, ...]:
        """Those that last, the oldest first."""
        with self._turn:
            return tuple(self._faults.values())

    def failed(self, what: str, error: BaseException) -> None:
        """Remember and tell a fault of storage; whatever else it is, is a bug, and told as one."""
        if not isinstance(error, StoreError):
            self._emit(events.InternalError.of(error, what))
            return
        now = self._clock()
        with self._turn:
            before = self._faults.get(what)
            since = before.since if before else now
            self._faults[what] = StorageFault(what, since, error.message, error.hint)
            due = before is None or abs(now - self._told[what]) >= AGAIN
            if due:
                self._told[what] = now
        if due and what != TIMESTAMP:
            self._emit(events.StorageFailed(error.message, error.hint, what))

    def worked(self, what: str) -> None:
        """Forget a fault, where there was one."""
        with self._turn:
            before = self._faults.pop(what, None)
        if before is not None:
            self._emit(events.StorageRecovered(what))

    def sync_failed(self, source: str, error: StoreError) -> None:
        """A sync could not be begun, or its end not be acted on."""
        self.failed(sync_of(source), error)

    def not_signed(self, error: SyncdError) -> None:
        """The hourly signature, tried every minute, was not made."""
        self._emit(events.TimestampNotSigned(error.message, error.hint))
        if isinstance(error, StoreError):
            self.failed(TIMESTAMP, error)

    def job_failed(self, job: str, error: BaseException) -> None:
        """What the schedule runs has failed."""
        source = source_of(job)
        self.failed(job if source is None else sync_of(source), error)

    def job_done(self, job: str) -> None:
        """What the schedule runs was done; of a sync it was the beginning only, which says nothing yet."""
        if source_of(job) is None and job != TIMESTAMP:
            self.worked(job)

    def sync_ended(self, outcome: SyncOutcome) -> None:
        """A sync that is recorded is told by its record, however it ended; one that cannot be is told from here."""
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
