"""The events that the daemon logs: a closed set, one class each. ``docs/events.md`` explains them.

No event ever holds a digest, an entry id or a token. The only free text from a partner is in the messages of errors,
which hold none of these either.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from syncd.errors import SyncdError, UnexpectedError, kind_of
from syncd.event import Event, FaultEvent, HoldEvent, SyncEnded, SyncEvent
from syncd.outcomes import Level


@dataclass(frozen=True)
class DaemonStarted(Event):
    """The daemon has locked the state, marked interrupted syncs and installed pending commits."""

    version: str
    pid: int
    state_dir: str
    sources: tuple[str, ...]
    interrupted_syncs: int


@dataclass(frozen=True)
class DaemonReady(Event):
    """The schedule runs and the control socket answers."""

    control_socket: str


@dataclass(frozen=True)
class DaemonStopping(Event):
    """The daemon was asked to stop and starts no more syncs."""

    signal: str
    running: tuple[str, ...]
    """sources with a running sync"""


@dataclass(frozen=True)
class DaemonStopped(Event):
    """The last event of a daemon. The next start continues unfinished work."""

    unfinished: tuple[str, ...]


@dataclass(frozen=True)
class LeadingBegan(Event):
    """Of the daemons that share a catalog, this one now syncs and publishes."""

    epoch: int
    host: str


@dataclass(frozen=True)
class LeadingEnded(Event):
    """This daemon no longer leads: another one does, or will."""

    level = Level.WARNING
    epoch: int
    why: str


@dataclass(frozen=True)
class CannotLead(FaultEvent):
    """This daemon cannot lead, or could not reach the catalog to find out. It tries again every few seconds."""


@dataclass(frozen=True)
class ConfigReloaded(Event):
    """The configuration was reloaded and is in effect."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """``source.key``, ``serve.key``, ``operators.name``, ``dashboard.key`` or ``retention.key``"""


@dataclass(frozen=True)
class ConfigRejected(FaultEvent):
    """The reloaded configuration is wrong. The previous one stays in effect."""


@dataclass(frozen=True)
class SyncScheduled(Event):
    """The next sync of a source was scheduled."""

    source: str
    next_run_at: datetime
    why: str
    """``start``, ``stored`` or ``cool_down``"""


@dataclass(frozen=True)
class SyncStarted(SyncEvent):
    """A sync started."""

    asked_by: str
    """``schedule``, or the user at the control socket"""
    dry_run: bool


@dataclass(frozen=True)
class SyncJoined(SyncEvent):
    """A requested sync was already running; the request waits for it."""

    asked_by: str


@dataclass(frozen=True)
class ListSynced(SyncEnded):
    """The sync of one list ended."""

    list: str
    version: int | None
    serial: int | None
    plan: str
    added: int
    removed: int
    relabelled: int
    rows: int
    reason: str
    """all ``reasons`` joined into one text"""
    reasons: tuple[str, ...]
    message: str
    to_do: str
    known_good: int = 0
    """rows of the update that are kept out because they are known to be good"""


@dataclass(frozen=True)
class CanaryMissing(SyncEvent):
    """A published list lacks digests that must be on it, more of them than after the last sync."""

    level = Level.ERROR
    list: str
    missing: int
    must_have: int
    """digests that must be on it"""
    to_do: str


@dataclass(frozen=True)
class CanaryFault(FaultEvent):
    """A known-good file cannot be used: its last good reading stays in force. Logged at each sync."""

    sync_id: str
    source: str


@dataclass(frozen=True)
class LateExpiryFound(FaultEvent):
    """A source's new timestamp states an expiry that is far too late, and does not count in full.

    Logged once for each such timestamp.
    """

    sync_id: str
    source: str
    expires: datetime
    """as it states"""
    counts_until: datetime


@dataclass(frozen=True)
class FingerprintsSetAside(Event):
    """A sync could not use some fingerprints or fields of a partner that signs nothing; the rest was used."""

    level = Level.WARNING
    sync_id: str
    source: str
    reason: str
    count: int


@dataclass(frozen=True)
class HoldOpened(HoldEvent):
    """Rows of an update are held and wait for an operator."""

    level = Level.ERROR
    reasons: tuple[str, ...]
    message: str
    to_do: str
    sync_id: str
    """of the sync that opened the hold"""


@dataclass(frozen=True)
class HoldEnded(HoldEvent):
    """A hold ended."""

    ended: str
    """``released``, ``discarded``, ``withdrawn``, ``passed`` or ``replaced``"""
    by: str
    """the user who released or discarded it; empty if no user did"""
    reason: str
    """the reason that this user gave"""


@dataclass(frozen=True)
class HoldWaits(HoldEvent):
    """A hold still waits for an operator. Logged once a day for each, also after a restart."""

    level = Level.ERROR
    opened_at: datetime
    seconds: int
    """since it was opened"""
    message: str
    to_do: str


@dataclass(frozen=True)
class SuppressedEvent(Event):
    """Suppressions came into force: their digests, or entries of them, no longer match."""

    suppressions: str
    """their numbers, such as ``3`` or ``3-14, 20``"""
    lists: tuple[str, ...]
    """the lists with a new version"""
    rows: int
    """entries that were taken off"""
    user: str
    """who asked for them"""
    confirmed_by: str
    """the second operator; empty if none was needed"""
    reason: str
    expires_at: datetime | None
    """null: they do not expire"""


@dataclass(frozen=True)
class UnsuppressedEvent(Event):
    """An operator ended suppressions: entries that the partner still lists match again."""

    suppressions: str
    lists: tuple[str, ...]
    rows: int
    """entries that are listed again"""
    user: str
    reason: str


@dataclass(frozen=True)
class SuppressionExtended(Event):
    """An operator let suppressions expire at another time."""

    suppressions: str
    user: str
    reason: str
    expires_at: datetime | None


@dataclass(frozen=True)
class SuppressionExpiresSoon(Event):
    """A suppression expires within three days. Logged once for each."""

    level = Level.WARNING
    suppression: int
    lists: tuple[str, ...]
    """the list that it is for; empty: all lists"""
    rows: int
    """entries that it took off when it was made"""
    user: str
    reason: str
    expires_at: datetime
    to_do: str


@dataclass(frozen=True)
class SuppressionExpired(Event):
    """Suppressions expired: entries that the partner still lists match again."""

    level = Level.WARNING
    suppressions: str
    lists: tuple[str, ...]
    rows: int
    """entries that are listed again"""
    user: str
    """who made them; several are separated by commas"""
    reason: str
    """the reasons for which they were made; several are separated by semicolons"""


@dataclass(frozen=True)
class SuppressionGainedEntry(Event):
    """The digest of a suppressed entry is listed under another entry too, which still matches."""

    level = Level.WARNING
    suppression: int
    lists: tuple[str, ...]
    """the list that it is for; empty: all lists"""
    rows: int
    user: str
    reason: str
    to_do: str


@dataclass(frozen=True)
class SyncFinished(SyncEnded):
    """A sync ended."""

    seconds: float
    bytes: int
    message: str
    to_do: str


@dataclass(frozen=True)
class CoolDown(SyncEvent):
    """A source was unreachable or asked to be left alone, and is not contacted for a while."""

    level = Level.WARNING
    until: datetime
    failures: int
    """in a row"""


@dataclass(frozen=True)
class WorkerKilled(SyncEvent):
    """The worker process did not end by its deadline and was killed."""

    level = Level.ERROR
    pid: int
    seconds: float


@dataclass(frozen=True)
class TimestampSigned(Event):
    """Our own timestamp was an hour old and was signed again."""


@dataclass(frozen=True)
class TimestampNotSigned(FaultEvent):
    """Our own timestamp could not be signed again. The daemon retries every minute."""


@dataclass(frozen=True)
class ClockSetBack(Event):
    """This host's clock was set back. Planned syncs were moved earlier by the same amount."""

    level = Level.WARNING
    seconds: float


@dataclass(frozen=True)
class ClockAccepted(Event):
    """The present clock was accepted: times in the future were replaced, and the timestamp was signed.

    By an operator, or by `automatic` because the kernel says that the clock is synchronised.
    """

    level = Level.WARNING
    time: str
    sources: tuple[str, ...]
    asked_by: str
    reason: str


@dataclass(frozen=True)
class ControlRefused(Event):
    """A request on the control socket was refused."""

    level = Level.WARNING
    asked_by: str
    message: str


@dataclass(frozen=True)
class InternalError(Event):
    """A bug or a storage failure. The daemon keeps running.

    The message of an unexpected exception may contain list data, so only its kind and place are logged. Messages of
    `SyncdError` contain none and are logged.
    """

    level = Level.ERROR
    kind: str
    where: str
    message: str = ""
    to_do: str = ""
    place: str = ""
    """file and line of a bug that a sync met"""

    @classmethod
    def of(cls, error: BaseException, where: str) -> Self:
        """Build the event of an error, without text that may contain list data."""
        if isinstance(error, UnexpectedError):
            return cls(error.bug, where, place=error.place)
        if isinstance(error, SyncdError):
            return cls(kind_of(error), where, error.message, error.hint)
        return cls(type(error).__name__, where)


@dataclass(frozen=True)
class StorageFailed(FaultEvent):
    """Storage failed during a sync or a chore. The daemon retries; logged every ten minutes."""

    what: str
    """``sync of SOURCE``, or the name of a chore"""


@dataclass(frozen=True)
class StorageRecovered(Event):
    """A sync or a chore that a storage failure had stopped has succeeded."""

    what: str


@dataclass(frozen=True)
class HttpListening(Event):
    """The HTTP server answers."""

    address: str


@dataclass(frozen=True)
class ConnectionsFull(Event):
    """The limit of connections is reached and others are refused. Logged once a minute."""

    level = Level.WARNING
    max_connections: int


@dataclass(frozen=True)
class CertificateReloaded(Event):
    """The certificate files changed and are in use."""


@dataclass(frozen=True)
class CertificateRejected(FaultEvent):
    """The certificate files changed and cannot be used. The previous ones stay in use."""


@dataclass(frozen=True)
class CertificateNotValid(FaultEvent):
    """The certificate in use has expired or is not valid yet, so clients refuse it. Logged once, and at each start."""


@dataclass(frozen=True)
class StateProved(Event):
    """The stored manifests match what was signed, and the segments that they name have their full length."""

    lists: int


@dataclass(frozen=True)
class StateNotProved(Event):
    """Stored files of a list do not match what was signed. Readable files are still served; matchers verify them."""

    level = Level.ERROR
    list: str
    """empty: the metadata is damaged, which affects every list"""
    message: str
    to_do: str


@dataclass(frozen=True)
class HistoryDamaged(Event):
    """A file of the private history is damaged. Its content is lost unless a backup has it; lists are not affected."""

    level = Level.WARNING
    list: str
    message: str
    to_do: str


@dataclass(frozen=True)
class ListRetired(Event):
    """An operator retired a list: it is no longer published."""

    list: str
    source: str
    version: int
    """the version that states the retirement"""
    asked_by: str
    reason: str


@dataclass(frozen=True)
class ListRolledBack(Event):
    """An operator rolled a list back to an older version, and pinned it there."""

    list: str
    version: int
    """its new version; 0: the published content was that already"""
    pinned: int
    """the version that it is pinned to"""
    exact: bool
    asked_by: str
    reason: str


@dataclass(frozen=True)
class ListUnpinned(Event):
    """An operator let a list that was rolled back follow its source again."""

    list: str
    version: int
    """its new version; 0: the published content did not change"""
    asked_by: str
    reason: str


@dataclass(frozen=True)
class OldFilesRemoved(Event):
    """An operator removed old files and records."""

    files: int
    bytes: int
    records: int
    asked_by: str


@dataclass(frozen=True)
class MatcherAdded(Event):
    """A matcher was permitted to pull."""

    matcher: str
    lists: tuple[str, ...]
    """empty: all lists"""
    asked_by: str
    mirror: bool = False
    """True: it is a mirror"""


@dataclass(frozen=True)
class MatcherRevoked(Event):
    """A matcher is no longer permitted to pull. Its streams end at once."""

    matcher: str
    asked_by: str


@dataclass(frozen=True)
class InstancesForgotten(Event):
    """An operator asked to forget instances of a matcher that are gone: they no longer count as silent."""

    matcher: str
    instances: int
    asked_by: str


@dataclass(frozen=True)
class TokenRefused(Event):
    """A request with a wrong token was refused. At most ten a minute from one address: further ones are not read."""

    level = Level.WARNING
    peer: str
    """the client's address, or the proxy's if the server is behind one"""
    route: str
    """such as ``/feed/`` or ``/api/v1/status``; never the client's own text"""


@dataclass(frozen=True)
class DashboardSignedIn(Event):
    """A user signed in to the dashboard with the token of an operator or viewer."""

    operator: str
    """the name in ``[operators.NAME]``; ``operator`` for ``serve.operator_token_file``"""
    peer: str
    """the client's address, or the proxy's if the server is behind one"""


@dataclass(frozen=True)
class DashboardRefused(Event):
    """A sign-in to the dashboard with a wrong token was refused."""

    level = Level.WARNING
    peer: str


@dataclass(frozen=True)
class DashboardActed(Event):
    """An operator acted from the dashboard; the audit log has the reason."""

    act: str
    """such as ``release``, ``discard`` or ``sync``"""
    subject: str
    """the number of the hold, or the name of the source or list; never a digest"""
    operator: str
    peer: str


@dataclass(frozen=True)
class DashboardActRefused(Event):
    """An act from the dashboard was refused, and nothing was changed."""

    level = Level.WARNING
    act: str
    subject: str
    operator: str
    """whose token was typed; empty if the token was not accepted"""
    peer: str
    why: str
    """the kind of error, or ``viewer``, ``stale``; never text that was typed"""


@dataclass(frozen=True)
class MirrorStarted(Event):
    """A mirror (`syncd mirror`) has a state to serve, and begins to serve it and to follow its upstream."""

    version: str
    pid: int
    folder: str


@dataclass(frozen=True)
class MirrorStopped(Event):
    """The last event of a mirror."""


@dataclass(frozen=True)
class MirrorUpdated(Event):
    """A mirror serves another version of a list."""

    list: str
    version: int
    before: int | None
    """the version that it served before; None: none"""
    forked: bool
    """true if the new version does not descend from that one: its signer was restored from a backup"""

    @property
    def importance(self) -> Level:
        """A fork needs a person."""
        return Level.ERROR if self.forked else Level.INFO


@dataclass(frozen=True)
class MirrorNotUpdated(Event):
    """A mirror cannot bring itself up to date, and goes on serving what it has. Logged once for each fault."""

    message: str
    to_do: str
    still_served: str
    rejected: bool
    """true if the upstream's answer was rejected: the same bytes will not get better"""

    @property
    def importance(self) -> Level:
        """A rejected answer needs a person; an upstream that cannot be reached may be back soon."""
        return Level.ERROR if self.rejected else Level.WARNING


@dataclass(frozen=True)
class MirrorRefused(FaultEvent):
    """The upstream refuses the mirror's own token, so the mirror admits nobody any more."""


@dataclass(frozen=True)
class TokensNotConfirmed(FaultEvent):
    """The upstream has not confirmed the tokens in force for a minute; the mirror goes on with those that it knows."""

    seconds: int


@dataclass(frozen=True)
class TokensConfirmed(Event):
    """The upstream confirms the tokens again."""

    admitted: int
    """matchers and mirrors with a token in force"""


EVENTS: tuple[type[Event], ...] = tuple(
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Event) and value.__module__ == __name__
)
"""Every class of event."""
