"""Every list and source at one time, judged: what a person must act on, and why. Only this module decides that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from syncd.catalog.decisions import CanaryNote, HoldRecord
from syncd.catalog.records import HeadRecord, OriginRecord, SyncFault, SyncRecord, own_name
from syncd.certificates import CertificateView
from syncd.clock import ClockFault
from syncd.format.freshness import AgeVerdict, MaxAge, SourceAges, judge_age, usual_limits
from syncd.model import ListName
from syncd.outcomes import CANARY_CURE, Lane, Outcome, reasons_in_words
from syncd.report import runbook
from syncd.report.expiry import Expiry
from syncd.report.fleet import FleetView
from syncd.report.holds import hold_in_words, reasons_of
from syncd.report.lagging import MatcherView
from syncd.report.pins import PinView
from syncd.report.proof import NOT_PROVED, ProofView
from syncd.report.suppressions import NO_SUPPRESSIONS, SuppressionsView
from syncd.trust.overlong import LateExpiry
from syncd.units import clock_is_behind, count, in_words, span


def in_words_of(fault: SyncFault) -> str:
    """Describe a fault of a sync for people."""
    return fault.message or reasons_in_words(fault.reasons) or f"the last sync was {in_words(fault.outcome)}"


@dataclass(frozen=True)
class StorageFault:
    """A storage failure that currently affects the daemon: the sync or chore has not succeeded since.

    Kept in memory, because the catalog itself may not be writable.
    """

    what: str
    """``sync of SOURCE``, ``timestamp``, or the name of a chore"""
    since: datetime
    message: str
    to_do: str
    section: str = runbook.STORAGE
    """of the runbook"""


@dataclass(frozen=True)
class SourceView:
    """One source: its last sync, except dry runs, and its next."""

    name: str
    interval: timedelta | None
    """between syncs; None if the source is no longer configured"""
    last: SyncRecord | None
    next_run_at: datetime | None = None
    """None if no daemon has planned one"""
    cool_down_until: datetime | None = None
    """until when it is left alone, because it was unreachable or asked for it"""
    failures: int = 0
    """consecutive syncs that did not reach it"""
    last_success_at: datetime | None = None
    """when a sync last verified every followed list, whether or not it held rows"""
    running: SyncRecord | None = None
    """the running sync, dry or not; until it ends, everything is judged by ``last``"""
    late_expiry: LateExpiry | None = None
    """the expiry of its timestamp, if that is far too late and does not count in full"""
    ages: SourceAges | None = None
    """the configured limits of the ages of its lists; None: those that follow from the interval"""

    @property
    def configured(self) -> bool:
        """True if it is configured, and so kept up to date."""
        return self.interval is not None

    def section(self, holds: Sequence[HoldRecord]) -> str:
        """Return the section of the runbook about it while it has no published list. ``holds``: the open ones."""
        if holds:
            return runbook.of_sync(Outcome.HELD, reasons_of(holds))
        return runbook.OF_OUTCOME.get(self.last.outcome, runbook.UNPUBLISHED) if self.last else runbook.UNPUBLISHED

    def limits_of(self, own_name: ListName) -> MaxAge | None:
        """Return the limits of the age of one of its lists; None if it is no longer configured."""
        if self.interval is None:
            return None
        return self.ages.of(own_name) if self.ages else usual_limits(self.interval.total_seconds())


@dataclass(frozen=True)
class ListView:
    """One published list."""

    head: HeadRecord
    rows: int
    origin: OriginRecord | None
    source: SourceView
    now: datetime
    holds: tuple[HoldRecord, ...] = ()
    """the open ones"""
    hold_ended_at: datetime | None = None
    """when a hold of it last ended; None if never"""
    canaries: CanaryNote | None = None
    """as the last sync found them; None: not yet"""

    @property
    def retired(self) -> bool:
        """True if it is no longer published, so that its age does not matter."""
        return self.head.retired_at is not None

    @property
    def over(self) -> bool:
        """True if it is retired and no configured source can change it."""
        return self.retired and (self.origin is None or not self.source.configured)

    @property
    def sync_holds(self) -> tuple[HoldRecord, ...]:
        """The open holds that every sync reports: of the partner's rows, and of a changed known-good file."""
        return tuple(hold for hold in self.holds if hold.lane is not Lane.SUPPRESSIONS or hold.is_of_known_good_file)

    @property
    def pin(self) -> PinView | None:
        """Its pin, if it was rolled back to an older version; None if it follows its source, or is retired."""
        pin = self.origin.pin if self.origin and not self.retired else None
        return PinView(self.head.list, pin) if pin else None

    @property
    def age(self) -> timedelta | None:
        """The time since the source was last verified in this state; None if never, or if the list is retired."""
        return self.now - self.origin.verified_at if self.origin and not self.retired else None

    @property
    def limits(self) -> MaxAge | None:
        """The limits of its age; None if its source is no longer configured."""
        return self.source.limits_of(own_name(self.head.list))

    @property
    def freshness(self) -> AgeVerdict | None:
        """The judgement of its age, stale if its source is no longer configured; None if the list is retired."""
        if self.retired:
            return None
        return judge_age(self.age, self.limits) if self.limits else AgeVerdict.STALE

    @property
    def stale(self) -> bool:
        """True if it is no longer kept up to date."""
        return self.freshness is AgeVerdict.STALE

    @property
    def fault(self) -> SyncFault | None:
        """The list's fault in the last sync, else its open holds as a fault; None if there is neither.

        Suppressions that wait for a second operator hold no update. A hold is a fault until it ends, whatever the
        outcome of later syncs. A fault of the whole sync does not concern a retired list: only its own do, such as an
        update of it that waits or was rejected.
        """
        last = self.source.last
        faults = last.reported_faults if last and not self.over else {}
        whole = None if self.retired or self._verified_by(last) else faults.get("")
        fault = faults.get(self.head.list, whole)
        if fault is None or fault.outcome is Outcome.HELD:
            if self.sync_holds:
                return SyncFault(Outcome.HELD, reasons_of(self.sync_holds))
            return None if self._released_since(last) else fault
        return fault

    @property
    def held_for(self) -> tuple[str, ...]:
        """The reasons for which rows wait for an operator; () if none wait."""
        if self.holds:
            return reasons_of(self.holds)
        fault = self.fault
        return fault.reasons if fault and fault.outcome is Outcome.HELD else ()

    def _released_since(self, last: SyncRecord | None) -> bool:
        """Return True if the hold of the last sync has ended since."""
        return bool(last and self.hold_ended_at and self.hold_ended_at >= last.started_at)

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the last sync for this list, or the present one if that changed; None if there was no sync."""
        last, fault = self.source.last, self.fault
        if self.over:
            return None
        if last is None or fault is not None:
            return fault.outcome if fault else None
        new = last.outcome is not Outcome.UP_TO_DATE and self.head.published_at >= last.started_at
        return Outcome.PUBLISHED if new else Outcome.UP_TO_DATE

    def _verified_by(self, last: SyncRecord | None) -> bool:
        return bool(last and self.origin and self.origin.verified_at > last.started_at)

    @property
    def why(self) -> str:
        """Why a person must act; '' if nobody has to."""
        waiting = () if self.over else self.holds
        corrections = [hold_in_words(hold) for hold in waiting if hold not in self.sync_holds]
        pinned = f"{self.pin.why}; {self.pin.to_do}" if self.pin else ""
        return "; ".join(filter(None, (self._why_fault, *corrections, pinned, *self._why_canaries)))

    @property
    def section(self) -> str:
        """The section of the runbook about the first reason of `why`, if there is one."""
        note = self.judged_canaries
        if self._why_fault:
            return self._section_of_fault
        if self.holds and not self.over:
            return runbook.of_sync(Outcome.HELD, self.held_for)
        if self.pin:
            return runbook.PINNED
        return runbook.CANARY_MISSING if note and note.missing else runbook.KNOWN_GOOD_UNUSABLE

    @property
    def _section_of_fault(self) -> str:
        fault = self.fault
        if not self.source.configured:
            return runbook.NOT_CONFIGURED
        if fault:
            return runbook.of_sync(fault.outcome, fault.reasons)
        if self.age is not None and clock_is_behind(self.age):
            return runbook.CLOCK
        return runbook.STALE if self.stale else runbook.LATE

    @property
    def judged_canaries(self) -> CanaryNote | None:
        """The canaries, if anybody can act on them: not those of a list that no sync looks at any more."""
        return None if self.retired or not self.source.configured else self.canaries

    @property
    def _why_canaries(self) -> Iterator[str]:
        note = self.judged_canaries
        if note is not None and note.missing:
            of = count(note.must_have, "digest")
            yield f"{note.missing:,} of {of} that must be present are missing: {CANARY_CURE}"
        if note is not None and note.fault:
            yield f"{note.fault}; its last good reading stays in force"

    @property
    def _why_fault(self) -> str:
        """Why a person must act, apart from corrections, a pin and canaries; '' if nobody has to."""
        fault, held = self.fault, map(hold_in_words, self.sync_holds)
        if self.over:
            return ""
        if not self.source.configured:
            return "; ".join([f"source {self.head.source} is no longer configured, so the list is stale", *held])
        if fault and fault.outcome is not Outcome.HELD:
            return "; ".join([in_words_of(fault), *held])
        if fault:
            return "; ".join(held) or in_words_of(fault)
        return self._why_old

    @property
    def _why_old(self) -> str:
        """Why a list without a fault is not fresh; '' if it is fresh."""
        if self.freshness in {None, AgeVerdict.FRESH}:
            return ""
        if self.age is None:
            return "never verified in this state: syncs do not run"
        if clock_is_behind(self.age):
            return f"its last verification is dated {span(-self.age)} in the future, so its age is not known"
        return f"not verified for {span(self.age)}: syncs do not run"

    @property
    def cure(self) -> str:
        """The action to take, if `why` does not include it; '' otherwise."""
        if self.source.configured or self.retired:
            return ""
        return f"configure it again, or retire the list: syncd retire {self.head.list} --reason R"


@dataclass(frozen=True)
class SourceFault:
    """A fault of a source's last sync, or a hold, that none of its published lists shows."""

    source: SourceView
    list: str
    """its name if it were published; ``""`` for the whole sync"""
    fault: SyncFault
    holds: tuple[HoldRecord, ...] = ()
    """the open holds of a list that was never published"""

    @property
    def why(self) -> str:
        """Why a person must act."""
        if not self.list:
            return in_words_of(self.fault)
        beside = [] if self.holds and self.fault.outcome is Outcome.HELD else [in_words_of(self.fault)]
        return f"{self.list} was never published: {'; '.join([*beside, *map(hold_in_words, self.holds)])}"

    @property
    def section(self) -> str:
        """The section of the runbook about it."""
        return runbook.of_sync(self.fault.outcome, self.fault.reasons)


@dataclass(frozen=True)
class Overview:
    """The state of everything at one time."""

    now: datetime
    lists: tuple[ListView, ...]
    sources: tuple[SourceView, ...]
    """every configured source, and the sources of published lists that are not ``over``"""
    roles: tuple[Expiry, ...]
    """expiries of our own metadata, the soonest first"""
    matchers: tuple[MatcherView, ...]
    """matchers with a valid token, and the versions that they have loaded"""
    certificates: tuple[CertificateView, ...] = ()
    """the readable certificates of the server and for sources"""
    faults: tuple[StorageFault, ...] = ()
    """storage failures of a running daemon, which the catalog may not contain"""
    suppressions: SuppressionsView = NO_SUPPRESSIONS
    clock: ClockFault | None = None
    """times of the state that lie in the future; None if none does"""
    proof: ProofView = NOT_PROVED
    first_holds: tuple[HoldRecord, ...] = ()
    """the open holds of lists that were never published"""
    fleet: FleetView | None = None
    """all daemons on this catalog; None on one machine"""

    def first_holds_of(self, source: str) -> tuple[HoldRecord, ...]:
        """Return the open holds of a source's lists that were never published."""
        return tuple(hold for hold in self.first_holds if hold.source == source)

    @property
    def waiting(self) -> tuple[SourceView, ...]:
        """Configured sources without a published list."""
        published = {view.head.source for view in self.lists if not view.over}
        return tuple(source for source in self.sources if source.configured and source.name not in published)

    @property
    def source_faults(self) -> tuple[SourceFault, ...]:
        """Faults and holds that no published list shows, of configured sources with a published list."""
        waiting = {source.name for source in self.waiting}
        followed = (source for source in self.sources if source.configured and source.name not in waiting)
        return tuple(found for source in followed for found in self._faults_beside_lists(source))

    def _faults_beside_lists(self, source: SourceView) -> Iterator[SourceFault]:
        holds: dict[str, tuple[HoldRecord, ...]] = {}
        for hold in self.first_holds_of(source.name):
            holds[hold.list] = (*holds.get(hold.list, ()), hold)
        for name, fault in source.last.reported_faults.items() if source.last else ():
            ended = name and fault.outcome is Outcome.HELD and name not in holds
            if not ended and not self._is_shown(source, name, fault):
                yield SourceFault(source, name, fault, holds.pop(name, ()))
        for name, left in holds.items():  # a later sync may have failed, so that the last one does not report them
            yield SourceFault(source, name, SyncFault(Outcome.HELD, reasons_of(left)), left)

    def _is_shown(self, source: SourceView, name: str, fault: SyncFault) -> bool:
        lists = (view for view in self.lists if view.head.source == source.name)
        return any(view.fault == fault if name == "" else view.head.list == name for view in lists)
