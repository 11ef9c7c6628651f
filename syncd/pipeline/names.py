"""Limits on the names and on the number of published lists."""

from collections.abc import Collection
from typing import Final

from syncd.catalog.records import head_name
from syncd.errors import FeedError, RefusedError
from syncd.model import LIST_NAME, ListName

MOST_OF_A_SOURCE: Final = 128
MOST: Final = 448
"""Published lists: with names of the maximum length, a timestamp of some 64,000 bytes can name them all."""


def check_head_name(source: str, name: ListName) -> None:
    """Raise `FeedError` if a list's name is too long with its source's name before it."""
    if not LIST_NAME.fullmatch(head_name(source, name)):
        raise FeedError(
            f"the list {name} cannot be published: its name is too long with its source's name before it",
            hint=f"give source {source} a shorter name, or name the lists to follow in its `lists`",
        )


def check_room(source: str, name: ListName, followed: Collection[tuple[str, ListName]]) -> None:
    """Check that one more list can be followed. ``followed``: source and name of each list so far.

    A full timestamp could not be signed any more, for any source, so a source that signs ever more lists is stopped
    here. Raises `FeedError` if the source has too many lists, `RefusedError` if all sources together have.
    """
    hint = f"name the lists to follow in `lists` of source {source}"
    if (source, name) in followed:
        return
    if sum(other == source for other, _ in followed) >= MOST_OF_A_SOURCE:
        raise FeedError(f"{source} has more than {MOST_OF_A_SOURCE} lists, the maximum for a source", hint=hint)
    if len(followed) >= MOST:
        raise RefusedError(f"{MOST} lists are published already, which is the maximum", hint=hint)
