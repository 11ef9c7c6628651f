"""Making the near indexes of a copy in the background, so that near look-ups need not compare all rows."""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from syncd.errors import SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.near_indexes import LOCK, index_missing
from syncd.feed.reproof import InterruptedPass, LowPriority, Pause
from syncd.feed.unfolded import stack_here
from syncd.format.derived import unpaused
from syncd.format.manifest import SegmentRef
from syncd.locks import lock
from syncd.matcher.copy import read_current
from syncd.model import ListName

_TRY_AGAIN: Final = 60.0
"""Seconds until indexes are made again that could not be made: the disk is full, or another process makes them."""


def segments_of(copy: FeedFolder) -> list[tuple[ListName, SegmentRef]]:
    """Return the segments that the current generation reads, with their lists. Raises `StoreError`, `FeedError`."""
    current = read_current(copy)
    return [
        (name, ref)
        for name, held in (current.lists.items() if current else ())
        for ref in stack_here(copy, copy.manifest(name, held.manifest), held.unfolded)
    ]


def make_indexes(copy: FeedFolder, pause: Pause = unpaused) -> int:
    """Make the missing indexes of the current generation; return how many.

    Raises `RefusedError` if another process is making them, and `StoreError`, `FeedError`.
    """
    with lock(copy.work / LOCK, "making near indexes"):
        return index_missing(copy, segments_of(copy), pause)


class IndexBuilder:
    """Makes missing indexes in a background thread with pauses, in one process of the host at a time.

    A process that may not write to the copy makes none. Each call of `start` makes one run, unless one is under way or
    has just failed.
    """

    def __init__(self, copy: FeedFolder, timer: Callable[[], float] = time.monotonic) -> None:
        self._copy, self._timer = copy, timer
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._not_before = float("-inf")
        self.last_error: SyncdError | None = None
        """the error that kept the last run from making an index"""

    def start(self) -> None:
        """Make the missing indexes now. Returns at once."""
        running = self._thread is not None and self._thread.is_alive()
        if running or self._timer() < self._not_before or not os.access(self._copy.root, os.W_OK):
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="syncd-index", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; another process, or the next start, makes the rest."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def forget_thread(self) -> None:
        """Forget the thread of the parent, in a forked child."""
        self._stop, self._thread = threading.Event(), None

    def _run(self) -> None:
        try:
            make_indexes(self._copy, LowPriority(self._stop))
        except InterruptedPass:  # asked to end
            pass
        except SyncdError as error:  # another process makes them, or the disk is full
            self.last_error, self._not_before = error, self._timer() + _TRY_AGAIN
        except Exception:  # noqa: BLE001 - a bug is shown; near look-ups go on without an index
            self._not_before = self._timer() + _TRY_AGAIN
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        else:
            self.last_error = None
