"""Outcomes and reasons to hold: the exit code, level, urgency, words and remedy of each are defined only here.

This module imports nothing heavy, so that any code that reports an outcome can use it.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_EXIT_CODE_ORDER: Final = (1, 4, 3, 6, 5, 0)


class Level(enum.StrEnum):
    """The importance of an event to a person."""

    INFO = "info"
    """normal operation"""
    WARNING = "warning"
    """something failed and will be retried automatically"""
    ERROR = "error"
    """a person must act"""


class Outcome(enum.StrEnum):
    """The outcome of a sync; `RUNNING` until it has ended."""

    exit_code: int
    """of a command with this outcome"""
    level: Level
    """of the event that reports it"""
    urgent: bool
    """true if a person must act at once; otherwise watching is enough"""
    _to_do: str

    def __new__(
        cls, value: str, exit_code: int = 0, level: Level = Level.INFO, urgent: bool = False, to_do: str = ""
    ) -> "Outcome":
        """Make a member whose value is the text alone."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.exit_code, member.level, member.urgent, member._to_do = exit_code, level, urgent, to_do
        return member

    RUNNING = "running"
    PUBLISHED = "published"
    UP_TO_DATE = "up_to_date"
    STAGED = "staged"
    HELD = (
        "held",
        3,
        Level.ERROR,
        True,
        "Ask the partner whether this was intended. `syncd holds` shows what waits: `syncd release HOLD --reason R` "
        "publishes it, `syncd discard HOLD --reason R` drops it.",
    )
    REJECTED = "rejected", 4, Level.ERROR, True, "Ask the partner: the same data will be rejected again."
    UNREACHABLE = (
        "unreachable",
        5,
        Level.WARNING,
        False,
        "Wait: syncd tries again. If it lasts, look at the network, or ask the partner.",
    )
    REFUSED = "refused", 6, Level.WARNING, True, "Do what the reason says, then `syncd sync {source}`."
    FAILED = (
        "failed",
        1,
        Level.ERROR,
        True,
        "Look at the storage of this host: free space, modes. Then `syncd sync {source}`.",
    )
    INTERRUPTED = (
        "interrupted",
        6,
        Level.WARNING,
        False,
        "Nothing: the next sync goes on from there. Or ask for it now: `syncd sync {source}`.",
    )

    @property
    def good(self) -> bool:
        """True if nobody has to do anything."""
        return self in {Outcome.PUBLISHED, Outcome.UP_TO_DATE, Outcome.STAGED}

    def to_do(self, source: str) -> str:
        """Return what to do after a sync of ``source`` with this outcome; '' if nothing."""
        return self._to_do.format(source=source)


class HoldReason(enum.StrEnum):
    """Why an authentic update waits for an operator."""

    words: str
    """why, for people"""
    to_do: str
    """what to find out before it is released or discarded"""

    def __new__(cls, value: str, words: str = "", to_do: str = "") -> "HoldReason":
        """Make a member whose value is the text alone."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words, member.to_do = words, to_do
        return member

    EMPTIED = (
        "emptied",
        "the update would leave the list without any entry",
        "ask the partner whether this was intended",
    )
    FORKED = (
        "forked",
        "the update does not descend from the version held",
        "ask the partner whether they restored a backup: if not, somebody else may have their keys",
    )
    RETIRED = (
        "retired",
        "the update retires the list: the partner no longer publishes it",
        "ask the partner whether this was intended, and which list replaces it",
    )
    SHRUNK = (
        "shrunk",
        "more rows would be removed than the limits allow",
        "ask the partner whether this was intended",
    )
    GROWN = (
        "grown",
        "more rows would be added than the limits allow",
        "ask the partner whether this was intended",
    )
    RELABELLED = (
        "relabelled",
        "more rows would get another label than the limits allow",
        "ask the partner whether the labels changed their meaning",
    )
    TOO_SMALL = (
        "too_small",
        "fewer rows would be left than `min_rows`",
        "ask the partner whether the list is complete",
    )
    TOO_LARGE = (
        "too_large",
        "more rows would be on the list than `max_rows`",
        "ask the partner whether this was intended",
    )
    UNKNOWN_ALGORITHM = (
        "unknown_algorithm",
        "rows of an algorithm that `known_algorithms` does not name",
        "find out whether your matchers can use it, and add it to `known_algorithms`",
    )
    UNKNOWN_LABEL = (
        "unknown_label",
        "rows with a label that `known_labels` does not name",
        "ask the partner what it means, decide what a hit with it should do, and add it to `known_labels`",
    )
    BAD_ROWS = (
        "bad_rows",
        "more bad rows would be left out than the limits allow",
        "look at the file of bad rows: whoever makes the list has to correct them",
    )
    SERIAL_JUMP = (
        "serial_jump",
        "the upstream's serial rose by more than `max_serial_jump`",
        "ask the partner whether they moved or rebuilt their feed",
    )
    CANARY_MISSING = (
        "must_have",
        "digests that must be present would no longer be on the list",
        "ask the partner whether they replaced their test vectors, and correct `must_have_file`",
    )
    KNOWN_GOOD = (
        "known_good",
        "more rows than `max_known_good` are of files known to be good; they are kept out in any case",
        "ask the partner where they come from, and what the other rows of that update are",
    )
    KNOWN_GOOD_FILE = (
        "known_good_file",
        "the changed known-good file would take more rows off the list than one operator may in 24 hours",
        "have an operator who did not change the file look at it and decide",
    )
    SECOND_OPERATOR = (
        "second_operator",
        "one operator suppressed more rows of a list in 24 hours than one may without a second",
        "have another operator look at `syncd suppressions` and decide",
    )


@dataclass(frozen=True)
class Finding:
    """A reason to hold, with its numbers. ``algorithm`` and ``label`` are empty if it is about the whole list."""

    reason: HoldReason
    algorithm: str = ""
    label: str = ""
    window: str = ""
    """the period that the limit is for, such as "7 days"; empty: this change alone"""
    rows: int = 0
    """rows that would change, or that would be left"""
    before: int = 0
    """rows of the same kind that changed earlier in the period"""
    of: int = 0
    """the rows on the list that a percentage refers to"""
    allowed: int = 0

    @property
    def words(self) -> str:
        """The reason for people, with its numbers if it has any."""
        if not self.rows and not self.allowed:
            return self.reason.words
        part = " ".join(filter(None, [self.algorithm, f"label {self.label}" if self.label else ""]))
        of = f" of {self.of:,}" if self.of else ""
        period = f" in {self.window}" if self.window else ""
        where = f" ({part})" if part else ""
        unit = "" if self.reason in _WITHOUT_ROWS else " rows"
        return f"{self.reason.words}: {self.before + self.rows:,}{of}{unit}{where}{period}, limit {self.allowed:,}"


_WITHOUT_ROWS: Final = frozenset({HoldReason.SERIAL_JUMP, HoldReason.CANARY_MISSING})
"""Reasons whose numbers do not count rows."""


class Lane(enum.StrEnum):
    """The kind of rows that a hold keeps back."""

    ADDITIONS = "additions"
    """rows to add or to relabel"""
    REMOVALS = "removals"
    BOTH = "both"
    """a whole update, whose identity is in doubt"""
    SUPPRESSIONS = "suppressions"
    """an operator's own corrections, which wait for a second operator"""


_CURE: Final = (
    "`syncd holds` names it: `syncd release HOLD --reason R` publishes it, `syncd discard HOLD --reason R` drops it"
)
CONFIRM: Final = (
    "`syncd release {0} --reason R` puts the suppressions in force, `syncd discard {0} --reason R` drops them"
)
CANARY_CURE: Final = "ask the partner whether they replaced their test vectors, and correct `must_have_file`"
_CURE_OF: Final = "`syncd release {0} --reason R` publishes it, `syncd discard {0} --reason R` drops it"


def reasons_in_words(reasons: Iterable[str]) -> str:
    """Return the reasons of a sync for people: reasons to hold in words, the kind of an error unchanged."""
    words = {str(reason): reason.words for reason in HoldReason}
    return ", ".join(words.get(reason, reason) for reason in reasons)


def cure(reasons: Iterable[str], holds: Iterable[int] = ()) -> str:
    """Return what to do about rows held for ``reasons``. ``holds``: the numbers of the holds, if known."""
    given = set(reasons)
    act = CONFIRM if given == {HoldReason.SECOND_OPERATOR} else _CURE_OF
    acts = [act.format(number) for number in holds] or [_CURE]
    asked = dict.fromkeys(reason.to_do for reason in HoldReason if reason in given)
    return "; ".join([*asked, *acts])


def joined(reasons: Iterable[str]) -> str:
    """Join reasons into one text, for documents that have a text field beside the list of reasons."""
    return ", ".join(reasons)


def worst_code(codes: Iterable[int]) -> int:
    """Return the exit code that represents several: the first of 1, 4, 3, 6, 5, 0 that occurred."""
    occurred = set(codes)
    return next((code for code in _EXIT_CODE_ORDER if code in occurred), max(occurred, default=0))
