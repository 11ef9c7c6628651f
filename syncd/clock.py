"""Times taken from a clock: which of them lie in the future, and which time may replace those. Pure.

Even if a clock is ahead only for a moment, it leaves times in the future: signatures that are valid for too long,
verifications that do not age, and floors below which every later sync or pull is refused, until real time has caught
up. syncd cannot know whether the clock was ahead then or is behind now, so a person accepts the present clock by
stating the time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.errors import RefusedError, UsageError
from syncd.units import clock_is_behind, span, stamp

CORRECT: Final = "check the clock of this host and correct it"
EXAMPLE: Final = "2026-11-29T11:40Z"
ACCEPT: Final = "if it is right, it was ahead before: run `syncd clock accept TIME --reason R`"
"""The cure for an operator's state, once the clock is right."""
ACCEPT_IN_FEED: Final = "if it is right, it was ahead before: run `syncd feed renew FEED --accept-clock TIME`"
"""The cure for a partner's feed."""
ACCEPT_IN_COPY: Final = "if it is right, it was ahead before: run the same `syncd pull` with `--accept-clock TIME`"
"""The cure for a pulled copy."""
_RENEW: Final = (
    "if it is right, it was ahead when they were signed: run `syncd feed renew STATE --state --offline-keys DIR "
    "--accept-clock TIME --reason R` with the daemon stopped"
)
_MOST: Final = 3
"""Times that a fault names; the others are counted."""


@dataclass(frozen=True)
class ClockReading:
    """A time that was taken from a clock."""

    what: str
    """the thing it dates, such as "the signature of timestamp" """
    at: datetime
    role: str = ""
    """the role that was signed; "" if it is not the time of a signature"""
    offline: bool = False
    """true if only offline keys can sign that role again"""

    def ahead(self, now: datetime) -> timedelta:
        """Return how far it lies in the future; below zero if it is past."""
        return self.at - now

    def in_words(self, now: datetime) -> str:
        """Return what it is, and how far it lies in the future."""
        return f"{self.what} is dated {span(self.ahead(now))} in the future ({stamp(self.at)})"


def in_future(readings: Iterable[ClockReading], now: datetime) -> tuple[ClockReading, ...]:
    """Return the readings further in the future than clocks may differ, the furthest first."""
    ahead = (reading for reading in readings if clock_is_behind(-reading.ahead(now)))
    return tuple(sorted(ahead, key=lambda reading: (-reading.ahead(now), reading.what)))


def newest_past(readings: Iterable[ClockReading], now: datetime) -> ClockReading | None:
    """Return the newest reading that is not in the future; None if there is none."""
    past = (reading for reading in readings if not clock_is_behind(-reading.ahead(now)))
    return max(past, key=lambda reading: reading.at, default=None)


def check_accepted(
    time: datetime, corrected: Sequence[ClockReading], held: Iterable[ClockReading], now: datetime
) -> tuple[ClockReading, ...]:
    """Return the readings of ``corrected`` that lie in the future, after checking that ``time`` may replace them.

    ``time`` may not be before the newest time of ``corrected`` and ``held`` that is not in the future. Raises
    `RefusedError` if there is nothing to correct, and `UsageError` if ``time`` is in the future or too early.
    """
    ahead = in_future(corrected, now)
    if not ahead:
        raise RefusedError(
            "there is no clock to accept: no recorded time lies in the future",
            hint=f"this host's clock says {stamp(now)}; if it is wrong, correct it. Nothing was changed",
        )
    if clock_is_behind(now - time):
        raise UsageError(
            f"{stamp(time)} is in the future: this host's clock says {stamp(now)}",
            hint="correct this host's clock first, then give the time that it shows; nothing was changed",
        )
    newest = newest_past((*corrected, *held), now)
    if newest is not None and time < newest.at.replace(microsecond=0):
        raise UsageError(
            f"{stamp(time)} is too early: {newest.what} is dated {stamp(newest.at)}, which is not in the future",
            hint=f"give a time from {stamp(newest.at)} to {stamp(now)}, the time of this host's clock; "
            "nothing was changed",
        )
    return ahead


@dataclass(frozen=True)
class ClockFault:
    """Times that lie in the future: the clock was ahead when they were written, or is behind now."""

    now: datetime
    ahead: tuple[ClockReading, ...]
    """the furthest first, at least one"""
    of_partner: bool = False
    """true for a partner's feed, false for an operator's state"""

    @property
    def furthest(self) -> timedelta:
        """How far the latest of these times lies in the future."""
        return self.ahead[0].ahead(self.now)

    @property
    def why(self) -> str:
        """The times that lie in the future, in words."""
        more = len(self.ahead) - _MOST
        named = [reading.in_words(self.now) for reading in self.ahead[:_MOST]]
        return "; ".join([*named, *([f"and {more} more"] if more > 0 else [])])

    @property
    def to_do(self) -> str:
        """The action to take."""
        if self.of_partner:
            return f"{CORRECT}; {ACCEPT_IN_FEED}"
        return f"{CORRECT}; {_RENEW if all(reading.offline for reading in self.ahead) else ACCEPT}"


def clock_fault(readings: Iterable[ClockReading], now: datetime, *, of_partner: bool = False) -> ClockFault | None:
    """Judge the times of a state or a feed; None if none of them lies in the future."""
    ahead = in_future(readings, now)
    return ClockFault(now, ahead, of_partner) if ahead else None
