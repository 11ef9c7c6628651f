"""How lists of partners are called where we publish them."""

from collections.abc import Collection
from typing import Final

from syncd.catalog.records import head_name
from syncd.errors import FeedError, RefusedError
from syncd.model import LIST_NAME, ListName

MOST_OF_A_SOURCE: Final = 128
MOST: Final = 448
"""Lists that are published: a timestamp of some 64,000 bytes tells of them all, by names as long as they may be."""


def check_head_name(source: str, name: ListName) -> None:
    """Raise `FeedError` where a list cannot be published under its source's name."""
    if not LIST_NAME.fullmatch(head_name(source, name)):
        raise FeedError(
            f"the list {name} cannot be published: with its source's name before it, its name is too long",
            hint=f"give source {source} a shorter name, or name the lists to follow in its `lists`",
        )


def check_room(source: str, name: ListName, followed: Collection[tuple[str, ListName]]) -> None:
    """Raise where one more list would be too many; ``followed``: source and name of each there is.

    A timestamp that is full could be signed no more, for any source: one that signs lists without end is stopped here.
    Raises `FeedError`, `RefusedError`.
    """
    hint = f"name the lists to follow in `lists` of source {source}"
    if (source, name) in followed:
        return
    if sum(one == source for one, _ in followed) >= MOST_OF_A_SOURCE:
        raise FeedError(f"{source} has more than the {MOST_OF_A_SOURCE} lists that a source may have", hint=hint)
    if len(followed) >= MOST:
        raise RefusedError(f"{MOST} lists are published already, and no more can be", hint=hint)
