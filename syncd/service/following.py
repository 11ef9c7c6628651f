"""Following the other daemons on the same catalog: what they published, and which tokens they added or revoked."""

import threading
from collections.abc import Callable
from typing import Final

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.errors import NotLeadingError, SyncdError
from syncd.event import Emit
from syncd.model import ListName

_EVERY: Final = 0.5
"""Seconds between two looks, if no notice of the database comes first: notices are lost while it cannot be reached."""


class Following:
    """Looks for changes by others. Safe to share between threads."""

    def __init__(
        self,
        catalog: Catalog,
        emit: Emit,
        *,
        leads: Callable[[], bool],
        catch_up: Callable[[], None],
        announce: Callable[[ListName, int], None],
        acted: Callable[[], None],
        orders: Callable[[], None],
    ) -> None:
        """``catch_up`` brings here what another daemon published; the leader has what it published itself."""
        self._catalog, self._emit, self._leads = catalog, emit, leads
        self._catch_up, self._announce, self._acted, self._orders = catch_up, announce, acted, orders
        self._seen = (0, 0)
        self._led = False
        self._fault = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syncd-following", daemon=True)

    @property
    def serves(self) -> int:
        """The newest publication that was announced here."""
        return self._seen[0]

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_EVERY * 4)

    def look(self) -> None:
        """Look once. Raises `StoreError`; the next look then tries again."""
        self._orders()
        installed, acts = self._catalog.newest()
        leads = self._leads()
        # A leader that has lost its lease without knowing it yet has not seen what the next one published.
        if installed != self._seen[0] or (self._led and not leads):
            if not leads:
                self._catch_up()  # first: whoever hears of a version asks for it at once
            for head in self._catalog.heads():
                self._announce(head.list, head.version)
        if acts != self._seen[1]:  # adding and revoking a token are acts of the audit log
            self._acted()
        self._seen, self._led = (installed, acts), leads

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
                self._fault = ""
            except NotLeadingError:
                pass  # the lead has just ended, which has an event of its own
            except SyncdError as error:
                if error.message != self._fault:
                    self._fault = error.message
                    self._emit(events.StorageFailed(error.message, error.hint, "following the other daemons"))
            except Exception as error:  # noqa: BLE001 - without this thread readers would get no news
                self._emit(events.InternalError.of(error, "following the other daemons"))
            self._catalog.wait_for_notice(_EVERY, self._stop)
