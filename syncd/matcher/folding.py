"""Folding, in the background, the segments that a pull left unfolded, so that newer versions need not wait for it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from syncd.errors import MismatchError, RefusedError, StoreError, SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import fold_here
from syncd.feed.reproof import InterruptedPass, LowPriority
from syncd.files import check_room, is_full
from syncd.format.manifest import SegmentRef
from syncd.locks import lock
from syncd.matcher.copy import read_current
from syncd.matcher.threads import Poller, WakeSignal
from syncd.model import ListName

_LOOK_EVERY: Final = 600.0
"""Seconds until a fold is tried again for which there was no room, or that another process was making."""
_LOCK: Final = "fold.lock"

Report = Callable[[Sequence[SyncdError]], None]
"""Called in the folding thread with a fault."""


class BackgroundFold:
    """Folds in a background thread, with pauses; of several processes that share a copy, one folds at a time.

    If folding a segment does not give the signed bytes, that is reported, and `may_wait` returns False for it, so that
    the next pull downloads it.
    """

    def __init__(self, folder: Path, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._step = _FoldStep(FeedFolder(folder), report, clock)
        self._wake_signal = WakeSignal()
        # Neither refers to this object: the cycle would keep the matcher, and its map, after `close`.
        interrupt = _Interrupt(self._step.stop, self._wake_signal)
        self._poller = Poller(
            self._step, _LOOK_EVERY, self._wake_signal.wait, name="syncd-fold", interrupt=interrupt
        ).start()

    def may_wait(self, ref: SegmentRef) -> bool:
        """Return True if a pull may leave this fold to the thread."""
        return ref.sha256 not in self._step.refused

    def wake(self) -> None:
        """Fold now, if there is a segment to fold. Called after each pull."""
        self._wake_signal.set()

    def close(self) -> None:
        """End the thread; another process, or the next start, makes an unfinished fold again."""
        self._poller.stop()


@dataclass(frozen=True)
class _Interrupt:
    stop: threading.Event
    wake_signal: WakeSignal

    def __call__(self) -> None:
        self.stop.set()
        self.wake_signal.set()


@dataclass
class _FoldStep:
    """Folds the segments that the current generation reads from inputs; returns the seconds until the next check."""

    copy: FeedFolder
    report: Report
    clock: Callable[[], float]
    refused: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)
    not_before: float = float("-inf")
    """when to try again after a fault of the disk: each report hastens a pull, and each pull wakes this thread"""

    def __call__(self) -> float:
        wait = self.not_before - self.clock()
        if wait > 0:
            return wait
        try:
            if next(self._due(), None):
                with lock(self.copy.work / _LOCK, "folding segments"):
                    while due := next(self._due(), None):
                        self._fold(*due)
        except (InterruptedPass, RefusedError):  # asked to end, or another process is folding
            pass
        except SyncdError as error:
            self.not_before = self.clock() + _LOOK_EVERY
            self.report([error])
        return _LOOK_EVERY

    def _due(self) -> Iterator[tuple[ListName, SegmentRef, tuple[SegmentRef, ...]]]:
        """Yield each segment to be folded, with its list and its inputs. Raises `StoreError` and `FeedError`."""
        current = read_current(self.copy)
        for name, held in current.lists.items() if current else ():
            if held.unfolded:
                stack = {ref.sha256: ref for ref in self.copy.manifest(name, held.manifest).stack}
                for sha256, inputs in held.unfolded.items():
                    ref = stack.get(sha256)
                    if ref and sha256 not in self.refused and self.copy.missing(name, [ref]):
                        yield name, ref, inputs

    def _fold(self, name: ListName, ref: SegmentRef, inputs: Sequence[SegmentRef]) -> None:
        check_room(self.copy.root, ref.length, "fold")
        try:
            if fold_here(self.copy, name, ref, inputs, suffix="folding", pause=LowPriority(self.stop)):
                return
        except SyncdError as error:
            if isinstance(error, StoreError) and is_full(error):
                raise
        self.refused.add(ref.sha256)
        self.report(
            [
                MismatchError(
                    f"folding a segment of {name} here does not give the signed bytes",
                    hint="the next pull downloads it instead; look-ups answer as before",
                )
            ]
        )
