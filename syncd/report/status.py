"""The status document: what ``syncd status --json`` prints and ``/api/v1/status`` answers.

Its JSON Schema is ``docs/status.schema.json``. Keys are only ever added.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from syncd.catalog.records import HoldRecord, SyncFault, SyncRecord
from syncd.certificates import CertificateView
from syncd.outcomes import Outcome, cure, joined, reasons_in_words
from syncd.report.expiry import Expiry
from syncd.report.faults import StorageFault
from syncd.report.lagging import InstanceView, MatcherView
from syncd.report.overview import ListView, Overview, SourceView, Untold
from syncd.units import stamp

Time = Annotated[datetime, PlainSerializer(stamp), WithJsonSchema({"type": "string", "format": "date-time"})]
"""UTC, in whole seconds."""
_NAMED: Final = 20


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SyncStatus(_Document):
    """The last sync that ended, dry runs apart."""

    sync_id: str
    started_at: Time
    finished_at: Time | None
    outcome: str = Field(description="published, up_to_date, held, rejected, unreachable, refused, failed, ...")
    reason: str = Field(description="all reasons as one text")
    reasons: tuple[str, ...] = Field(description="why it was held, or the kind of the error")
    message: str
    bytes: int = Field(description="of bodies received from the source, whatever became of them")


class RunningStatus(_Document):
    """The sync under way; until it ends, all is judged by the one before."""

    sync_id: str
    started_at: Time
    dry_run: bool


class FaultStatus(_Document):
    """A fault in the last sync of a source that none of its published lists tells."""

    list: str | None = Field(description="one that was never published; null: the whole sync")
    outcome: str
    act: str = Field(description="why a person must act")


class HoldStatus(_Document):
    """One hold that waits for an operator."""

    hold: int = Field(description="the number that `syncd release` and `syncd discard` take")
    lane: str = Field(description="additions, removals, or both: a whole update")
    rows: int = Field(description="that wait")
    reasons: tuple[str, ...]
    message: str = Field(description="the reasons in words")
    opened_at: Time
    age_seconds: int = Field(description="since opened_at")
    to_do: str


class ListReport(_Document):
    """One published list."""

    list: str
    source: str
    version: int
    rows: int
    serial: int | None = Field(description="the upstream's own number")
    published_at: Time
    verified_at: Time | None = Field(description="when the source was last proved to be in this state")
    age_seconds: int | None = Field(description="since verified_at; null: never verified, or retired")
    limit_seconds: int | None = Field(description="how large that may be; null: its source is no longer configured")
    stale: bool = Field(description="whether nobody keeps it up to date any more")
    last_sync: SyncStatus | None = Field(description="of its source; outcome, reasons and message are the list's own")
    holds: tuple[HoldStatus, ...] = Field(description="those that wait for an operator, the oldest first")
    act: str | None = Field(description="why a person must act; null: nobody must")
    retired_at: Time | None = Field(description="since when it is no longer published; null: it is")


class SourceStatus(_Document):
    """One configured source, or one that published lists came from."""

    source: str
    interval_seconds: float | None = Field(description="between syncs; null: no longer configured")
    next_sync_at: Time | None = Field(description="null: no daemon has planned one")
    cool_down_until: Time | None = Field(description="it is left alone until then, since it could not be reached")
    failures: int = Field(description="syncs in a row that did not reach it")
    verified_at: Time | None = Field(description="when a sync last verified all that is followed of it; null: never")
    last_sync: SyncStatus | None
    running: RunningStatus | None
    faults: tuple[FaultStatus, ...] = Field(description="in its last sync, where no published list tells them")


class WaitingStatus(_Document):
    """A configured source of which nothing is published yet."""

    source: str
    last_sync: SyncStatus | None
    running: RunningStatus | None


class RoleStatus(_Document):
    """One role of the published metadata."""

    role: str
    version: int
    expires: Time
    seconds_left: int
    state: str = Field(description="ok, within 60 days, within 30 days, within 7 days, overdue, expired")
    act: str | None = Field(description="what a person must sign anew, and by when; null: nobody must")


class CertificateStatus(_Document):
    """One certificate that the configuration names."""

    use: str = Field(description="server: what matchers see; client: what a source sees")
    source: str | None = Field(description="null: it is the server's")
    expires: Time = Field(description="the soonest of its chain")
    seconds_left: int
    state: str = Field(description="ok, within 7 days, expired, not yet valid")
    act: str | None = Field(description="why a person must act, and what to do; null: nobody must")


class LaggardStatus(_Document):
    """One process or host of a matcher that is behind or silent."""

    instance: str
    seen_at: Time = Field(description="when it was heard of last")
    act: str = Field(description="why somebody should look")


class MatcherStatus(_Document):
    """One matcher whose token is in force; `syncd matchers --json` has each of its instances."""

    matcher: str
    lists: tuple[str, ...] | None = Field(description="which it may pull; null: all")
    created_at: Time
    seen_at: Time | None = Field(description="when any instance of it was heard of last")
    instances: int
    behind: int = Field(description="instances that lack a version that they should have by now")
    silent: int = Field(description="instances that were not heard of for long")
    lagging: int = Field(description="instances that are either, or both")
    laggards: tuple[LaggardStatus, ...] = Field(description="the first 20 of them")


class StorageFaultStatus(_Document):
    """Something that storage keeps the daemon from doing."""

    what: str = Field(description="sync of SOURCE, timestamp, or a chore of the daemon")
    since: Time = Field(description="when it failed first; it has not succeeded since")
    message: str = Field(description="of the last time")
    to_do: str


class StatusDocument(_Document):
    """How everything stands."""

    at: Time
    lists: tuple[ListReport, ...]
    not_published: tuple[WaitingStatus, ...]
    sources: tuple[SourceStatus, ...]
    metadata: tuple[RoleStatus, ...]
    certificates: tuple[CertificateStatus, ...] = Field(description="those that can be read")
    matchers: tuple[MatcherStatus, ...]
    storage_faults: tuple[StorageFaultStatus, ...] = Field(
        description="what storage keeps the running daemon from doing or recording; without a daemon empty"
    )


def status_document(found: Overview) -> StatusDocument:
    """What was found, as a document."""
    return StatusDocument(
        at=found.now,
        lists=tuple(_list(one) for one in found.lists),
        not_published=tuple(_waiting(one) for one in found.waiting),
        sources=tuple(_source(one, found.untold) for one in found.sources),
        metadata=tuple(_role(one) for one in found.roles),
        certificates=tuple(_certificate(one) for one in found.certificates),
        matchers=tuple(_matcher(one, found.now) for one in found.matchers),
        storage_faults=tuple(_storage_fault(one) for one in found.faults),
    )


def _list(one: ListView) -> ListReport:
    return ListReport(
        list=one.head.list,
        source=one.head.source,
        version=one.head.version,
        rows=one.rows,
        serial=one.head.origin_serial,
        published_at=one.head.published_at,
        verified_at=one.origin.verified_at if one.origin else None,
        age_seconds=_seconds(one.age),
        limit_seconds=_seconds(one.source.patience),
        stale=one.stale,
        last_sync=_sync_of(one),
        holds=tuple(_hold(hold, one.now) for hold in one.holds),
        act=(f"{one.why}: {one.cure}" if one.cure else one.why) or None,
        retired_at=one.head.retired_at,
    )


def _hold(one: HoldRecord, now: datetime) -> HoldStatus:
    return HoldStatus(
        hold=one.id,
        lane=one.lane,
        rows=one.rows,
        reasons=one.reasons,
        message=reasons_in_words(one.reasons),
        opened_at=one.opened_at,
        age_seconds=int((now - one.opened_at).total_seconds()),
        to_do=cure(one.reasons, (one.id,)),
    )


def _waiting(one: SourceView) -> WaitingStatus:
    return WaitingStatus(source=one.name, last_sync=_sync(one.last), running=_running(one.running))


def _source(one: SourceView, untold: Iterable[Untold]) -> SourceStatus:
    return SourceStatus(
        source=one.name,
        interval_seconds=one.interval.total_seconds() if one.interval is not None else None,
        next_sync_at=one.next_run_at,
        cool_down_until=one.cool_down_until,
        failures=one.failures,
        verified_at=one.last_success_at,
        last_sync=_sync(one.last),
        running=_running(one.running),
        faults=tuple(_fault(each) for each in untold if each.source is one),
    )


def _running(sync: SyncRecord | None) -> RunningStatus | None:
    if sync is None:
        return None
    return RunningStatus(sync_id=sync.id, started_at=sync.started_at, dry_run=sync.dry_run)


def _fault(one: Untold) -> FaultStatus:
    return FaultStatus(list=one.list or None, outcome=one.fault.outcome, act=one.why)


def _role(one: Expiry) -> RoleStatus:
    return RoleStatus(
        role=one.role,
        version=one.version,
        expires=one.expires,
        seconds_left=int(one.left.total_seconds()),
        state=one.urgency,
        act=one.warning,
    )


def _certificate(one: CertificateView) -> CertificateStatus:
    return CertificateStatus(
        use=one.certificate.use,
        source=one.certificate.source or None,
        expires=one.period.ends,
        seconds_left=int(one.left.total_seconds()),
        state=one.validity,
        act=f"{one.why}: {one.to_do}" if one.why else None,
    )


def _matcher(one: MatcherView, now: datetime) -> MatcherStatus:
    return MatcherStatus(
        matcher=one.matcher.name,
        lists=one.matcher.lists,
        created_at=one.matcher.created_at,
        seen_at=one.seen_at,
        instances=len(one.instances),
        behind=sum(each.behind for each in one.instances),
        silent=sum(each.silent for each in one.instances),
        lagging=len(one.laggards),
        laggards=tuple(_laggard(each, now) for each in one.laggards[:_NAMED]),
    )


def _laggard(one: InstanceView, now: datetime) -> LaggardStatus:
    return LaggardStatus(instance=one.name, seen_at=one.seen_at, act=one.why(now))


def _sync_of(one: ListView) -> SyncStatus | None:
    """The last sync, as far as the list is concerned."""
    last, fault = one.source.last, one.fault or SyncFault(one.outcome or Outcome.UP_TO_DATE)
    if last is None or one.over:
        return None
    return _sync(replace(last, outcome=fault.outcome, reasons=fault.reasons, message=fault.message))


def _storage_fault(one: StorageFault) -> StorageFaultStatus:
    return StorageFaultStatus(what=one.what, since=one.since, message=one.message, to_do=one.to_do)


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
