"""The layout of the operator's state folder.

::

    ballast              reserved space: the daemon frees it so that it can start on a full disk
    catalog.sqlite3      the catalog
    feed/                the published feed, plain files
    history/             what each version of a list changed, 0700, never served: see `syncd.history.files`
    keys/                online keys, 0600
    known-good/          readings of the known-good files, 0700
    sources/<name>/      each source's lists as its signer stated them (segments are hard links to the same files)
"""

from dataclasses import dataclass
from pathlib import Path

from syncd.errors import RESTORE_CATALOG, StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import TIMESTAMP
from syncd.feed.proof_record import RecordFile
from syncd.files import storage
from syncd.model import ListName
from syncd.store.settings import BucketSettings


@dataclass(frozen=True)
class StateFolder:
    """Paths below one state folder."""

    root: Path
    bucket: BucketSettings | None = None
    """the store of the published files and the origins; None: this folder itself. Then ``feed`` and ``sources`` below
    it are a cache of the bucket, and the rest is of this machine alone"""

    @property
    def catalog(self) -> Path:
        """The catalog's database file."""
        return self.root / "catalog.sqlite3"

    @property
    def feed(self) -> FeedFolder:
        """The published feed."""
        return self._shared("feed", "feed", public=True)

    @property
    def keys(self) -> Path:
        """The folder of the online keys."""
        return self.root / "keys"

    @property
    def known_good(self) -> Path:
        """The folder of the readings of known-good files."""
        return self.root / "known-good"

    @property
    def history(self) -> Path:
        """The folder of the private history."""
        return self.root / "history"

    @property
    def proof_record(self) -> RecordFile:
        """The record of the last proof of the published feed's files, and the faults that it found."""
        return RecordFile(self.feed.work / "proof.json")

    def source(self, name: str) -> FeedFolder:
        """Return the folder with the origins of one source."""
        return self._shared(f"sources/{name}", f"origins/{name}", public=False)

    def _shared(self, inside: str, part: str, *, public: bool) -> FeedFolder:
        """Return a folder of this machine, whose files are in the bucket below ``part`` if there is one."""
        root = self.root / inside
        if self.bucket is None:
            return FeedFolder(root)
        from syncd.store.cached import CachedStore
        from syncd.store.s3 import S3Bucket

        return FeedFolder(root, CachedStore(S3Bucket(self.bucket, part, public=public), root, frozenset({TIMESTAMP})))

    def folding(self, name: ListName) -> Path:
        """Return the lock that is held while a published list is folded."""
        return self.feed.work / "folding" / name

    def check_set_up(self) -> None:
        """Check that the folder is set up. Raises `UsageError` if it is not, `StoreError` if its catalog is lost."""
        with storage(self.catalog, "open"):
            if self.catalog.exists():
                self._check_catalog()
                return
            if self.feed.root.exists():
                raise StoreError(f"the catalog {self.catalog} is missing", hint=RESTORE_CATALOG)
        raise UsageError(f"{self.root} is not set up", hint="run `syncd init --offline-keys DIR` first")

    def _check_catalog(self) -> None:
        """Refuse an empty file: SQLite takes it for a new database, and tokens, floors and versions would be lost."""
        if self.catalog.stat().st_size or self.feed.metadata("timestamp.json") is None:
            return
        from syncd.publish.author import is_untouched  # heavy (numpy): `syncd status` must start quickly

        if not is_untouched(self.feed):
            raise StoreError(f"the catalog {self.catalog} is empty", hint=RESTORE_CATALOG)

    def check_feed(self) -> None:
        """Check that the published feed has its metadata. Raises `StoreError` if it was lost."""
        if self.feed.metadata("timestamp.json") is None:
            raise StoreError(
                f"the metadata of {self.feed.root} is missing",
                hint='bring feed/metadata back from a matcher\'s copy ("Backup and restore" in docs/operations.md), or '
                "a backup; if that is older than the last publication, run `syncd recover --above N` afterwards",
                serving="matchers keep the version they have; they cannot pull",
            )
