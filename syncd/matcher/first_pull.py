"""The first pull of a matcher that creates its own copy."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import UsageError, worst_error
from syncd.feed.folder import FeedFolder
from syncd.fetch.endpoint import Deadline
from syncd.matcher.copy import read_current
from syncd.matcher.feed import Feed
from syncd.matcher.pull import pull_if_free

_LOOK_EVERY: Final = 0.1
"""Seconds between two checks whether another process has finished its pull."""


def ensure_copy(
    folder: Path,
    root: bytes | None,
    feed: Feed,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Pull ``feed`` into ``folder``, unless that already holds a copy with the feed's lists, however old.

    If several processes of a host start at once, one pulls and the others wait for it, until the feed's deadline.
    Raises the error of a list that could not be pulled, as `syncd.matcher.pull.pull`, and `UsageError` if there is no
    root.
    """
    copy, names = FeedFolder(folder), feed.list_names()

    def is_there() -> bool:
        current = read_current(copy)
        return current is not None and set(names) <= current.lists.keys()

    if is_there():
        return
    if root is None:
        raise UsageError(
            "the first pull needs the feed's trust root", hint="give root=PATH, the root that you received out of band"
        )
    endpoint, deadline = feed.endpoint(), Deadline(feed.deadline)
    while True:
        pulled = pull_if_free(
            endpoint, root, folder, now=clock(), lists=names, deadline=deadline, already_pulled=is_there
        )
        if pulled is not None:
            if error := worst_error(pulled.errors):
                raise error
            return
        if is_there():
            return
        deadline.left()
        sleep(_LOOK_EVERY)
