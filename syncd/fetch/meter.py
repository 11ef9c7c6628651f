"""How much came from a peer."""

import threading


class Meter:
    """Bytes of bodies that came from a peer, each once, whatever became of them. Safe to use from several threads.

    Headers are left out, and so are bodies that nobody reads: those of refusals.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._total = 0

    @property
    def total(self) -> int:
        """So far."""
        with self._turn:
            return self._total

    def add(self, count: int) -> None:
        """``count`` more came."""
        with self._turn:
            self._total += count

    def reached(self, total: int) -> None:
        """``total`` came so far, as another process says; what it said late is passed over."""
        with self._turn:
            self._total = max(self._total, total)
