"""The signed metadata of a feed, as its publisher reads it. Apart from `folder`: a matcher imports no signing."""

from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.trust.repository import Repository


def load_repository(folder: FeedFolder) -> Repository:
    """Read a feed's signed metadata; raises `UsageError` if the folder is not a feed, `StoreError`."""
    if folder.metadata("timestamp.json") is None:
        raise UsageError(
            f"{folder.root} is not a feed", hint="check the path, or make a feed there with `syncd feed init`"
        )
    return Repository.load(folder.metadata)
