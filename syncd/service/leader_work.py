"""The work that only the leader of several daemons does, and that the only daemon on a state always does."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from syncd import events
from syncd.acts import AUTOMATIC
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.event import Emit
from syncd.kernel_clock import KernelClock
from syncd.operate.clock import accept_synchronised
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.timestamp import sign_if_due
from syncd.service import suppressions
from syncd.service.faults import TIMESTAMP, Faults
from syncd.service.scheduler import Schedule
from syncd.service.suppressions import Suppressions
from syncd.service.syncs import Syncs
from syncd.units import stamp

_SIGN_EVERY: Final = 60.0
_LOOK_EVERY: Final = 60.0
"""Seconds between two looks at the ends of suppressions."""
_COLLECT_EVERY: Final = 3600.0
"""Seconds between two removals of old records, and of files of sources that are no longer configured."""
_KEEP_EVERY: Final = 3600.0
"""Seconds between two runs that bring the history up to date."""
_TAKE_OVER_WITHIN: Final = 60.0
"""Seconds that a new leader waits for a process on its own machine that holds the feed's lock."""


class LeaderWork:
    """Syncs when due, signs, ends suppressions, keeps the history, and removes old files and records."""

    def __init__(
        self,
        publisher: Publisher,
        schedule: Schedule,
        syncs: Syncs,
        suppressions: Suppressions,
        faults: Faults,
        *,
        config: Callable[[], Config],
        leads: Callable[[], bool],
        clock: Callable[[], datetime],
        kernel_clock: Callable[[], KernelClock],
        emit: Emit,
        changed: Callable[[], None],
    ) -> None:
        """``config`` returns the configuration in force; ``leads``, whether this daemon leads now."""
        self._publisher, self._schedule, self._syncs = publisher, schedule, syncs
        self._suppressions, self._faults = suppressions, faults
        self._config, self._leads, self._clock, self._kernel_clock = config, leads, clock, kernel_clock
        self._emit, self._changed = emit, changed

    def add_chores(self) -> None:
        """Schedule the regular work. None of it is done while another daemon leads."""
        self._schedule.add_chore("timestamp", _SIGN_EVERY, self._if_leading(self._sign))
        self._schedule.add_chore("old files", _COLLECT_EVERY, self._if_leading(self._collect))
        self._schedule.add_chore(suppressions.CHORE, _LOOK_EVERY, self._if_leading(self._suppressions.look))
        self._schedule.add_chore("history", _KEEP_EVERY, self._if_leading(self._keep_history))

    def set_sources(self, config: Config) -> None:
        """Sync the sources of ``config`` when they are due, if this daemon leads. Raises `StoreError`."""
        self._schedule.set_sources(config.intervals() if self._leads() else {})

    def begin(self, epoch: int) -> None:
        """Take over: complete what the leader before left, then sync when due. Raises `SyncdError`."""
        del epoch
        self._publisher.core.finish(patience=_TAKE_OVER_WITHIN)
        self._publisher.catalog.mark_interrupted(self._clock())
        self.set_sources(self._config())

    def end(self) -> None:
        """Stop it. Returns once no sync runs any more."""
        self._schedule.set_sources({})
        self._syncs.abandon()

    def _if_leading(self, chore: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            if self._leads():
                chore()

        return run

    def _sign(self) -> None:
        try:
            now = self._clock()
            if self._accept_clock(now) or sign_if_due(self._publisher, now, self._config().max_ages().values()):
                self._emit(events.TimestampSigned())
            self._faults.worked(TIMESTAMP)
        except SyncdError as error:
            self._faults.not_signed(error)

    def _accept_clock(self, now: datetime) -> bool:
        """Correct times in the future if the kernel says that the clock is right now; return True if any were."""
        done = accept_synchronised(self._publisher, self._kernel_clock(), now)
        if done is not None:
            self._emit(events.ClockAccepted(stamp(done.time), done.sources, AUTOMATIC, done.reason))
            self._changed()
        return done is not None

    def _keep_history(self) -> None:
        retention = timedelta(seconds=self._config().history_retention)
        self._publisher.keep_history(self._clock(), retention)

    def _collect(self) -> None:
        """Remove what no sync removes: records of sources that never publish, files of sources that are gone."""
        collector, now = self._publisher.collector, self._clock()
        collector.records(now)
        collector.leftovers(now)
