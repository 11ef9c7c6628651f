"""``syncd run``: takes the state, and hands signals to one daemon on it."""

import os
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.files import lock
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.service.ballast import Ballast
from syncd.service.daemon import Daemon, Surroundings
from syncd.settings import credentials

PURPOSE: Final = "syncd run"


def run(load: Callable[[], Config], around: Surroundings) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration, again at SIGHUP.

    Raises `RefusedError` where another process holds the state, naming it, `UsageError`, `StoreError`.
    """
    with signals() as inbox:  # first: a signal that comes during the start is not lost
        config = load()
        folder = StateFolder(config.state_dir)
        given = credentials(around.environment)
        with lock(folder.root / "lock", PURPOSE):
            Ballast(folder).give_way()
            with _opened(folder, given) as publisher:
                if not Daemon(config, load, publisher, around).run(inbox):
                    os._exit(0)  # a thread is still at it and would keep us: a kill at any moment loses nothing


@contextmanager
def _opened(folder: StateFolder, given: Path | None) -> Iterator[Publisher]:
    """The state; without keys where what is published is damaged, since it is served, and told of, all the same.

    Raises as `open_publisher`, also where it is the keys that cannot be used.
    """
    with open_publisher(folder, online=False):  # installs what a crash left, which may be what is missing
        readable = _readable(folder.feed)
    with open_publisher(folder, online=readable, credentials=given) as publisher:
        yield publisher


def _readable(feed: FeedFolder) -> bool:
    try:
        load_repository(feed)
    except StoreError:
        return False
    return True


@contextmanager
def signals() -> Iterator["queue.SimpleQueue[int]"]:
    """The signals that come meanwhile, in order."""
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()  # whose put may interrupt its get, as a handler does
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: inbox.put(number)) for number in numbers}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
