"""The ledger: where a publication is committed, before any of it is visible.

A commit holds the exact signed bytes. So whatever dies afterwards, they are installed by the next who looks, by the
same code, and no version number is ever signed twice. A partner's ledger is a journal beside its feed, an operator's
the catalog.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from syncd.feed.layout import TIMESTAMP
from syncd.format.manifest import Manifest, ManifestRef
from syncd.model import AuditHead, ListName
from syncd.trust.values import Freshness

if TYPE_CHECKING:
    from syncd.trust.repository import Repository

Records = TypeVar("Records")
"""What a ledger keeps with a commit, beside the signed files."""

SignedFiles = tuple[tuple[str, bytes], ...]
"""(path in the feed, exact bytes), in the order in which they are installed: the timestamp last."""


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
    """The next version of one list. ``before`` is the version it was computed from; None: there was none."""

    manifest: Manifest
    sha256: str
    content: bytes = field(repr=False)
    before: int | None

    def __post_init__(self) -> None:
        if self.manifest.version <= (self.before or 0):
            raise ValueError("a version only goes up")


@dataclass(frozen=True)
class Commit(Generic[Records]):
    """All that one publication changes: signed files, any number of heads, and what the ledger keeps beside them.

    Raises `ValueError` if the parts do not belong together: that is a bug of the caller.
    """

    kind: str
    files: SignedFiles = field(repr=False)
    created_at: datetime
    heads: tuple[HeadMove, ...] = ()
    records: Records | None = None

    def __post_init__(self) -> None:
        if TIMESTAMP in [path for path, _ in self.files[:-1]]:
            raise ValueError("the timestamp is installed last")


@dataclass(frozen=True)
class Publication:
    """Signed files of one commit, to be installed in order."""

    id: int
    created_at: datetime
    kind: str
    files: SignedFiles = field(repr=False)


class Ledger(Protocol[Records]):
    """Where one feed's publications are committed. All methods raise `StoreError`."""

    def pending(self) -> Sequence[Publication]:
        """Return the publications that were committed and not yet installed, oldest first."""

    def current(self, repository: "Repository", name: ListName) -> CurrentVersion | None:
        """Return the version of a list that is in force; None if there is none."""

    def freshness(
        self, repository: "Repository", moved: Sequence[Manifest], records: Records | None, now: datetime
    ) -> Mapping[str, Freshness]:
        """Return when the upstream of each list was last verified, once ``moved`` and ``records`` are committed."""

    def audit_head(self) -> AuditHead | None:
        """Return the end of the audit log as it is before a publication; None if there is no such log."""

    def commit(self, commit: Commit[Records]) -> int:
        """The commit point. Return the publication's id.

        Raises `LostRaceError`, and changes nothing, if a head or a record is no longer what the commit was computed
        from.
        """

    def installed(self, publication: int) -> None:
        """Record that every file of a publication is in place."""
