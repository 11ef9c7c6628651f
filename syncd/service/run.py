"""``syncd run``: locks the state, and passes signals to one daemon on it."""

import os
import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.errors import StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.locks import lock
from syncd.pipeline.publisher import Publisher, open_publisher
from syncd.service.ballast import Ballast
from syncd.service.daemon import Daemon, Environment
from syncd.service.folding import fold_apart
from syncd.settings import credentials

PURPOSE: Final = "syncd run"


def run(load: Callable[[], Config], environment: Environment) -> None:
    """Serve until SIGTERM or SIGINT. ``load`` reads the configuration, and again at SIGHUP.

    Raises `RefusedError`, naming the process, if another one holds the state, `UsageError`, `StoreError`.
    """
    with signals() as inbox:  # first, so that no signal is lost during the start
        config = load()
        folder = StateFolder(config.state_dir, config.bucket, config.database)
        keys = credentials(environment.variables)
        with lock(folder.root / "lock", PURPOSE):
            Ballast(folder).release_if_full()
            with _opened(folder, keys) as publisher:
                if not Daemon(config, load, publisher, environment).run(inbox):
                    os._exit(0)  # a thread that still runs would keep us here; a kill at any moment loses nothing


@contextmanager
def _opened(folder: StateFolder, keys: Path | None) -> Iterator[Publisher]:
    """Open the state. If the published feed is damaged, open it without keys: the daemon keeps serving and reports it.

    Raises as `open_publisher`, also if the keys cannot be used.
    """
    with suppress(StoreError):  # a store that does not answer is proved before the first publication
        folder.feed.store.prove(afresh=True)
    with open_publisher(folder, online=False):  # installs what a crash interrupted, which may complete the feed
        readable = _readable(folder.feed)
    with open_publisher(folder, online=readable, credentials=keys) as publisher:
        yield replace(publisher, fold=fold_apart)


def _readable(feed: FeedFolder) -> bool:
    try:
        load_repository(feed)
    except StoreError:
        return False
    return True


@contextmanager
def signals() -> Iterator["queue.SimpleQueue[int]"]:
    """Yield a queue that receives SIGTERM, SIGINT and SIGHUP, in order."""
    inbox: queue.SimpleQueue[int] = queue.SimpleQueue()  # its put is reentrant: a handler may interrupt its get
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: inbox.put(number)) for number in numbers}
    try:
        yield inbox
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
