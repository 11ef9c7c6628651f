"""Threads that call a function now and then, and end when told."""

import queue
import sys
import threading
from collections.abc import Callable
from typing import Final

_AFTER_A_FAULT: Final = 1.0
"""Seconds to wait after a step that failed, at least: it may fail again at once, and for ever."""

Wait = Callable[[threading.Event, float], bool]
"""Waits until the event is set, at most so many seconds; returns whether it is: `threading.Event.wait`."""


def can_wait(seconds: object) -> bool:
    """Whether it is a number of seconds, more than 0, that a thread can wait."""
    try:
        return 0 < seconds < threading.TIMEOUT_MAX  # type: ignore[operator]  # found out by asking
    except TypeError:
        return False


class Wake:
    """Ends the wait of one thread; for another one, or a signal handler, in which an Event could deadlock."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self) -> None:
        """End the wait, or the next one."""
        self._calls.put(None)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait until woken, at most ``seconds``; returns whether ``stop`` is set: a `Wait`."""
        try:
            if not stop.is_set():
                self._calls.get(timeout=min(seconds, threading.TIMEOUT_MAX))
            while True:
                self._calls.get_nowait()
        except queue.Empty:
            return stop.is_set()


class Poller:
    """A daemon thread that calls ``step``, waits the seconds that it returns, and so on until it is stopped.

    ``interrupt`` is called to end a step, or a wait, that could take long.
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
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self, patience: float | None = None) -> None:
        """End the thread, and wait for its end (at most so many seconds) unless it is the one that asks."""
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
                _show_fault(threading.current_thread())
                seconds = max(seconds, _AFTER_A_FAULT)


def _show_fault(thread: threading.Thread) -> None:
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
