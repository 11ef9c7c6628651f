"""Wrong tokens that several daemons were sent count at all of them: exchanged through the catalog every second."""

from datetime import timedelta

from syncd.catalog.catalog import Catalog
from syncd.errors import StoreError
from syncd.service.attempts import Attempts


class SharedAttempts:
    """Exchanges the wrong tokens of one daemon with the others."""

    def __init__(self, catalog: Catalog, daemon: str, attempts: Attempts) -> None:
        self._catalog, self._daemon, self._attempts = catalog, daemon, attempts
        self._known: frozenset[int] = frozenset()
        self._unsent: tuple[str, ...] = ()

    def look(self) -> None:
        """Write our own, and count those of others. Raises `StoreError`."""
        unsent = (*self._unsent, *self._attempts.new())
        if unsent:
            try:
                self._catalog.note_attempts(self._daemon, unsent)
            except StoreError:
                self._unsent = unsent
                raise
            self._unsent = ()
        found = self._catalog.attempts_elsewhere(self._daemon)
        for one in found:
            if one.number not in self._known:
                self._attempts.failed_elsewhere(one.network, timedelta(milliseconds=one.ago))
        self._known = frozenset(one.number for one in found)
