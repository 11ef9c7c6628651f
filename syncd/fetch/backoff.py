"""How long to leave a peer alone. Pure: random numbers, from 0 to 1, are arguments."""

from typing import Final

from syncd.errors import HttpStatusError, SourceError

JITTER: Final = 0.2
"""The fraction by which a wait is longer or shorter, so that many hosts do not come at once forever."""

_LONGEST_BACKOFF: Final = 600.0
_LONGEST_RETRY_AFTER: Final = 3600.0
"""A limit, so that a peer cannot keep a copy old as long as it likes."""
_SHORTEST: Final = 1.0
_DOUBLINGS: Final = 16


def vary(interval: float, jitter: float, random: float) -> float:
    """Make ``interval`` longer or shorter by up to the fraction ``jitter``; ``random`` is from 0 to 1."""
    return interval * (1.0 + jitter * (2.0 * random - 1.0))


def backoff(error: SourceError, failures: int, interval: float, random: float) -> float:
    """Return the seconds to leave a peer alone after ``failures`` in a row: exponential, with full jitter.

    The wait is anything up to the longest, so that hosts which failed together do not come back together, but not
    shorter than the peer asks for (RFC 9110, 10.2.3), up to an hour.
    """
    longest = min(interval * (1 << min(failures, _DOUBLINGS)), max(interval, _LONGEST_BACKOFF))
    seconds = max(_SHORTEST, longest * random)
    asked = error.retry_after if isinstance(error, HttpStatusError) else None
    return (
        seconds if asked is None else min(asked, _LONGEST_RETRY_AFTER) + vary(_SHORTEST, 1, random) + seconds * JITTER
    )
