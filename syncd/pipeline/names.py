"""How lists of partners are called where we publish them."""

from syncd.errors import FeedError
from syncd.model import LIST_NAME, ListName


def head_name(source: str, name: ListName) -> ListName:
    """How a source's list is published: ``<source>.<list>``."""
    return ListName(f"{source}.{name}")


def check_head_name(source: str, name: ListName) -> None:
    """Raise `FeedError` where a list cannot be published under its source's name."""
    if not LIST_NAME.fullmatch(head_name(source, name)):
        raise FeedError(
            f"the list {name} cannot be published: with its source's name before it, its name is too long",
            hint=f"give source {source} a shorter name, or name the lists to follow in its `lists`",
        )
