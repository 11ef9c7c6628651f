"""Which instances of matchers do not follow. Pure.

An instance checks in after each change of what it has loaded, and otherwise every five minutes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.records import Loaded
from syncd.model import ListName

BEHIND_AFTER: Final = timedelta(minutes=5)
"""How long after publishing everybody is to have loaded it."""
SILENT_AFTER: Final = timedelta(minutes=15)
"""Three check-ins that did not come."""
FORGOTTEN_AFTER: Final = timedelta(days=7)
"""An instance that was silent for so long is gone for good."""


@dataclass(frozen=True)
class Standing:
    """How one instance stands with one list."""

    loaded: Loaded
    due: int | None
    """the newest version that it should have by now; None: of that list nothing is"""
    behind: bool
    silent: bool

    @property
    def lags(self) -> bool:
        """Whether somebody should look."""
        return self.behind or self.silent


def standings(loaded: Iterable[Loaded], due: Mapping[ListName, int], now: datetime) -> tuple[Standing, ...]:
    """How everybody stands, but for those that are gone for good.

    ``due``: the newest version of each list that was published `BEHIND_AFTER` ago or earlier, as
    `syncd.catalog.catalog.Catalog.due_versions` gives it. Not the head: of a list that is published every few minutes
    the head is always new, and nobody would ever be behind.
    """
    return tuple(_standing(one, due.get(one.list), now) for one in loaded if now - one.seen_at <= FORGOTTEN_AFTER)


def _standing(one: Loaded, due: int | None, now: datetime) -> Standing:
    return Standing(one, due, due is not None and one.version < due, now - one.seen_at > SILENT_AFTER)
