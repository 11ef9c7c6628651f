"""The first set-up of an operator's state: folders, keys, the own feed, the catalog."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.acts import SetUp
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import check_place
from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.files import make_folder
from syncd.publish import author
from syncd.publish.first_keys import forget_first_keys

_PRIVATE: Final = 0o700


def init(
    folder: StateFolder,
    offline_keys: Path,
    *,
    count: int,
    threshold: int,
    now: datetime,
    actor: str = "operator",
    custodians: Sequence[Path] = (),
) -> Path:
    """Set up a state folder and return the path of the root to give to matchers.

    ``custodians``: as in `syncd.publish.author.init`. A set-up that was killed is continued. Raises `UsageError` if the
    folder is set up already or the offline keys would be in it, `StoreError`.
    """
    root = _made_before(folder.feed)
    if folder.is_set_up() and (_is_used(folder, root) or _is_recorded(folder)):
        raise UsageError(f"{folder.root} is already set up", hint="`syncd status` shows it; nothing was changed")
    state, offline = folder.root.resolve(), (offline_keys, *custodians)
    inside = next((keys for keys in offline if keys.resolve().is_relative_to(state)), None)
    if inside is not None:
        raise UsageError(
            f"the offline keys in {inside} would be in the state folder",
            hint="name a folder on removable storage, such as a USB stick",
        )
    make_folder(folder.root)
    check_place(folder)
    make_folder(folder.keys.parent, _PRIVATE)
    if root is not None:
        forget_first_keys(folder.feed)
    root = root or author.init(
        folder.feed.root,
        offline_keys,
        folder.keys,
        count=count,
        threshold=threshold,
        now=now,
        custodians=custodians,
        store=folder.feed.store,
    )
    with Catalog.open(folder.catalog) as catalog:
        catalog.append(actor, SetUp(str(folder.root)), now)
    return root


def _is_used(folder: StateFolder, root: Path | None) -> bool:
    """Return True if the feed beside a catalog is not one of an interrupted set-up.

    Tables in a server's database may be older than the folder: an administrator made them, or another daemon.
    """
    return root is None and (folder.database is None or folder.feed.root.exists())


def _is_recorded(folder: StateFolder) -> bool:
    """Return True if the set-up is in the audit log, which is its last step."""
    with Catalog.open(folder.catalog) as catalog:
        return catalog.audit_head().records > 0


def _made_before(feed: FeedFolder) -> Path | None:
    """Return the root of a feed that was made but never used. A used one needs its old catalog."""
    made = feed.store.length(author.ROOT_FILE) is not None and author.is_untouched(feed)
    return feed.store.present(author.ROOT_FILE) if made else None
