"""The operator's state folder: what lies where.

::

    catalog.sqlite3      the catalog
    feed/                the published feed, plain files
    keys/                online keys, 0600
    sources/<name>/      each source's lists as its signer stated them (their segments are links to the same files)
"""

from dataclasses import dataclass
from pathlib import Path

from syncd.feed.folder import FeedFolder


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
