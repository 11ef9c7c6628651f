"""The outcome of a sync and of each of its lists, for the catalog, the log and the commands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from syncd.catalog.decisions import CanaryNote, HoldRecord
from syncd.catalog.records import SyncFault
from syncd.errors import SyncdError, kind_of
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import HoldReason, Outcome, cure, reasons_in_words, worst_code
from syncd.trust.overlong import LateExpiry
from syncd.units import brief

_REASONS: Final = 50
"""reasons for setting fingerprints aside that are reported of one sync"""


@dataclass(frozen=True)
class ListOutcome:
    """The outcome of one list."""

    list: ListName
    outcome: Outcome
    version: int | None = None
    """the version served now; ``rows`` are its entries, or those of the candidate in a dry run"""
    serial: int | None = None
    plan: str = ""
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    labels: Mapping[Algorithm, Mapping[str, Counts]] = field(default_factory=dict)
    rows: int = 0
    reasons: tuple[HoldReason, ...] = ()
    """why it is held"""
    error: SyncdError | None = None
    holds: tuple[HoldRecord, ...] = ()
    """the holds that are open now"""
    opened: tuple[HoldRecord, ...] = ()
    """the holds that this sync opened"""
    ended: tuple[HoldRecord, ...] = ()
    """the holds that this sync ended"""
    known_good: Mapping[Algorithm, int] = field(default_factory=dict)
    """rows of the update that are kept out because they are known to be good"""

    @property
    def message(self) -> str:
        """Why the update was not published; '' if it was."""
        if self.error is not None:
            return self.error.message
        if self.outcome is not Outcome.HELD:
            return ""
        messages = dict.fromkeys(hold.message for hold in self.holds or self.opened)
        return "; ".join(messages) or reasons_in_words(self.reasons)

    @property
    def to_do(self) -> str:
        """The action to take; '' if none is needed."""
        if self.error is not None:
            return self.error.hint
        return cure(self.reasons, (hold.id for hold in self.holds)) if self.outcome is Outcome.HELD else ""

    @property
    def serving(self) -> str:
        """The version that is still served."""
        if self.error is not None:
            return self.error.serving
        return f"{self.list} version {self.version}" if self.version else f"nothing of {self.list} yet"

    @property
    def exit_code(self) -> int:
        """The exit code of a command that reports it."""
        if self.error is not None:
            return self.error.exit_code
        return self.outcome.exit_code


@dataclass(frozen=True)
class MendedList:
    """A list whose local segments were damaged, and were repaired or fetched again."""

    list: ListName
    """the published name"""
    error: SyncdError


@dataclass(frozen=True)
class SyncOutcome:
    """The outcome of one sync. ``error``: the error that stopped the whole sync, if any.

    ``warnings``: faults that stopped nothing, such as a known-good file that cannot be used.
    """

    sync_id: str
    source: str
    lists: tuple[ListOutcome, ...] = ()
    seconds: float = 0.0
    bytes: int = 0
    error: SyncdError | None = None
    warnings: tuple[SyncdError, ...] = ()
    mended: tuple[MendedList, ...] = ()
    """lists whose local segments were damaged"""
    late_expiry: LateExpiry | None = None
    """the expiry of the source's timestamp, if this sync first found that it does not count in full"""
    canaries: tuple[CanaryNote, ...] = ()
    """lists that lack more of their must-have digests than after the last sync"""
    opened: tuple[HoldRecord, ...] = ()
    """holds of changed known-good files that this sync opened"""
    ended: tuple[HoldRecord, ...] = ()
    """holds that a changed known-good file ended"""
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """by a short reason: fingerprints and fields of a partner that signs nothing which were not used"""

    @property
    def outcome(self) -> Outcome:
        """The outcome of the worst list; if all went well, ``published`` or ``staged`` if any list was."""
        if self.error is not None:
            return self.error.outcome
        code = self.exit_code
        worst = [result.outcome for result in self.lists if result.exit_code == code]
        changed = [outcome for outcome in (Outcome.PUBLISHED, Outcome.STAGED) if outcome in worst]
        return (changed or worst or [Outcome.UP_TO_DATE])[0]

    @property
    def faults(self) -> dict[str, SyncFault]:
        """The faults by list name; ``""`` stands for the whole sync."""
        faults = {
            str(result.list): _fault(result.outcome, result.error, result.reasons)
            for result in self.lists
            if result.exit_code
        }
        return faults if self.error is None else {**faults, "": _fault(self.outcome, self.error)}

    @property
    def exit_code(self) -> int:
        """The first of 1, 4, 3, 6, 5, 0 that occurred."""
        return worst_code([error.exit_code for error in (self.error, *self.lists) if error])


def _fault(outcome: Outcome, error: SyncdError | None, reasons: tuple[str, ...] = ()) -> SyncFault:
    return SyncFault(outcome, (kind_of(error),), error.message) if error else SyncFault(outcome, reasons)


def set_aside_by(reasons: Mapping[str, int]) -> dict[str, int]:
    """Return the counts by reason as they may be shown: a worker parses foreign bytes, and its texts are cut."""
    found: dict[str, int] = {}
    for reason, number in sorted(reasons.items())[:_REASONS]:
        found[brief(reason)] = found.get(brief(reason), 0) + number
    return found
