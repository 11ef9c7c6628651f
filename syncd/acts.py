"""The acts that the audit log records: a closed set, one class each. ``docs/operations.md`` explains them.

An act is named after its class, in lower case with underscores. No act ever holds a digest, an entry id or a token.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from syncd.event import name_of
from syncd.units import count, ranges

AUTOMATIC: Final = "automatic"
"""The actor of everything that syncd does by itself, such as a scheduled sync."""


@dataclass(frozen=True)
class Act:
    """An act of an operator, a matcher or syncd. The audit log records the actor and the time with it."""

    @classmethod
    def name(cls) -> str:
        """Return the act's name in the audit log."""
        return name_of(cls)

    @property
    def words(self) -> str:
        """The act in words, to follow the actor's name."""
        raise NotImplementedError

    def document(self) -> dict[str, JsonValue]:
        """Return the fields as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class SetUp(Act):
    """Set up the state folder (`syncd init`)."""

    folder: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"set up {self.folder}"


@dataclass(frozen=True)
class AskedForSync(Act):
    """Asked for a sync, or joined a running one (`syncd sync`)."""

    source: str
    sync_id: str
    dry_run: bool
    joined: bool
    reason: str = ""
    """given on the dashboard; the command needs none"""

    @property
    def words(self) -> str:
        """See `Act`."""
        kind = "a dry run" if self.dry_run else "a sync"
        asked = f"{'joined' if self.joined else 'asked for'} {kind} of {self.source}"
        return _with_reason(asked, self.reason)


@dataclass(frozen=True)
class Retrusted(Act):
    """Gave a source another trust root (`syncd retrust`)."""

    source: str
    root_version: int
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"trusts {self.source} by root version {self.root_version}: {self.reason}"


@dataclass(frozen=True)
class AcceptedClock(Act):
    """Accepted the present clock after it had been ahead (`syncd clock accept`, or by itself if it is synchronised).

    ``time``: the new clock floor; ``furthest``: the latest of the times that it replaced. Both are UTC.
    """

    time: str
    furthest: str
    sources: tuple[str, ...]
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"accepted the clock as of {self.time}, after times up to {self.furthest}: {self.reason}"


@dataclass(frozen=True)
class ChangedKeys(Act):
    """Changed keys of our own feed, or renewed its root (`syncd feed rotate --state` and similar commands)."""

    folder: str
    did: str
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return _with_reason(self.did, self.reason)


@dataclass(frozen=True)
class AnnouncedKeys(Act):
    """Announced new keys of a role to the daemons on one catalog (`syncd feed rotate --prepare`)."""

    role: str
    keys: tuple[str, ...]
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return _with_reason(f"announced {count(len(self.keys), 'new key')} of {self.role}", self.reason)


@dataclass(frozen=True)
class WithdrewKeys(Act):
    """Withdrew new keys that were announced and never in force (`syncd feed rotate --withdraw`)."""

    role: str
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return _with_reason(f"withdrew the new keys of {self.role}", self.reason)


@dataclass(frozen=True)
class Restored(Act):
    """Resumed work after the catalog was restored from a backup (`syncd recover`).

    ``records`` and ``head`` describe the longest audit chain that the published feed stated at that time. Records
    newer than the backup are lost; `syncd audit verify` reports this once.
    """

    records: int
    head: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"restored the catalog; the feed stated {count(self.records, 'record')}"


@dataclass(frozen=True)
class PublishedAbove(Act):
    """Published every list again under a version above ``above`` (`syncd recover`)."""

    above: int
    lists: int

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"published {count(self.lists, 'list')} again, above version {self.above}"


@dataclass(frozen=True)
class AddedMatcher(Act):
    """Let a matcher or a mirror pull (`syncd matchers add`)."""

    matcher: str
    lists: tuple[str, ...] | None
    """None: all lists"""
    mirror: bool = False

    @property
    def words(self) -> str:
        """See `Act`."""
        lists = "all lists" if self.lists is None else ", ".join(self.lists)
        return f"let {'mirror' if self.mirror else 'matcher'} {self.matcher} pull {lists}"


@dataclass(frozen=True)
class RevokedMatcher(Act):
    """Withdrew a matcher's permission to pull (`syncd matchers revoke`)."""

    matcher: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"revoked matcher {self.matcher}"


@dataclass(frozen=True)
class ForgotInstances(Act):
    """Forgot instances of a matcher that are gone (`syncd matchers forget`)."""

    matcher: str
    instances: int

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"forgot {count(self.instances, 'instance')} of matcher {self.matcher}"


@dataclass(frozen=True)
class Pulled(Act):
    """Files of a list that were sent to a matcher (the actor) in the past hour."""

    list: str
    """``*``: all lists beyond those that are counted separately"""
    manifests: int
    segments: int
    bytes: int

    @property
    def words(self) -> str:
        """See `Act`."""
        files = f"{count(self.manifests, 'manifest')}, {count(self.segments, 'segment')}, {count(self.bytes, 'byte')}"
        return f"pulled {'other lists' if self.list == '*' else self.list}: {files}"


@dataclass(frozen=True)
class OfHold(Act):
    """An act on one hold."""

    hold: str
    list: str
    lane: str
    rows: int


@dataclass(frozen=True)
class Released(OfHold):
    """Released the rows of a hold (`syncd release`)."""

    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"released {count(self.rows, 'row')} ({self.lane}) of {self.list}: {self.reason}"


@dataclass(frozen=True)
class Discarded(OfHold):
    """Discarded the rows of a hold (`syncd discard`)."""

    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"discarded {count(self.rows, 'row')} ({self.lane}) of {self.list}: {self.reason}"


@dataclass(frozen=True)
class Retired(Act):
    """Retired a list (`syncd retire`)."""

    list: str
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"retired {self.list}: {self.reason}"


@dataclass(frozen=True)
class CopiedCatalog(Act):
    """Moved the catalog to another database (`syncd catalog copy`)."""

    place: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"moved the catalog to {self.place}"


@dataclass(frozen=True)
class MovedStore(Act):
    """Moved the published files to another place (`syncd store copy`)."""

    place: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"moved the published files to {self.place}"


@dataclass(frozen=True)
class BackedUpState(Act):
    """Wrote a backup of the state (`syncd backup`)."""

    file: str
    with_keys: bool
    with_segments: bool

    @property
    def words(self) -> str:
        """See `Act`."""
        keys = " with the online keys" if self.with_keys else ""
        lists = "" if self.with_segments else ", without the hash lists"
        return f"wrote a backup{keys} to {self.file}{lists}"


@dataclass(frozen=True)
class WroteRows(Act):
    """Wrote rows of lists to a private file (`syncd diff --out`, `syncd known-good --out`)."""

    list: str
    """``*``: all lists"""
    what: str
    rows: int
    file: str

    @property
    def words(self) -> str:
        """See `Act`."""
        of = "all lists" if self.list == "*" else self.list
        return f"wrote {count(self.rows, 'row')} of {of} ({self.what}) to {self.file}"


@dataclass(frozen=True)
class StartedDaemon(Act):
    """Started the daemon (`syncd run`)."""

    version: str
    sources: tuple[str, ...]

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"started syncd {self.version} with {', '.join(self.sources) or 'no source'}"


@dataclass(frozen=True)
class StoppedDaemon(Act):
    """Stopped the daemon by a signal. A daemon that was killed leaves no such record."""

    signal: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"stopped the daemon ({self.signal})"


@dataclass(frozen=True)
class ReloadedConfiguration(Act):
    """Reloaded the daemon's configuration. Names only: values may be secret."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """``source.key``"""

    @property
    def words(self) -> str:
        """See `Act`."""
        named = ((self.added, "added"), (self.removed, "removed"), (self.changed, "changed"))
        parts = [f"{what} {', '.join(names)}" for names, what in named if names]
        return f"reloaded the configuration: {'; '.join(parts) or 'nothing changed'}"


@dataclass(frozen=True)
class PublishedVersion(Act):
    """Published a version of a list, whatever caused it."""

    list: str
    version: int
    rows: int
    plan: str
    sync_id: str
    """empty: it was not the work of a sync"""

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"published {self.list} version {self.version}: {count(self.rows, 'row')} ({self.plan})"


@dataclass(frozen=True)
class OpenedHold(OfHold):
    """Held rows of a lane for an operator's decision. ``sha256`` identifies exactly these rows."""

    reasons: tuple[str, ...]
    sha256: str

    @property
    def words(self) -> str:
        """See `Act`."""
        reasons = ", ".join(reason.replace("_", " ") for reason in self.reasons)
        return f"held {count(self.rows, 'row')} ({self.lane}) of {self.list} as hold {self.hold}: {reasons}"


@dataclass(frozen=True)
class EndedHold(OfHold):
    """Ended a hold other than by release or discard. ``state``: how it ended."""

    state: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"hold {self.hold} of {self.list} ({self.lane}) ended: {self.state}"


@dataclass(frozen=True)
class Suppressed(Act):
    """Suppressed a digest or one entry of it (`syncd suppress`), at once or for a second operator to confirm."""

    suppression: int
    digest_sha256: str
    """hash of a random salt and the digest; both are in the catalog"""
    list: str
    """``*``: all lists"""
    one_entry: bool
    rows: int
    """listed entries that it takes off"""
    expires_at: str
    """``never`` if it stays until it is ended"""
    second: str
    """``no need``, ``waits`` (it has no effect yet), or ``switched off`` (in the configuration)"""
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        scope = "all lists" if self.list == "*" else self.list
        made = {"waits": "asked a second operator for", "switched off": "made without a second operator"}
        asked = f"{made.get(self.second, 'made')} suppression"
        return f"{asked} {self.suppression} ({count(self.rows, 'entry')} of {scope}): {self.reason}"


@dataclass(frozen=True)
class Confirmed(Act):
    """Confirmed suppressions that waited for a second operator (`syncd release`)."""

    hold: str
    suppressions: int
    author: str
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"confirmed {count(self.suppressions, 'suppression')} of {self.author} (hold {self.hold}): {self.reason}"


@dataclass(frozen=True)
class Unsuppressed(Act):
    """Ended suppressions (`syncd unsuppress`), or refused to confirm them (`syncd discard`)."""

    suppressions: tuple[int, ...]
    rows: int
    """entries that are listed again"""
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        listed = f"{count(self.rows, 'entry')} listed again"
        return f"ended suppression {ranges(self.suppressions)} ({listed}): {self.reason}"


@dataclass(frozen=True)
class SuppressionsExtended(Act):
    """Let suppressions expire at another time (`syncd suppress --extend`)."""

    suppressions: tuple[int, ...]
    expires_at: str
    """``never`` if they stay until they are ended"""
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        until = "until it is ended" if self.expires_at == "never" else f"until {self.expires_at}"
        return f"extended suppression {ranges(self.suppressions)} {until}: {self.reason}"


@dataclass(frozen=True)
class SuppressionsExpired(Act):
    """Suppressions expired."""

    suppressions: tuple[int, ...]
    rows: int
    """entries that are listed again"""

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"suppression {ranges(self.suppressions)} expired: {count(self.rows, 'entry')} listed again"


@dataclass(frozen=True)
class RolledBack(Act):
    """Rolled a list back to an older version and pinned it there (`syncd rollback`)."""

    list: str
    version: int
    exact: bool
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        exactly = ", with entries that the partner removed since" if self.exact else ""
        return f"rolled {self.list} back to version {self.version}{exactly}: {self.reason}"


@dataclass(frozen=True)
class Unpinned(Act):
    """Let a list that was rolled back follow its source again (`syncd unpin`)."""

    list: str
    version: int
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"unpinned {self.list} from version {self.version}: {self.reason}"


@dataclass(frozen=True)
class KnownGoodChanged(Act):
    """Put a changed known-good file in force on a list, or asked a second operator for it."""

    list: str
    sha256: str
    """of the file; empty: only the digests that are built in"""
    rows: int
    """entries that the file takes off the list"""
    returned: int
    """entries that came back to the list, or wait at the gate"""
    second: str
    """``no need``, ``waits`` (it has no effect yet), ``confirmed``, or ``switched off`` (in the configuration)"""
    reason: str

    @property
    def words(self) -> str:
        """See `Act`."""
        did = {"waits": "asked a second operator for", "confirmed": "confirmed"}.get(self.second, "put in force")
        rows = f"{count(self.rows, 'row')} taken off, {count(self.returned, 'row')} back"
        why = f": {self.reason}" if self.reason else ""
        return f"{did} the changed known-good file of {self.list} ({rows}){why}"


@dataclass(frozen=True)
class RemovedOldFiles(Act):
    """Removed old files and records, beyond the limits of ``[retention]`` (`syncd gc`)."""

    files: int
    bytes: int
    records: int

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"removed {count(self.files, 'old file')} and {count(self.records, 'old record')}"


@dataclass(frozen=True)
class AuditShortened(Act):
    """Removed the oldest records of the audit log itself (``[retention] audit_days``).

    ``records`` and ``head`` are the number and the hash of the last record removed, from which the first one kept
    follows. ``restored``: the longest chain that a restore among the removed records replaced.
    """

    records: int
    head: str
    restored: int
    removed: int

    @property
    def words(self) -> str:
        """See `Act`."""
        return f"removed {count(self.removed, 'record')} from the start of the audit log, up to record {self.records}"


@dataclass(frozen=True)
class Earlier(Act):
    """An act recorded before acts had types, kept unchanged."""

    action: str
    subject: str
    detail: Mapping[str, JsonValue]

    @property
    def words(self) -> str:
        """See `Act`."""
        detail = ", ".join(f"{key} {value}" for key, value in self.detail.items() if value is not None)
        return f"{self.action} {self.subject}" + (f": {detail}" if detail else "")


ACTS: Final[tuple[type[Act], ...]] = (
    SetUp,
    AskedForSync,
    Retrusted,
    AcceptedClock,
    ChangedKeys,
    AnnouncedKeys,
    WithdrewKeys,
    Restored,
    PublishedAbove,
    AddedMatcher,
    RevokedMatcher,
    ForgotInstances,
    Pulled,
    Released,
    Discarded,
    Retired,
    Suppressed,
    Confirmed,
    Unsuppressed,
    SuppressionsExtended,
    SuppressionsExpired,
    RolledBack,
    Unpinned,
    BackedUpState,
    CopiedCatalog,
    MovedStore,
    WroteRows,
    StartedDaemon,
    StoppedDaemon,
    ReloadedConfiguration,
    PublishedVersion,
    OpenedHold,
    EndedHold,
    KnownGoodChanged,
    RemovedOldFiles,
    AuditShortened,
    Earlier,
)
"""Every class of act."""
_BY_NAME: Final = {act.name(): act for act in ACTS}


def _with_reason(did: str, reason: str) -> str:
    return f"{did}: {reason}" if reason else did


@functools.cache
def _reader(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_BY_NAME[name])


def act_named(name: str, fields: Any) -> Act:
    """Read an act back from its name and the fields that `Act.document` wrote.

    Raises `ValueError` if the name is unknown or the fields do not fit.
    """
    if name not in _BY_NAME:
        raise ValueError("an act of an unknown name")
    try:
        act: Act = _reader(name).validate_python(fields)
    except ValidationError:
        raise ValueError("an act with other fields than its own") from None
    return act
