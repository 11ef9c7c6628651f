"""Threads that call a function at intervals until they are stopped."""

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from syncd.fetch.endpoint import Deadline

T = TypeVar("T")

_SECONDS_TO_END: Final = 1.0
_AFTER_A_FAULT: Final = 1.0
"""Minimum seconds to wait after a step that failed: it could fail again at once, and endlessly."""

Wait = Callable[[threading.Event, float], bool]
"""Waits for the event, at most the given seconds; returns True if it is set, as `threading.Event.wait`."""


def can_wait(seconds: object) -> bool:
    """Return True if ``seconds`` is a number, more than 0, that a thread can wait."""
    try:
        return 0 < seconds < threading.TIMEOUT_MAX  # type: ignore[operator]  # a TypeError is the answer
    except TypeError:
        return False


def drain(waiting: "queue.SimpleQueue[T]") -> Iterator[T]:
    """Yield the items that are in a queue now, without waiting for more."""
    with contextlib.suppress(queue.Empty):
        while True:
            yield waiting.get_nowait()


class WakeSignal:
    """A signal that ends the wait of one thread. Unlike an Event, it cannot deadlock if set in a signal handler."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """End the current wait, or else the next one."""
        self._calls.put(None)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait for the signal, but at most ``seconds``; return True if ``stop`` is set. It is a `Wait`."""
        try:
            if not stop.is_set():
                self._calls.get(timeout=min(seconds, threading.TIMEOUT_MAX))
            while True:
                self._calls.get_nowait()
        except queue.Empty:
            return stop.is_set()


class Poller:
    """A daemon thread that calls ``step``, waits for the seconds that it returns, and repeats until it is stopped.

    ``interrupt`` is called to end a step or a wait that could take long.
    """

    def __init__(
        self,
        step: Callable[[], float],
        first: float,
        wait: Wait = threading.Event.wait,
        *,
        name: str = "syncd-watch",
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self._step, self._first, self._wait, self._name, self._interrupt = step, first, wait, name, interrupt
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> "Poller":
        """Start the thread."""
        self._thread.start()
        return self

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stop.is_set()

    def stop(self, patience: float | None = None) -> None:
        """End the thread and wait for it, at most ``patience`` seconds. Does not wait if called in that thread."""
        self._stop.set()
        if self._interrupt:
            self._interrupt()
        if self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _run(self) -> None:
        seconds = self._first
        while not self._wait(self._stop, seconds):
            try:
                seconds = self._step()
            except Exception:  # noqa: BLE001 - a callback's fault is shown; ending the thread would freeze the lists
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
                seconds = max(seconds, _AFTER_A_FAULT)


class Conversation:
    """A thread that talks to a server, and the deadline of what it does now."""

    _poller: Poller
    _deadline: Deadline

    def close(self) -> None:
        """Stop at once. A thread that is still connecting ends by itself within seconds."""
        self._poller.stop(_SECONDS_TO_END)

    def close_inherited(self) -> None:
        """Close the inherited connection of the parent, in a forked child."""
        self._deadline.close_inherited()
