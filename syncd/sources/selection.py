"""``include`` and ``exclude``: which of a partner's records are taken. Pure.

A record that is not taken counts as removed: it may have been taken in an earlier state.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class RecordFilter:
    """Properties of records, in the partner's words; case does not matter. An empty one is not looked at."""

    members: tuple[str, ...] = ()
    classifications: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    votes: int = 0
    """for `include` at least so many members in favour, for `exclude` at least so many against; 0: not looked at"""


NO_FILTER: Final = RecordFilter()


class RecordSelection:
    """Both filters of a source, ready to use."""

    def __init__(self, include: RecordFilter, exclude: RecordFilter) -> None:
        self._include, self._exclude = _folded(include), _folded(exclude)
        self.least_for, self.least_against = include.votes, exclude.votes
        self.counts_votes = bool(include.votes or exclude.votes)

    def takes_member(self, member: str) -> bool:
        """Return True if the records or opinions of a member are taken."""
        return self._takes("members", [member])

    def takes_classifications(self, words: Collection[str]) -> bool:
        """Return True if a record with these classifications is taken: one is included, and none is excluded."""
        return self._takes("classifications", words)

    def takes_statuses(self, words: Collection[str]) -> bool:
        """Return True if a record with these statuses is taken: one is included, and none is excluded."""
        return self._takes("statuses", words)

    def takes_votes(self, in_favour: int, against: int) -> bool:
        """Return True if the votes of distinct members let a record or fingerprint in."""
        return in_favour >= self.least_for and not 0 < self.least_against <= against

    def _takes(self, key: str, words: Collection[str]) -> bool:
        included, excluded = self._include[key], self._exclude[key]
        if not included and not excluded:
            return True
        folded = {word.casefold() for word in words}
        return (not included or not included.isdisjoint(folded)) and excluded.isdisjoint(folded)


def _folded(words: RecordFilter) -> dict[str, frozenset[str]]:
    keys = ("members", "classifications", "statuses")
    return {key: frozenset(word.casefold() for word in getattr(words, key)) for key in keys}
