"""Every event that the daemon logs: a closed set, one class each. ``docs/events.md`` explains them.

No event ever holds a digest, an entry id or a token; no field is free text of a partner but the messages of errors,
which hold none of these either.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from syncd.errors import SyncdError, kind_of
from syncd.event import Event, FaultEvent, SyncEnded, SyncEvent
from syncd.outcomes import Level


@dataclass(frozen=True)
class DaemonStarted(Event):
    """The daemon holds the state; syncs that a kill cut short are marked, commits that it left are installed."""

    version: str
    pid: int
    state_dir: str
    sources: tuple[str, ...]
    interrupted_syncs: int


@dataclass(frozen=True)
class DaemonReady(Event):
    """Schedules run, and the control socket answers."""

    control_socket: str


@dataclass(frozen=True)
class DaemonStopping(Event):
    """Asked to stop: no sync begins any more."""

    signal: str
    running: tuple[str, ...]
    """sources whose sync is under way"""


@dataclass(frozen=True)
class DaemonStopped(Event):
    """The last event. What was not finished is taken up by the next start."""

    unfinished: tuple[str, ...]


@dataclass(frozen=True)
class ConfigReloaded(Event):
    """The configuration was read again and is in force."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """``source.key``"""


@dataclass(frozen=True)
class ConfigRejected(FaultEvent):
    """The configuration was read again, is wrong, and nothing of it is in force: the one before stays."""


@dataclass(frozen=True)
class SyncScheduled(Event):
    """When a source is due next."""

    source: str
    next_run_at: datetime
    why: str
    """``start``, ``stored`` or ``cool_down``"""


@dataclass(frozen=True)
class SyncStarted(SyncEvent):
    """A sync began."""

    asked_by: str
    """``schedule``, or the user at the control socket"""
    dry_run: bool


@dataclass(frozen=True)
class SyncJoined(SyncEvent):
    """Somebody asked for a sync that is under way already, and waits for that one."""

    asked_by: str


@dataclass(frozen=True)
class ListSynced(SyncEnded):
    """What came of one list."""

    list: str
    version: int | None
    serial: int | None
    plan: str
    added: int
    removed: int
    relabelled: int
    rows: int
    reason: str
    """all ``reasons`` as one text"""
    reasons: tuple[str, ...]
    message: str
    to_do: str


@dataclass(frozen=True)
class HoldOpened(Event):
    """Rows of an update wait for an operator from now on."""

    level = Level.ERROR
    hold: int
    source: str
    list: str
    lane: str
    """``additions``, ``removals`` or ``both``"""
    rows: int
    reasons: tuple[str, ...]
    message: str
    to_do: str
    sync_id: str
    """of the sync that opened it"""


@dataclass(frozen=True)
class HoldEnded(Event):
    """A hold waits no more."""

    hold: int
    source: str
    list: str
    lane: str
    rows: int
    ended: str
    """``released``, ``discarded``, ``withdrawn``, ``passed`` or ``replaced``"""
    by: str
    """the user who released or discarded it; empty: nobody did"""
    reason: str
    """what that user gave for it"""


@dataclass(frozen=True)
class SyncFinished(SyncEnded):
    """What came of the whole sync."""

    seconds: float
    bytes: int
    message: str
    to_do: str


@dataclass(frozen=True)
class CoolDown(SyncEvent):
    """A source could not be reached, or asked for patience, and is left alone for a while."""

    level = Level.WARNING
    until: datetime
    failures: int
    """in a row"""


@dataclass(frozen=True)
class WorkerKilled(SyncEvent):
    """The process that fetched and staged did not end by its deadline."""

    level = Level.ERROR
    pid: int
    seconds: float


@dataclass(frozen=True)
class TimestampSigned(Event):
    """Our own timestamp was an hour old and was signed anew."""


@dataclass(frozen=True)
class TimestampNotSigned(FaultEvent):
    """Our own timestamp could not be signed anew; it is tried again every minute."""


@dataclass(frozen=True)
class ClockSetBack(Event):
    """This host's clock was set back: what was planned comes as much earlier by the new time."""

    level = Level.WARNING
    seconds: float


@dataclass(frozen=True)
class ControlRefused(Event):
    """A request at the control socket was refused."""

    level = Level.WARNING
    asked_by: str
    message: str


@dataclass(frozen=True)
class InternalError(Event):
    """A bug, or storage that fails: the daemon goes on.

    The words of a bug may hold what the lists hold, so only kind and place are told; those of our own errors do not.
    """

    level = Level.ERROR
    kind: str
    where: str
    message: str = ""
    to_do: str = ""

    @classmethod
    def of(cls, error: BaseException, where: str) -> Self:
        """What of an error may be told."""
        if isinstance(error, SyncdError):
            return cls(kind_of(error), where, error.message, error.hint)
        return cls(type(error).__name__, where)


@dataclass(frozen=True)
class StorageFailed(FaultEvent):
    """Storage kept something from being done, or from being recorded; it is tried again. Told every ten minutes."""

    what: str
    """``sync of SOURCE``, or the name of a chore"""


@dataclass(frozen=True)
class StorageRecovered(Event):
    """What storage had kept from being done was done."""

    what: str


@dataclass(frozen=True)
class HttpListening(Event):
    """The HTTP side answers."""

    address: str


@dataclass(frozen=True)
class ConnectionsFull(Event):
    """There are as many connections as allowed, or as the system gives: others are refused. Told once a minute."""

    level = Level.WARNING
    max_connections: int


@dataclass(frozen=True)
class CertificateReloaded(Event):
    """The certificate files had changed and are in force."""


@dataclass(frozen=True)
class CertificateRejected(FaultEvent):
    """The certificate files have changed and cannot be used: those before stay in force."""


@dataclass(frozen=True)
class CertificateNotValid(FaultEvent):
    """The certificate in force has expired, or is not valid yet: clients refuse it. Told once, and at each start."""


@dataclass(frozen=True)
class StateProved(Event):
    """What is stored is what was signed: manifests, and the segments that they name, in full length."""

    lists: int


@dataclass(frozen=True)
class StateNotProved(Event):
    """What is stored of a list is not what was signed. What can be read is served; matchers verify for themselves."""

    level = Level.ERROR
    list: str
    """empty: the metadata, and so every list"""
    message: str
    to_do: str


@dataclass(frozen=True)
class ListRetired(Event):
    """A list is no longer published: an operator ended it."""

    list: str
    source: str
    version: int
    """the one that says so"""
    asked_by: str
    reason: str


@dataclass(frozen=True)
class MatcherAdded(Event):
    """A matcher may pull from now on."""

    matcher: str
    lists: tuple[str, ...]
    """none named: all"""
    asked_by: str


@dataclass(frozen=True)
class MatcherRevoked(Event):
    """A matcher may pull no more; its streams end at once."""

    matcher: str
    asked_by: str


@dataclass(frozen=True)
class DashboardSignedIn(Event):
    """Somebody signed in to the dashboard with the operator token."""

    peer: str
    """the address it came from; a proxy's where one stands before us"""


@dataclass(frozen=True)
class DashboardRefused(Event):
    """Somebody tried to, with another token."""

    level = Level.WARNING
    peer: str


EVENTS: tuple[type[Event], ...] = tuple(
    one
    for one in list(globals().values())
    if isinstance(one, type) and issubclass(one, Event) and one.__module__ == __name__
)
"""All of them."""
