"""The operator's state folder: what lies where.

::

    ballast              nothing: space that a daemon lets go to start on a full disk
    catalog.sqlite3      the catalog
    feed/                the published feed, plain files
    keys/                online keys, 0600
    sources/<name>/      each source's lists as its signer stated them (their segments are links to the same files)
"""

from dataclasses import dataclass
from pathlib import Path

from syncd.errors import StoreError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.files import storage


@dataclass(frozen=True)
class StateFolder:
    """Paths below one state folder."""

    root: Path

    @property
    def catalog(self) -> Path:
        """The catalog's database."""
        return self.root / "catalog.sqlite3"

    @property
    def feed(self) -> FeedFolder:
        """What is published."""
        return FeedFolder(self.root / "feed")

    @property
    def keys(self) -> Path:
        """The online keys."""
        return self.root / "keys"

    def source(self, name: str) -> FeedFolder:
        """The origins of one source."""
        return FeedFolder(self.root / "sources" / name)

    def check_set_up(self) -> None:
        """See that there is a state. Raises `UsageError`; `StoreError` where it has lost its catalog."""
        with storage(self.catalog, "open"):
            if self.catalog.exists():
                self._check_catalog()
                return
            if self.feed.root.exists():
                raise StoreError(
                    f"the catalog {self.catalog} is missing",
                    hint="move what is left of catalog.sqlite3* aside and restore it from a backup",
                )
        raise UsageError(f"{self.root} is not set up", hint="run `syncd init --offline-keys DIR` first")

    def _check_catalog(self) -> None:
        """SQLite takes an empty file for a new database: tokens, floors and versions would be forgotten unnoticed."""
        if self.catalog.stat().st_size or self.feed.metadata("timestamp.json") is None:
            return
        from syncd.publish.author import is_untouched  # which loads what reads lists: `status` does without

        if not is_untouched(self.feed):
            raise StoreError(
                f"the catalog {self.catalog} is empty",
                hint="stop the daemon, move catalog.sqlite3* aside and restore it from a backup",
            )

    def check_feed(self) -> None:
        """See that what is published has its metadata; raises `StoreError` where it was lost."""
        if self.feed.metadata("timestamp.json") is None:
            raise StoreError(
                f"the metadata of {self.feed.root} is missing",
                hint="restore feed/metadata from a backup; where that is older, then `syncd recover --above N`",
                serving="what matchers hold already; they cannot pull",
            )
