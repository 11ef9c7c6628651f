"""The first set-up of an operator's state: folders, keys, an own feed, the catalog."""

from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.acts import SetUp
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.files import make_folder
from syncd.publish import author

_PRIVATE: Final = 0o700


def init(folder: StateFolder, offline_keys: Path, *, count: int, threshold: int, now: datetime) -> Path:
    """First set-up; returns the root to hand to matchers. Raises `UsageError` where there is a state already.

    What was killed before there was a catalog is finished.
    """
    if folder.catalog.exists():
        raise UsageError(f"{folder.root} is set up already", hint="`syncd status` shows it; nothing was changed")
    if offline_keys.resolve().is_relative_to(folder.root.resolve()):
        raise UsageError(
            f"the offline keys in {offline_keys} would lie in the state folder",
            hint="name a folder that this host does not keep, such as a mounted stick",
        )
    make_folder(folder.root)
    make_folder(folder.keys.parent, _PRIVATE)
    root = _made_before(folder.feed) or author.init(
        folder.feed.root, offline_keys, folder.keys, count=count, threshold=threshold, now=now
    )
    with Catalog.open(folder.catalog) as catalog:
        catalog.append("operator", SetUp(str(folder.root)), now)
    return root


def _made_before(feed: FeedFolder) -> Path | None:
    """The root of a feed that was made and never used: any other has lost its catalog, which no new one replaces."""
    root = feed.path(author.ROOT_FILE)
    return root if root.exists() and author.is_untouched(feed) else None
