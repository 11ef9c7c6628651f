"""The signed metadata of a feed, as its publisher reads it. Apart from `folder`: a matcher imports no signing."""

from syncd.errors import SyncdError, UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import DamagedError
from syncd.trust.repository import Repository


def load_repository(folder: FeedFolder) -> Repository:
    """Read a feed's signed metadata; raises `UsageError` if the folder is not a feed, `StoreError`."""
    check_feed(folder)
    return Repository.load(folder.metadata)


def check_feed(folder: FeedFolder) -> None:
    """Raise `UsageError` if a folder is not a feed, and `DamagedError` if it is one without its timestamp."""
    if folder.store.length(layout.TIMESTAMP) is None:
        raise _no_timestamp(folder)


def _no_timestamp(folder: FeedFolder) -> SyncdError:
    if folder.metadata("1.root.json") is None:
        hint = "check the path, or make a feed there with `syncd feed init`"
        return UsageError(f"{folder.root} is not a feed", hint=hint)
    return DamagedError(
        f"{layout.TIMESTAMP} is missing from {folder.root}", hint="restore it from a backup or a mirror"
    )
