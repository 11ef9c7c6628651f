"""Every error that a user can see, sorted by what the caller does next.

::

    SyncdError                  exit 1
    ├── UsageError              exit 2   the command, a flag, a file name or the configuration is wrong
    │   ├── ConfigError                  the configuration file
    │   ├── RowError                     a row of a list file: line, column, reason
    │   ├── RetiredList                  a look-up in a list that is no longer published
    │   └── AlgorithmNotHeld             a look-up of an algorithm that no list holds
    ├── SourceError             exit 5   try at the next sync: unreachable, refused or too slow
    │   ├── DeadlineExceeded
    │   ├── HttpStatusError              carries the status and Retry-After
    │   ├── TruncatedError               fewer or more bytes than announced
    │   ├── WebPageError                 a web page came instead of data
    │   └── StaleMirrorError             older than a state verified before, or not all there yet
    ├── FeedError               exit 4   rejected: keep the evidence, alarm, never retry the same bytes
    │   ├── TrustError                   signatures, thresholds, roots
    │   │   ├── ExpiredError
    │   │   ├── RollbackError
    │   │   └── EquivocationError
    │   ├── MismatchError                bytes, counts or an end state differ from what was signed
    │   ├── ManifestError
    │   ├── UnknownListError
    │   └── SegmentError                 a segment file; its `SegmentFault` says what is wrong
    ├── StoreError              exit 1   abort, keep serving, alarm: disk full, not writable, damaged state
    ├── UnexpectedError         exit 1   a bug: an exception that nobody expected
    └── RefusedError            exit 6   locked, pinned, not permitted
        ├── StaleList                    a look-up in a list that is too old, if its matcher refuses those
        ├── AbandonedError               the daemon stopped before the work was done
        ├── NotLeadingError              another daemon on the same catalog leads
        └── LostRaceError                another process published first

A hold is a verdict, not an error.
"""

import difflib
import enum
import traceback
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

from syncd.outcomes import Outcome, worst_code


class SyncdError(Exception):
    """An error with a message (what happened), ``serving`` (what is still served) and a hint (what to do).

    ``serving`` is set by the layer that knows it, not by the one that raises the error.
    """

    outcome: ClassVar[Outcome] = Outcome.FAILED
    """of a sync that fails with this error"""
    exit_code: ClassVar[int] = Outcome.FAILED.exit_code
    usual_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", serving: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.serving = serving

    def __str__(self) -> str:
        return self.message


class UsageError(SyncdError):
    """The command line, a named file or a value in it is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is wrong."""


class RowError(UsageError):
    """A row of a list file is wrong. ``line`` counts from 1. The value itself is never shown.

    In a JSON document ``unit`` is "item": it may be a single line, so its items are counted.
    """

    def __init__(self, file: str, line: int, column: str, reason: str, unit: str = "line") -> None:
        super().__init__(f"{file}, {unit} {line}, column {column}: {reason}")
        self.file, self.line, self.column, self.reason = file, line, column, reason


class RetiredList(UsageError):  # noqa: N818 - reads as what happened, in code and in log
    """A look-up names a list that its operator retired. Look-ups over all lists skip such a list."""

    def __init__(self, name: str, since: datetime) -> None:
        super().__init__(
            f"the list {name} was retired on {since:%Y-%m-%d}: it is now empty",
            hint="ask its operator which list replaces it; look-ups that name no list skip it",
        )
        self.name, self.since = name, since


class AlgorithmNotHeld(UsageError):  # noqa: N818 - reads as what happened, in code and in log
    """A look-up of an algorithm that none of the searched lists holds: the digest was not checked.

    ``held``: the algorithms of the digests in the copy.
    """

    def __init__(self, algorithm: str, held: Iterable[str]) -> None:
        self.algorithm, self.held = algorithm, tuple(held)
        super().__init__(
            f"no list that was searched holds {algorithm} digests: nothing was checked",
            hint=f"look up one of the algorithms that this copy holds: {', '.join(self.held)}"
            if self.held
            else "pull a list that is not empty",
        )


class SourceError(SyncdError):
    """The peer could not be reached or did not answer properly; the next sync tries again."""

    outcome = Outcome.UNREACHABLE
    exit_code = Outcome.UNREACHABLE.exit_code
    usual_hint = "the next sync tries again; if this lasts, tell the peer's operator"


class DeadlineExceeded(SourceError):  # noqa: N818 - reads as what happened, in code and in log
    """The operation did not finish within its time limit."""


class HttpStatusError(SourceError):
    """The peer answered with a status that is not a success. ``retry_after`` is in seconds, if the peer sent it.

    ``page``: a web page came with it, so something in front of the peer may have answered.
    """

    def __init__(
        self, message: str, status: int, *, retry_after: float | None = None, page: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.retry_after, self.page = status, retry_after, page


class TruncatedError(SourceError):
    """The peer sent fewer or more bytes than it announced."""


class WebPageError(SourceError):
    """Something in between, or the peer itself, answered with a web page instead of data."""

    usual_hint = (
        "a log-in page of this network (captive portal), a firewall, or a host that answers missing paths with its "
        "index page instead of 404: open the url on this machine to see which; the next sync tries again"
    )


class StaleMirrorError(SourceError):
    """A mirror or cache answered with a state older than one verified before, or with a part of the next one."""

    usual_hint = (
        "one mirror, copy or edge of a CDN lags behind and the next sync tries again; if it lasts, tell the peer's "
        "operator: the cache has to be purged or, if a backup was restored there, its newest published files restored "
        "as well"
    )

    @classmethod
    def of(cls, message: str) -> "StaleMirrorError":
        """Return the error for ``message``, which says what is old or missing."""
        return cls(f"stale mirror: {message}")


class CodeNeeded(SyncdError):  # noqa: N818 - reads as what happened, in code and in log
    """An act needs the operator's consent: the code of exactly what would happen. Nothing was changed."""

    outcome = Outcome.HELD
    exit_code = Outcome.HELD.exit_code
    code: str = ""

    @classmethod
    def of(cls, message: str, code: str) -> "CodeNeeded":
        """Return the error that asks for a code."""
        error = cls(message, hint=f"if it is right, repeat the command with --accept {code}; nothing was changed")
        error.code = code
        return error


class FeedError(SyncdError):
    """The peer's data is rejected. No operator can release it."""

    outcome = Outcome.REJECTED
    exit_code = Outcome.REJECTED.exit_code
    usual_hint = "nothing of it was used; tell the feed's publisher"


class TrustError(FeedError):
    """Signatures, thresholds or roots are wrong."""


class ExpiredError(TrustError):
    """Signed metadata is past its expiry."""


class RollbackError(TrustError):
    """Validly signed, but older than a version that was verified before."""


class EquivocationError(TrustError):
    """The same version was signed twice with different content."""


def worst_error(errors: Iterable[SyncdError]) -> SyncdError | None:
    """Return the error to report first: an equivocation, else the one whose exit code `worst_code` picks."""
    candidates = list(errors)
    equivocation = next((error for error in candidates if isinstance(error, EquivocationError)), None)
    worst = worst_code(error.exit_code for error in candidates)
    return equivocation or next((error for error in candidates if error.exit_code == worst), None)


class MismatchError(FeedError):
    """Bytes, counts or an end state differ from what was signed."""


class ManifestError(FeedError):
    """A manifest that is not well formed."""


class UnknownListError(FeedError):
    """The feed has no such list."""


class SegmentFault(enum.StrEnum):
    """How a segment file breaks format 1. The value is the error's kind, in documents, events and the catalog."""

    NOT_ARROW = "NotArrowError"
    """not an Arrow IPC file"""
    TRUNCATED = "TruncatedSegmentError"
    """shorter than the manifest says, or cut off"""
    TRAILING_BYTES = "TrailingBytesError"
    """longer than the manifest says, or with bytes that belong to nothing"""
    SCHEMA = "SchemaError"
    """columns, types, metadata or values other than format 1's"""
    FORMAT_VERSION = "FormatVersionError"
    """a format version that this reader does not know"""
    WIDTH = "WidthError"
    """a digest column whose width is not the algorithm's"""
    UNSORTED = "UnsortedError"
    """rows not in ascending order of (digest, entry)"""
    DUPLICATE_ROW = "DuplicateRowError"
    """the same (digest, entry) twice"""
    REMOVAL_IN_BASE = "RemovalInBaseError"
    """a base with removals"""
    NULL_VALUE = "NullValueError"
    """a missing value"""
    COMPRESSED = "CompressedError"
    """a compressed buffer"""
    HASH = "SegmentHashError"
    """bytes that do not have the SHA-256 that names them"""
    ROW_COUNT = "RowCountError"
    """more or fewer rows or removals than the manifest says"""
    CAP = "CapError"
    """more rows or bytes than this reader accepts"""


class SegmentError(FeedError):
    """A segment file breaks format 1. ``row`` is the first offending row, from 0, if a row is to blame."""

    def __init__(self, file: Path, fault: SegmentFault, reason: str, row: int | None = None) -> None:
        where = "" if row is None else f", row {row}"
        super().__init__(
            f"segment {file.name}{where}: {reason}",
            hint="the file breaks format 1 although its hash is signed: tell the feed's publisher",
        )
        self.file, self.fault, self.reason, self.row = file, fault, reason, row


class StoreError(SyncdError):
    """Local storage failed."""

    usual_hint = "check the disk and the kernel's log, then run the command again"


class UnexpectedError(SyncdError):
    """A bug: an exception that nobody expected. Its own text is not kept, because it may contain a digest."""

    bug: str = ""
    """the class of the exception"""
    place: str = ""
    """the file and line of this package that raised it; '' if not known"""


class RefusedError(SyncdError):
    """The operation is not possible now, or not permitted."""

    outcome = Outcome.REFUSED
    exit_code = Outcome.REFUSED.exit_code


class StaleList(RefusedError):  # noqa: N818 - reads as what happened, in code and in log
    """A look-up in a list that is older than its limit, by a matcher that refuses those.

    ``age`` is None if the feed does not state it, and negative if the local clock is behind.
    """

    def __init__(self, name: str, age: timedelta | None, limit: timedelta, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.name, self.age, self.limit = name, age, limit

    def again(self) -> "StaleList":
        """Return an equal error without the traceback of an earlier look-up."""
        return StaleList(self.name, self.age, self.limit, self.message, hint=self.hint)


class LostRaceError(RefusedError):
    """Another process published first. Nothing was changed; try again from the new state."""


class NotLeadingError(RefusedError):
    """Several daemons share the catalog, and another one leads, or none. Nothing was changed."""


def not_leading(host: str) -> NotLeadingError:
    """Return the error of who does not lead. ``host``: of the daemon that does; "" if none does."""
    return NotLeadingError(
        f"another daemon leads, on {host}" if host else "no daemon leads",
        hint="nothing was changed; `syncd status` names the leader, and orders to any daemon reach it"
        if host
        else "nothing was changed; run this again: soon another daemon leads, and without one the command works itself",
    )


class AbandonedError(RefusedError):
    """The daemon stopped before the work was done. The next start continues it."""

    outcome = Outcome.INTERRUPTED
    exit_code = Outcome.INTERRUPTED.exit_code


_CROSSING: Final[tuple[type[SyncdError], ...]] = (
    SyncdError,
    UsageError,
    ConfigError,
    RowError,
    RetiredList,
    AlgorithmNotHeld,
    SourceError,
    DeadlineExceeded,
    HttpStatusError,
    TruncatedError,
    WebPageError,
    StaleMirrorError,
    FeedError,
    TrustError,
    ExpiredError,
    RollbackError,
    EquivocationError,
    MismatchError,
    ManifestError,
    UnknownListError,
    StoreError,
    UnexpectedError,
    RefusedError,
    StaleList,
    LostRaceError,
    NotLeadingError,
    AbandonedError,
    CodeNeeded,
)
"""Every class that crosses process borders under its own name. A `SegmentError` crosses by its fault."""
_BY_NAME: Final[dict[str, type[SyncdError]]] = {
    **{kind.__name__: kind for kind in _CROSSING},
    **dict.fromkeys(SegmentFault, SegmentError),
}


RESTORE_CATALOG: Final = (
    "stop the daemon, move catalog.sqlite3* aside and restore it from a backup: "
    'see "Backup and restore" in docs/operations.md'
)
"""The hint for a catalog that is damaged or lost."""
RESTORE_FEED: Final = (
    "bring the file back from a mirror, a follower's copy or a backup, then run `syncd verify FEED`: "
    'see "Files are damaged or lost" in docs/partner.md'
)
"""The hint for a partner's own feed with a damaged or lost file."""


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """Return the hint for an unknown name: the closest known name, or all of them."""
    names = tuple(known)
    return did_you_mean(name, names) or f"known {what}s: {', '.join(names) or 'none'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint that names the known name closest to an unknown one; '' if none is close."""
    close = difflib.get_close_matches(name, tuple(known), 1)
    return f"did you mean {close[0]}?" if close else ""


def error_document(error: SyncdError) -> dict[str, Any]:
    """Return an error as a JSON object."""
    return {
        "kind": kind_of(error),
        "message": error.message,
        "still_served": error.serving,
        "to_do": error.hint,
        "exit_code": error.exit_code,
    }


def kind_of(error: SyncdError) -> str:
    """Return the name of an error in documents, events, the catalog and other processes.

    It is the name of its class, or of the nearest base class in this module. A `SegmentError` is named by its fault.
    """
    if isinstance(error, SegmentError):
        return str(error.fault)
    return next(one.__name__ for one in type(error).__mro__ if one in _CROSSING)


def error_class(kind: str) -> type[SyncdError]:
    """Return the class of an error that another process named; `SyncdError` itself if the name is unknown."""
    return _BY_NAME.get(kind, SyncdError)


def error_named(kind: str, message: str, hint: str = "", serving: str = "") -> SyncdError:
    """Build the error that another process reported under the name ``kind``; see `error_class`."""
    known = error_class(kind)
    error = known.__new__(known)  # not __init__: the message is already complete
    SyncdError.__init__(error, message, hint=hint, serving=serving)
    if isinstance(error, SegmentError):
        error.fault = SegmentFault(kind)
    return error


def as_known(fault: Exception) -> SyncdError:
    """Wrap any exception as a `SyncdError`. Its own text is not repeated, because it may contain a digest."""
    if isinstance(fault, SyncdError):
        return fault
    place = _place_of(fault)
    at = f" as met at {place}" if place else ""
    error = UnexpectedError(
        f"internal error ({type(fault).__name__})",
        hint=f"this is a bug in syncd, please report it{at}; the other lists are not affected",
    )
    error.bug, error.place = type(fault).__name__, place
    return error


def _place_of(fault: Exception) -> str:
    """Return the innermost file and line of this package in a traceback: ``syncd/pipeline/plan.py:12``."""
    package = Path(__file__).parent
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(fault.__traceback__)]
    ours = [f"syncd/{file.relative_to(package)}:{line}" for file, line in frames if file.is_relative_to(package)]
    return ours[-1] if ours else ""
