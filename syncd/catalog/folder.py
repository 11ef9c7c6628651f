"""The layout of the operator's state folder.

::

    ballast              reserved space: the daemon frees it so that it can start on a full disk
    catalog.sqlite3      the catalog, unless it is in PostgreSQL
    catalog.postgresql   if it is: its address, see `syncd.catalog.place`
    feed/                the published feed, plain files
    history/             what each version of a list changed, 0700, never served: see `syncd.history.files`
    keys/                online keys, 0600
    known-good/          readings of the known-good files, 0700
    sources/<name>/      each source's lists as its signer stated them (segments are hard links to the same files);
                         of partners that sign nothing also their raw answers, 0600, and indexes of the lists
"""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.database_address import DatabaseAddress
from syncd.errors import RESTORE_CATALOG, ConfigError, StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import CATALOG_FILE, CATALOG_MARK, TIMESTAMP
from syncd.feed.proof_record import RecordFile
from syncd.files import storage
from syncd.model import ListName
from syncd.store.settings import BucketSettings

if TYPE_CHECKING:
    from syncd.store.s3 import S3Bucket


@dataclass(frozen=True)
class StateFolder:
    """Paths below one state folder, and the places of its catalog and its published files."""

    root: Path
    bucket: BucketSettings | None = None
    """the store of the published files and the origins; None: this folder itself. Then ``feed`` and ``sources`` below
    it are a cache of the bucket, and the rest is of this machine alone"""
    database: DatabaseAddress | None = None
    """the catalog's, in PostgreSQL; None: the catalog is a file in this folder"""

    @property
    def catalog(self) -> Path | DatabaseAddress:
        """The place of the catalog."""
        return self.database or self.catalog_file

    @property
    def catalog_file(self) -> Path:
        """The catalog's file, if it is in SQLite."""
        return self.root / CATALOG_FILE

    @property
    def catalog_mark(self) -> Path:
        """The record of where the catalog is in PostgreSQL."""
        return self.root / CATALOG_MARK

    @property
    def feed(self) -> FeedFolder:
        """The published feed."""
        return self._shared("feed", "feed")

    @property
    def store_place(self) -> str:
        """The place of the published files, for daemons that share a catalog."""
        return self.bucket.place if self.bucket else f"{socket.gethostname()}:{self.feed.root}"

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
        return self._shared(f"sources/{name}", f"origins/{name}")

    def bring_private(self, folder: Path) -> None:
        """Fetch what this machine lacks of a private folder, such as `history`, if there is a bucket.

        Raises `StoreError`.
        """
        if self.bucket is not None:
            from syncd.store.private import bring

            bring(self._private(self.bucket, folder), folder)

    def push_private(self, folder: Path, *, whole: bool = True) -> None:
        """Make the bucket's copy of a private folder equal to it, if there is a bucket.

        Not ``whole``: only add to it. Otherwise call `bring_private` first, so that nothing is removed that only the
        bucket has. Raises `StoreError`.
        """
        if self.bucket is not None:
            from syncd.store.private import push

            push(self._private(self.bucket, folder), folder, whole=whole)

    def _private(self, bucket: BucketSettings, folder: Path) -> "S3Bucket":
        from syncd.store.s3 import S3Bucket

        return S3Bucket(bucket, str(folder.relative_to(self.root)), public=False)

    def _shared(self, inside: str, part: str) -> FeedFolder:
        """Return a folder of this machine, whose files are in the bucket below ``part`` if there is one."""
        root = self.root / inside
        if self.bucket is None:
            return FeedFolder(root)
        from syncd.store.cached import CachedStore
        from syncd.store.s3 import S3Bucket

        return FeedFolder(root, CachedStore(S3Bucket(self.bucket, part, public=True), root, frozenset({TIMESTAMP})))

    def folding(self, name: ListName) -> Path:
        """Return the lock that is held while a published list is folded."""
        return self.feed.work / "folding" / name

    def check_set_up(self) -> None:
        """Check that the state is set up.

        Raises `UsageError` if it is not, `StoreError` if its catalog is lost or cannot be reached, `ConfigError` if the
        configuration names another place than the state does.
        """
        if self.database is not None:
            self._check_database(self.database)
            return
        with storage(self.catalog_file, "open"):
            if self.catalog_file.exists():
                self._check_catalog()
                return
            if self.catalog_mark.exists():
                raise self._moved()
            if self.feed.root.exists():
                raise StoreError(f"the catalog {self.catalog_file} is missing", hint=RESTORE_CATALOG)
        raise self._not_set_up()

    def is_set_up(self) -> bool:
        """Return True if there is a catalog, perhaps of a set-up that was interrupted. Raises `StoreError`."""
        if self.database is None:
            return self.catalog_file.exists()
        from syncd.catalog.database import is_empty  # SQLAlchemy: `syncd status` must start quickly

        return not is_empty(self.database)

    def _check_catalog(self) -> None:
        """Refuse an empty file: SQLite takes it for a new database, and tokens, floors and versions would be lost."""
        if not self.catalog_file.stat().st_size and self._is_used():
            raise StoreError(f"the catalog {self.catalog_file} is empty", hint=RESTORE_CATALOG)

    def _check_database(self, database: DatabaseAddress) -> None:
        """Refuse an empty database for the same reason, and a second catalog beside it."""
        empty = not self.is_set_up()
        with storage(self.catalog_file, "open"):
            left = self.catalog_file.exists()
        if left:
            raise ConfigError(
                f"the configuration names the catalog {database}, and this state has one in {self.catalog_file}",
                hint="run `syncd catalog copy` to move it there; nothing was changed"
                if empty
                else f"if it was moved there, move {CATALOG_FILE}* aside; otherwise correct `catalog`",
            )
        if empty and self._is_used():
            raise StoreError(
                f"the catalog {database} is empty, and lists were published from this state",
                hint="check that `catalog` names the right database; if it was lost, restore it from a backup",
            )
        if empty:
            raise self._not_set_up()

    def _is_used(self) -> bool:
        """Return True if anything was published from this state."""
        if self.feed.metadata("timestamp.json") is None:
            return False
        from syncd.publish.author import is_untouched  # heavy (numpy): `syncd status` must start quickly

        return not is_untouched(self.feed)

    def _moved(self) -> ConfigError:
        return ConfigError(
            f"the catalog of {self.root} is in PostgreSQL, and the configuration does not name it",
            hint=f"set `catalog` in the configuration; its address was in {self.catalog_mark}",
        )

    def _not_set_up(self) -> UsageError:
        return UsageError(f"{self.root} is not set up", hint="run `syncd init --offline-keys DIR` first")

    def check_feed(self) -> None:
        """Check that the published feed has its metadata. Raises `StoreError` if it was lost."""
        if self.feed.metadata("timestamp.json") is None:
            raise StoreError(
                f"the metadata of {self.feed.root} is missing",
                hint='bring feed/metadata back from a matcher\'s copy ("Backup and restore" in docs/operations.md), or '
                "a backup; if that is older than the last publication, run `syncd recover --above N` afterwards",
                serving="matchers keep the version they have; they cannot pull",
            )
