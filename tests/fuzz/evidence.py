"""The evidence beside a manifest: the partner's signed documents."""

from syncd.feed.proof import signing_keys
from syncd.model import ListName


def one(content: bytes) -> None:
    """Read who signed."""
    signing_keys(content, ListName("images"))
