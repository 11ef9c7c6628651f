"""The document that ``syncd status --json`` prints, as types. `syncd.report.status` fills it in."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from syncd.units import stamp

Time = Annotated[datetime, PlainSerializer(stamp), WithJsonSchema({"type": "string", "format": "date-time"})]
"""UTC, in whole seconds."""


_SECTION: Final = "section of the runbook in docs/operations.md: the name of an alert, or `alerts`"
Section = Annotated[str, Field(description=_SECTION)]
SectionOfAct = Annotated[str | None, Field(description=f"{_SECTION}; null: nobody has to act")]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SyncStatus(_Document):
    """The last sync that ended, except dry runs."""

    sync_id: str
    started_at: Time
    finished_at: Time | None
    outcome: str = Field(description="published, up_to_date, held, rejected, unreachable, refused, failed, ...")
    reason: str = Field(description="all reasons as one text")
    reasons: tuple[str, ...] = Field(description="why it was held, or the kind of the error")
    message: str
    bytes: int = Field(description="of response bodies received from the source, used or not")


class RunningStatus(_Document):
    """The running sync. Until it ends, everything is judged by the one before."""

    sync_id: str
    started_at: Time
    dry_run: bool


class FaultStatus(_Document):
    """A fault in the last sync of a source that none of its published lists shows."""

    list: str | None = Field(description="a list that was never published; null: the whole sync")
    outcome: str
    act: str = Field(description="why a person must act")
    section: Section


class HoldStatus(_Document):
    """One hold that waits for an operator."""

    hold: int = Field(description="the number that `syncd release` and `syncd discard` take")
    lane: str = Field(description="additions, removals, both (a whole update), or suppressions")
    rows: int = Field(description="waiting rows")
    reasons: tuple[str, ...]
    message: str = Field(description="the reasons in words")
    opened_at: Time
    age_seconds: int = Field(description="since opened_at")
    to_do: str


class CanaryStatus(_Document):
    """The canaries of a list, as the last sync found them."""

    must_have: int = Field(description="digests that must be on it")
    missing: int = Field(description="those of them that are not")
    kept_out: dict[str, int] = Field(description="by algorithm: the partner's entries that are known to be good")


class PinStatus(_Document):
    """The older version that a list was rolled back to, and stays at until `syncd unpin`."""

    version: int
    since: Time
    by: str
    reason: str
    exact: bool = Field(description="true: entries that the partner removed since are on it, and removals wait too")


class ListReport(_Document):
    """One published list."""

    list: str
    source: str
    version: int
    rows: int
    serial: int | None = Field(description="the upstream's own number")
    published_at: Time
    verified_at: Time | None = Field(description="when the source was last verified in this state")
    age_seconds: int | None = Field(description="since verified_at; null: never verified, or retired")
    warn_seconds: int | None = Field(
        description="age_seconds from which it needs attention; null: its source is no longer configured"
    )
    limit_seconds: int | None = Field(
        description="age_seconds from which it is stale; null: its source is no longer configured"
    )
    freshness: str | None = Field(description="fresh, warn, stale: age_seconds against these limits; null: retired")
    stale: bool = Field(description="true if freshness is stale: it is no longer kept up to date")
    last_sync: SyncStatus | None = Field(
        description="last sync of its source; outcome, reasons and message are those of this list, with what operators "
        "did since: published if they published its held rows, up_to_date if they discarded them"
    )
    holds: tuple[HoldStatus, ...] = Field(description="open holds, the oldest first")
    act: str | None = Field(description="why a person must act; null: nobody has to")
    section: SectionOfAct
    retired_at: Time | None = Field(description="when it was retired; null: it is published")
    canaries: CanaryStatus | None = Field(description="null: no sync has looked yet")
    pinned: PinStatus | None = Field(description="since it was rolled back; null: it follows its source")


class LateExpiryStatus(_Document):
    """The timestamp of a source, if the expiry that it states is far too late."""

    expires: Time = Field(description="as it states")
    counts_until: Time = Field(description="from then on it is expired, and updates are rejected")
    act: str = Field(description="why a person must act, and what to do")
    section: Section


class SourceStatus(_Document):
    """One configured source, or the source of a published list."""

    source: str
    interval_seconds: float | None = Field(description="between syncs; null: no longer configured")
    next_sync_at: Time | None = Field(description="null: no daemon has planned one")
    cool_down_until: Time | None = Field(
        description="it is not contacted before then, because it was unreachable or asked for it"
    )
    failures: int = Field(description="consecutive syncs that did not reach it")
    verified_at: Time | None = Field(
        description="when a sync last verified all of its followed lists, whether or not it held rows; null: never"
    )
    last_sync: SyncStatus | None
    running: RunningStatus | None
    faults: tuple[FaultStatus, ...] = Field(description="in its last sync, if no published list shows them")
    late_expiry: LateExpiryStatus | None = Field(description="null: its timestamp counts until the expiry it states")


class WaitingStatus(_Document):
    """A configured source without a published list."""

    source: str
    last_sync: SyncStatus | None
    running: RunningStatus | None
    holds: tuple[HoldStatus, ...] = Field(description="the open holds of its first versions")
    act: str | None = Field(description="why a person must end these holds, and how; null: there are none")
    section: Section


class RoleStatus(_Document):
    """One role of the published metadata."""

    role: str
    version: int
    expires: Time
    seconds_left: int
    state: str = Field(
        description="ok, within 60 days, within 30 days, within 7 days, overdue, expired, signed in the future (see "
        "`clock`)"
    )
    act: str | None = Field(description="what a person must sign again, and by when; null: nobody has to")
    section: SectionOfAct


class CertificateStatus(_Document):
    """One certificate that the configuration names."""

    use: str = Field(description="server: shown to matchers; client: shown to a source")
    source: str | None = Field(description="null for the server's certificate")
    expires: Time = Field(description="the earliest expiry in its chain")
    seconds_left: int
    state: str = Field(description="ok, within 7 days, expired, not yet valid")
    act: str | None = Field(description="why a person must act, and what to do; null: nobody has to")
    section: SectionOfAct


class LaggardStatus(_Document):
    """One process or host of a matcher that is behind or silent."""

    instance: str
    seen_at: Time = Field(description="time of its last check-in")
    act: str = Field(description="why a person should look")


class MatcherStatus(_Document):
    """One matcher with a valid token; `syncd matchers --json` has each of its instances."""

    matcher: str
    lists: tuple[str, ...] | None = Field(description="lists that it may pull; null: all")
    created_at: Time
    seen_at: Time | None = Field(description="time of the last check-in of any instance")
    instances: int
    behind: int = Field(description="instances that lack a version that is due")
    silent: int = Field(description="instances that missed their check-ins")
    lagging: int = Field(description="instances that are either, or both")
    level: str = Field(description="none, info, warning, critical: the severity of its alert")
    act: str | None = Field(description="why a person should look; null: nobody needs to")
    section: SectionOfAct
    laggards: tuple[LaggardStatus, ...] = Field(description="the first 20 of them")


class StorageFaultStatus(_Document):
    """A storage failure that currently affects the daemon."""

    what: str = Field(description="sync of SOURCE, timestamp, or a chore of the daemon")
    since: Time = Field(description="when it first failed; it has not succeeded since")
    message: str = Field(description="of the last time")
    to_do: str
    section: Section


class ExpiringStatus(_Document):
    """One suppression that expires within three days."""

    suppression: int
    list: str | None = Field(description="the list that it is for; null: all lists")
    one_entry: bool = Field(description="true: only one entry of the digest; false: every entry")
    rows: int = Field(description="entries that it took off when it was made")
    reason: str
    author: str
    expires_at: Time
    act: str = Field(description="why a person should decide, and what keeps it in force")
    section: Section


class SuppressionCount(_Document):
    """The suppressions in force that are for one list, or for all."""

    list: str | None = Field(description="null: all lists")
    in_force: int


class SuppressionsStatus(_Document):
    """The operator's own corrections. No digest is ever shown."""

    in_force: int
    lists: tuple[SuppressionCount, ...] = Field(description="the same, by the list that they are for")
    expiring: int = Field(description="those that expire within three days")
    soonest: tuple[ExpiringStatus, ...] = Field(description="the first 20 of them")


class FutureTimeStatus(_Document):
    """One time of the state that lies in the future."""

    what: str = Field(description="the signature of ROLE, the verification of LIST, the clock floor of source NAME")
    at: Time
    seconds: int = Field(description="how far it lies in the future")


class ClockStatus(_Document):
    """Times of the state that lie in the future: a clock was ahead when they were written, or is behind now."""

    ahead_seconds: int = Field(description="how far the latest of them lies in the future; 0: none does")
    times: tuple[FutureTimeStatus, ...] = Field(description="the furthest first")
    act: str | None = Field(description="why a person must act, and what to do; null: nobody has to")
    section: SectionOfAct


class FileFaultStatus(_Document):
    """A fault in the files of a list."""

    list: str
    message: str
    to_do: str
    section: Section


class FilesStatus(_Document):
    """The files of published lists and of the private history, which the daemon proves again once a day."""

    proved_at: Time | None = Field(description="when they were last all read and proved; null: not yet")
    running_since: Time | None = Field(description="when the running pass began; null: none is running")
    act: str | None = Field(description="the warning if the last pass is too old, and what to do; null: it is not")
    section: SectionOfAct
    faults: tuple[FileFaultStatus, ...] = Field(description="faults found then or since, and not repaired yet")
    history: tuple[FileFaultStatus, ...] = Field(
        description="damaged files of the private history: their content is lost unless a backup has them"
    )


class LeaderStatus(_Document):
    """The daemon that syncs and publishes."""

    host: str
    since: Time
    seconds: int = Field(description="for which it has led")
    epoch: int = Field(description="rises with every change of the leader")


class DaemonStatus(_Document):
    """One of several daemons."""

    host: str
    pid: int
    version: str = Field(description="of syncd")
    started_at: Time
    role: str = Field(description="leader, standby, unable (it serves and cannot lead), silent (not seen for a minute)")
    seen_seconds: int = Field(description="since it last described itself, which it does every five seconds")
    lag_seconds: int = Field(description="for which the version that it serves has been replaced; 0: it is the newest")
    unable: str | None = Field(description="why it cannot lead; null: it can")
    answers: bool = Field(description="true: it made this report")


class FleetFaultStatus(_Document):
    """Why a person must act on the daemons."""

    act: str = Field(description="where, why, and what to do")
    urgent: bool = Field(description="true: now")
    section: Section


class FleetStatus(_Document):
    """The daemons that share a catalog."""

    leader: LeaderStatus | None = Field(description="null: none leads now")
    daemons: tuple[DaemonStatus, ...] = Field(description="those seen in the last day, by host")
    faults: tuple[FleetFaultStatus, ...] = Field(description="the urgent ones first")


class StatusDocument(_Document):
    """The state of everything."""

    at: Time
    lists: tuple[ListReport, ...]
    not_published: tuple[WaitingStatus, ...]
    sources: tuple[SourceStatus, ...]
    metadata: tuple[RoleStatus, ...]
    certificates: tuple[CertificateStatus, ...] = Field(description="those that can be read")
    matchers: tuple[MatcherStatus, ...]
    storage_faults: tuple[StorageFaultStatus, ...] = Field(
        description="storage failures of the running daemon; empty without a daemon"
    )
    suppressions: SuppressionsStatus
    clock: ClockStatus
    files: FilesStatus
    fleet: FleetStatus | None = Field(description="null: no other daemon shares the catalog")
    daemon: str = Field(
        description="running: it made this report; not running, not answering: `syncd status` read it from the state"
    )
