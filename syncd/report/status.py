"""The status document of ``syncd status --json`` and ``/api/v1/status``.

Its JSON Schema is ``docs/status.schema.json``. Keys are only ever added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.decisions import CanaryNote, HoldRecord
from syncd.catalog.records import SyncFault, SyncRecord
from syncd.certificates import CertificateView, Validity
from syncd.clock import ClockFault
from syncd.feed.proof_record import FoundFault, HistoryFault
from syncd.outcomes import Outcome, cure, joined
from syncd.report import runbook
from syncd.report.expiry import OF_OPERATORS, Expiry
from syncd.report.fleet import DaemonView, FleetView
from syncd.report.holds import hold_in_words
from syncd.report.judged import ListView, Overview, SourceFault, SourceView
from syncd.report.lagging import MatcherView
from syncd.report.pins import PinView
from syncd.report.proof import ProofView
from syncd.report.status_types import (
    CanaryStatus,
    CertificateStatus,
    ClockStatus,
    DaemonStatus,
    ExpiringStatus,
    FaultStatus,
    FileFaultStatus,
    FilesStatus,
    FleetFaultStatus,
    FleetStatus,
    FutureTimeStatus,
    HoldStatus,
    LaggardStatus,
    LateExpiryStatus,
    LeaderStatus,
    ListReport,
    MatcherStatus,
    PinStatus,
    RoleStatus,
    RunningStatus,
    SourceStatus,
    StatusDocument,
    StorageFaultStatus,
    SuppressionCount,
    SuppressionsStatus,
    SyncStatus,
    WaitingStatus,
)
from syncd.report.suppressions import SuppressionsView, keep, why_soon
from syncd.trust.overlong import TO_DO, LateExpiry

_NAMED: Final = 20


def status_document(overview: Overview) -> StatusDocument:
    """Return an overview as a document."""
    return StatusDocument(
        at=overview.now,
        lists=tuple(_list(view) for view in overview.lists),
        not_published=tuple(
            _waiting(source, overview.first_holds_of(source.name), overview.now) for source in overview.waiting
        ),
        sources=tuple(_source(source, overview.source_faults) for source in overview.sources),
        metadata=tuple(_role(expiry) for expiry in overview.roles),
        certificates=tuple(_certificate(view) for view in overview.certificates),
        matchers=tuple(_matcher(view, overview.now) for view in overview.matchers),
        storage_faults=tuple(
            StorageFaultStatus(
                what=fault.what, since=fault.since, message=fault.message, to_do=fault.to_do, section=fault.section
            )
            for fault in overview.faults
        ),
        suppressions=_suppressions(overview.suppressions, overview.now),
        clock=_clock(overview.clock),
        files=_files(overview.proof, overview.now),
        fleet=_fleet(overview.fleet),
        daemon="running",  # `syncd status` overwrites this if it read the state itself
    )


def _fleet(view: FleetView | None) -> FleetStatus | None:
    if view is None:
        return None
    since = view.leads_since
    return FleetStatus(
        leader=None
        if since is None
        else LeaderStatus(
            host=view.leader.host, since=since, seconds=int(view.led_for.total_seconds()), epoch=view.leader.epoch
        ),
        daemons=tuple(map(_daemon, view.daemons)),
        faults=tuple(
            FleetFaultStatus(act=fault.act, urgent=fault.urgent, section=fault.section) for fault in view.faults
        ),
    )


def _daemon(view: DaemonView) -> DaemonStatus:
    return DaemonStatus(
        host=view.record.host,
        pid=view.record.pid,
        version=view.record.version,
        started_at=view.record.started_at,
        role=view.role,
        seen_seconds=int(view.seen.total_seconds()),
        lag_seconds=int(view.lag.total_seconds()),
        unable=view.record.unable or None,
        answers=view.answers,
    )


def _waiting(source: SourceView, holds: Sequence[HoldRecord], now: datetime) -> WaitingStatus:
    return WaitingStatus(
        source=source.name,
        last_sync=_sync(source.last),
        running=_running(source.running),
        holds=tuple(_hold(hold, now) for hold in holds),
        act="; ".join(f"{hold.list}: {hold_in_words(hold)}" for hold in holds) or None,
        section=source.section(holds),
    )


def _files(proof: ProofView, now: datetime) -> FilesStatus:
    why = proof.why(now)
    return FilesStatus(
        proved_at=proof.proved_at,
        running_since=proof.begun,
        act=f"{why}: {proof.to_do}" if why else None,
        section=runbook.PROOF if why else None,
        faults=tuple(_file_fault(fault, runbook.FILES) for fault in proof.faults),
        history=tuple(_file_fault(fault, runbook.HISTORY) for fault in proof.history),
    )


def _file_fault(fault: FoundFault | HistoryFault, section: str) -> FileFaultStatus:
    return FileFaultStatus(list=fault.list, message=fault.message, to_do=fault.to_do, section=section)


def _clock(fault: ClockFault | None) -> ClockStatus:
    if fault is None:
        return ClockStatus(ahead_seconds=0, times=(), act=None, section=None)
    times = ((reading, int(reading.ahead(fault.now).total_seconds())) for reading in fault.ahead)
    return ClockStatus(
        ahead_seconds=int(fault.furthest.total_seconds()),
        times=tuple(FutureTimeStatus(what=reading.what, at=reading.at, seconds=ahead) for reading, ahead in times),
        act=f"{fault.why}: {fault.to_do}",
        section=runbook.CLOCK,
    )


def _list(view: ListView) -> ListReport:
    limits = view.limits
    return ListReport(
        list=view.head.list,
        source=view.head.source,
        version=view.head.version,
        rows=view.rows,
        serial=view.head.origin_serial,
        published_at=view.head.published_at,
        verified_at=view.origin.verified_at if view.origin else None,
        age_seconds=_seconds(view.age),
        warn_seconds=limits.warn if limits else None,
        limit_seconds=limits.critical if limits else None,
        freshness=view.freshness,
        stale=view.stale,
        last_sync=_sync_of(view),
        holds=tuple(_hold(hold, view.now) for hold in view.holds),
        act=(f"{view.why}: {view.cure}" if view.cure else view.why) or None,
        section=view.section if view.why else None,
        retired_at=view.head.retired_at,
        canaries=_canaries(view.canaries),
        pinned=_pin(view.pin),
    )


def _pin(view: PinView | None) -> PinStatus | None:
    if view is None:
        return None
    return PinStatus(version=view.version, since=view.since, by=view.by, reason=view.pin.reason, exact=view.pin.exact)


def _canaries(note: CanaryNote | None) -> CanaryStatus | None:
    if note is None:
        return None
    kept_out = {str(algorithm): rows for algorithm, rows in note.kept_out.items()}
    return CanaryStatus(must_have=note.must_have, missing=note.missing, kept_out=kept_out)


def _hold(hold: HoldRecord, now: datetime) -> HoldStatus:
    return HoldStatus(
        hold=hold.id,
        lane=hold.lane,
        rows=hold.rows,
        reasons=hold.reasons,
        message=hold.message,
        opened_at=hold.opened_at,
        age_seconds=int((now - hold.opened_at).total_seconds()),
        to_do=cure(hold.reasons, (hold.id,)),
    )


def _suppressions(view: SuppressionsView, now: datetime) -> SuppressionsStatus:
    return SuppressionsStatus(
        in_force=view.number,
        lists=tuple(
            SuppressionCount(list=name, in_force=number)
            for name, number in sorted(view.counts.items(), key=lambda one: one[0] or "")
        ),
        expiring=view.ending,
        soonest=tuple(
            ExpiringStatus(
                suppression=one.id,
                list=one.list,
                one_entry=one.entry is not None,
                rows=one.rows,
                reason=one.reason,
                author=one.author,
                expires_at=one.expires_at or now,
                act=f"{why_soon(one, now)}; {keep(one)}",
                section=runbook.SUPPRESSION,
            )
            for one in view.soon
        ),
    )


def _source(source: SourceView, faults: Iterable[SourceFault]) -> SourceStatus:
    return SourceStatus(
        source=source.name,
        interval_seconds=source.interval.total_seconds() if source.interval is not None else None,
        next_sync_at=source.next_run_at,
        cool_down_until=source.cool_down_until,
        failures=source.failures,
        verified_at=source.last_success_at,
        last_sync=_sync(source.last),
        running=_running(source.running),
        faults=tuple(
            FaultStatus(list=fault.list or None, outcome=fault.fault.outcome, act=fault.why, section=fault.section)
            for fault in faults
            if fault.source is source
        ),
        late_expiry=_late_expiry(source.late_expiry),
    )


def _late_expiry(late: LateExpiry | None) -> LateExpiryStatus | None:
    if late is None:
        return None
    act = f"{late.why}; {TO_DO}"
    return LateExpiryStatus(expires=late.expires, counts_until=late.until, act=act, section=runbook.PARTNER_CLOCK)


def _running(sync: SyncRecord | None) -> RunningStatus | None:
    if sync is None:
        return None
    return RunningStatus(sync_id=sync.id, started_at=sync.started_at, dry_run=sync.dry_run)


def _role(expiry: Expiry) -> RoleStatus:
    return RoleStatus(
        role=expiry.role,
        version=expiry.version,
        expires=expiry.expires,
        seconds_left=int(expiry.left.total_seconds()),
        state=expiry.urgency,
        act=expiry.act(OF_OPERATORS),
        section=expiry.section if expiry.warning else None,
    )


def _certificate(view: CertificateView) -> CertificateStatus:
    return CertificateStatus(
        use=view.certificate.use,
        source=view.certificate.source or None,
        expires=view.period.ends,
        seconds_left=int(view.left.total_seconds()),
        state=view.validity,
        act=f"{view.why}: {view.to_do}" if view.why else None,
        section=runbook.of_certificate(early=view.validity is Validity.EARLY) if view.why else None,
    )


def _matcher(view: MatcherView, now: datetime) -> MatcherStatus:
    return MatcherStatus(
        matcher=view.matcher.name,
        lists=view.matcher.lists,
        created_at=view.matcher.created_at,
        seen_at=view.seen_at,
        instances=len(view.instances),
        behind=sum(instance.behind for instance in view.instances),
        silent=sum(instance.silent for instance in view.instances),
        lagging=len(view.laggards),
        level=view.level,
        act=view.why(now) or None,
        section=view.section(silent=not view.late(silent=False)) if view.laggards else None,
        laggards=tuple(
            LaggardStatus(instance=instance.name, seen_at=instance.seen_at, act=instance.why(now))
            for instance in view.laggards[:_NAMED]
        ),
    )


def _sync_of(view: ListView) -> SyncStatus | None:
    """Return the last sync of a list's source, with the outcome and reasons of this list."""
    last, fault = view.source.last, view.fault or SyncFault(view.outcome or Outcome.UP_TO_DATE)
    if last is None or view.over:
        return None
    return _sync(replace(last, outcome=fault.outcome, reasons=fault.reasons, message=fault.message))


def _sync(last: SyncRecord | None) -> SyncStatus | None:
    if last is None:
        return None
    return SyncStatus(
        sync_id=last.id,
        started_at=last.started_at,
        finished_at=last.finished_at,
        outcome=last.outcome,
        reason=joined(last.reasons),
        reasons=last.reasons,
        message=last.message,
        bytes=last.bytes,
    )


def _seconds(age: timedelta | None) -> int | None:
    return int(age.total_seconds()) if age is not None else None
