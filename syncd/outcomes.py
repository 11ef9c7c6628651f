"""The meaning of outcomes and of reasons to hold: exit code, level, urgency, words and cure, each written here alone.

Light: whatever reports an outcome can import this.
"""

import enum
from collections.abc import Iterable
from typing import Final

_EXIT_CODE_ORDER: Final = (1, 4, 3, 6, 5, 0)


class Level(enum.StrEnum):
    """How much an event matters to a person."""

    INFO = "info"
    """things go their way"""
    WARNING = "warning"
    """something did not work that is tried again by itself"""
    ERROR = "error"
    """a person must act"""


class Outcome(enum.StrEnum):
    """How a sync ended; `RUNNING` until it has."""

    exit_code: int
    """of a command that ends in it"""
    level: Level
    """of the event that reports it"""
    urgent: bool
    """true if a person must act at once, rather than keep an eye on it"""
    _to_do: str

    def __new__(
        cls, value: str, exit_code: int = 0, level: Level = Level.INFO, urgent: bool = False, to_do: str = ""
    ) -> "Outcome":
        """Make a member; by its text alone it is found again."""
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
        "Ask the partner whether this was meant. `syncd holds` shows what waits: `syncd release HOLD --reason R` "
        "publishes it, `syncd discard HOLD --reason R` drops it.",
    )
    REJECTED = "rejected", 4, Level.ERROR, True, "Ask the partner: the same bytes will not get better."
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
        """True if nobody must do anything after it."""
        return self in {Outcome.PUBLISHED, Outcome.UP_TO_DATE, Outcome.STAGED}

    def to_do(self, source: str) -> str:
        """Return what to do after a sync of ``source`` that ended so; '' if nothing is."""
        return self._to_do.format(source=source)


class HoldReason(enum.StrEnum):
    """Why an authentic update waits for an operator."""

    words: str
    """why, for people"""
    to_do: str
    """what to find out before it is released or discarded"""

    def __new__(cls, value: str, words: str = "", to_do: str = "") -> "HoldReason":
        """Make a member; by its text alone it is found again."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words, member.to_do = words, to_do
        return member

    EMPTIED = (
        "emptied",
        "the update would leave the list without any entry",
        "ask the partner whether this was meant",
    )
    FORKED = (
        "forked",
        "the update does not descend from the version held",
        "ask the partner whether they restored a backup: if not, somebody else signs",
    )
    RETIRED = (
        "retired",
        "the update retires the list: the partner no longer publishes it",
        "ask the partner whether this was meant, and which list takes its place",
    )


class Lane(enum.StrEnum):
    """What kind of rows a hold keeps back."""

    ADDITIONS = "additions"
    """rows to add or to relabel"""
    REMOVALS = "removals"
    BOTH = "both"
    """a whole update, whose identity is in doubt"""


_CURE: Final = (
    "`syncd holds` names it: `syncd release HOLD --reason R` publishes it, `syncd discard HOLD --reason R` drops it"
)
_CURE_OF: Final = "`syncd release {0} --reason R` publishes it, `syncd discard {0} --reason R` drops it"


def reasons_in_words(reasons: Iterable[str]) -> str:
    """Write a sync's reasons for people: reasons to hold in words, and the kind of an error as it is."""
    known = {str(one): one.words for one in HoldReason}
    return ", ".join(known.get(one, one) for one in reasons)


def cure(reasons: Iterable[str], holds: Iterable[int] = ()) -> str:
    """Say what to do about what is held for ``reasons``: ``holds`` are the numbers of the holds, if they are known."""
    given = set(reasons)
    acts = [_CURE_OF.format(number) for number in holds] or [_CURE]
    return "; ".join([*(one.to_do for one in HoldReason if one in given), *acts])


def joined(reasons: Iterable[str]) -> str:
    """Write reasons as one text, for documents that promise one; beside it they have the reasons themselves."""
    return ", ".join(reasons)


def worst_code(codes: Iterable[int]) -> int:
    """The exit code that stands for several: the first of 1, 4, 3, 6, 5, 0 that occurred."""
    occurred = set(codes)
    return next((code for code in _EXIT_CODE_ORDER if code in occurred), max(occurred, default=0))
