"""What came of a sync, as the catalog keeps it and the commands tell it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.catalog.records import HoldRecord, SyncFault
from syncd.errors import SyncdError, kind_of
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import HoldReason, Outcome, cure, reasons_in_words, worst_code


@dataclass(frozen=True)
class ListOutcome:
    """What came of one list."""

    list: ListName
    outcome: Outcome
    version: int | None = None
    """what is served now, with ``rows``; those of a dry run's candidate"""
    serial: int | None = None
    plan: str = ""
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    labels: Mapping[Algorithm, Mapping[str, Counts]] = field(default_factory=dict)
    rows: int = 0
    reasons: tuple[HoldReason, ...] = ()
    """why it is held"""
    error: SyncdError | None = None
    holds: tuple[HoldRecord, ...] = ()
    """those that are open now"""
    opened: tuple[HoldRecord, ...] = ()
    """those that this sync opened"""
    ended: tuple[HoldRecord, ...] = ()
    """those that it ended"""

    @property
    def message(self) -> str:
        """What kept the update out; '' where nothing did."""
        if self.error is not None:
            return self.error.message
        return reasons_in_words(self.reasons) if self.outcome is Outcome.HELD else ""

    @property
    def to_do(self) -> str:
        """What to do about it."""
        if self.error is not None:
            return self.error.hint
        return cure(self.reasons, (one.id for one in self.holds)) if self.outcome is Outcome.HELD else ""

    @property
    def serving(self) -> str:
        """What is served all the same."""
        if self.error is not None:
            return self.error.serving
        return f"{self.list} version {self.version}" if self.version else f"nothing of {self.list} yet"

    @property
    def exit_code(self) -> int:
        """As the commands return it."""
        if self.error is not None:
            return self.error.exit_code
        return self.outcome.exit_code


@dataclass(frozen=True)
class SyncOutcome:
    """What came of one sync. ``error`` is what kept the whole of it from going on."""

    sync_id: str
    source: str
    lists: tuple[ListOutcome, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    error: SyncdError | None = None

    @property
    def outcome(self) -> Outcome:
        """The worst, or where all went well, whether anything was published, or would be."""
        if self.error is not None:
            return self.error.outcome
        code = self.exit_code
        worst = [one.outcome for one in self.lists if one.exit_code == code]
        news = [one for one in (Outcome.PUBLISHED, Outcome.STAGED) if one in worst]
        return (news or worst or [Outcome.UP_TO_DATE])[0]

    @property
    def faults(self) -> dict[str, SyncFault]:
        """What did not go well, by list; ``""``: the whole of it."""
        found = {str(one.list): _fault(one.outcome, one.error, one.reasons) for one in self.lists if one.exit_code}
        return found if self.error is None else {**found, "": _fault(self.outcome, self.error)}

    @property
    def exit_code(self) -> int:
        """Of several the first of 1, 4, 3, 6, 5, 0 that occurred."""
        return worst_code([error.exit_code for error in (self.error, *self.lists) if error])


def _fault(outcome: Outcome, error: SyncdError | None, reasons: tuple[str, ...] = ()) -> SyncFault:
    return SyncFault(outcome, (kind_of(error),), error.message) if error else SyncFault(outcome, reasons)
