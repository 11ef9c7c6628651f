"""The ledger: where a publication is committed before any of it is visible.

A commit holds the exact signed bytes. If the process dies afterwards, the next one installs them with the same code,
and no version number is ever signed twice. A partner's ledger is a journal beside its feed, an operator's is the
catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from syncd.feed.layout import TIMESTAMP
from syncd.format.manifest import Manifest, ManifestRef
from syncd.model import AuditHead, ListName
from syncd.trust.values import Freshness, role_of

if TYPE_CHECKING:
    from syncd.trust.repository import Repository

Records = TypeVar("Records")
"""The records that a ledger keeps with a commit, besides the signed files."""

SignedFiles = tuple[tuple[str, bytes], ...]
"""(path in the feed, exact bytes), in the order of installation: the timestamp last, except for a root."""


@dataclass(frozen=True)
class CurrentVersion:
    """The version of a list that is in force."""

    manifest: Manifest
    sha256: str

    @property
    def ref(self) -> ManifestRef:
        """Its version and hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)


@dataclass(frozen=True)
class HeadMove:
    """The next version of one list. ``before``: the version it was computed from; None for the first."""

    manifest: Manifest
    sha256: str
    content: bytes = field(repr=False)
    before: int | None

    def __post_init__(self) -> None:
        if self.manifest.version <= (self.before or 0):
            raise ValueError("version numbers only rise")


@dataclass(frozen=True)
class Commit(Generic[Records]):
    """All changes of one publication: signed files, any number of heads, and the ledger's own records.

    Raises `ValueError` if another file than a root comes after the timestamp: a bug of the caller.
    """

    kind: str
    files: SignedFiles = field(repr=False)
    created_at: datetime
    heads: tuple[HeadMove, ...] = ()
    records: Records | None = None
    after: int | None = None
    """the ledger's newest commit when the state was read from which this was computed; None: not compared"""

    def __post_init__(self) -> None:
        paths = [path for path, _ in self.files]
        after = paths[paths.index(TIMESTAMP) + 1 :] if TIMESTAMP in paths else []
        if any(role_of(path.rpartition("/")[2]) != "root" for path in after):
            raise ValueError("only a root may be installed after the timestamp")


@dataclass(frozen=True)
class Publication:
    """Signed files of one commit, to install in order."""

    id: int
    created_at: datetime
    kind: str
    files: SignedFiles = field(repr=False)


class Ledger(Protocol[Records]):
    """The place where one feed's publications are committed. All methods raise `StoreError`."""

    def last_commit(self) -> int:
        """Return the id of the newest commit; 0 if there is none."""

    def last_published(self) -> Publication | None:
        """Return the newest publication with a timestamp; None if there is none, or nobody else could install it."""

    def pending(self) -> Sequence[Publication]:
        """Return publications committed and not yet installed, oldest first."""

    def current(self, repository: "Repository", name: ListName) -> CurrentVersion | None:
        """Return the version of a list that is in force; None if it was never published."""

    def freshness(
        self, repository: "Repository", moved: Sequence[Manifest], records: Records | None, now: datetime
    ) -> Mapping[str, Freshness]:
        """Return when the upstream of each list was last verified, once ``moved`` and ``records`` are committed."""

    def audit_head(self) -> AuditHead | None:
        """Return the head of the audit log before a publication; None if the ledger keeps no audit log."""

    def commit(self, commit: Commit[Records]) -> int:
        """Commit a publication; return its id.

        Raises `LostRaceError`, and changes nothing, if another one was committed since ``commit.after``, or if a head
        or a record has changed since the commit was computed.
        """

    def installed(self, publication: int) -> None:
        """Record that every file of a publication is in place."""
