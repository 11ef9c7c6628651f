"""How long to leave a peer alone. Pure: chances, from 0 to 1, are arguments."""

from typing import Final

from syncd.errors import HttpStatusError, SourceError

JITTER: Final = 0.2
"""A wait is this part longer or shorter, so that many hosts do not come at once for ever."""

_LONGEST_BACKOFF: Final = 600.0
_LONGEST_RETRY_AFTER: Final = 3600.0
"""A peer that asks for more would keep a copy old for as long as it likes."""
_SHORTEST: Final = 1.0
_DOUBLINGS: Final = 16


def vary(interval: float, jitter: float, chance: float) -> float:
    """``interval`` longer or shorter by up to the part ``jitter``; ``chance`` is from 0 to 1."""
    return interval * (1.0 + jitter * (2.0 * chance - 1.0))


def backoff(error: SourceError, failures: int, interval: float, chance: float) -> float:
    """Seconds to leave a peer alone after so many failures in a row: exponential, with full jitter.

    Anything up to the longest wait, so that those who failed together do not come back together; never earlier than
    the peer asks for (RFC 9110, 10.2.3), up to an hour.
    """
    longest = min(interval * (1 << min(failures, _DOUBLINGS)), max(interval, _LONGEST_BACKOFF))
    seconds = max(_SHORTEST, longest * chance)
    asked = error.retry_after if isinstance(error, HttpStatusError) else None
    return (
        seconds if asked is None else min(asked, _LONGEST_RETRY_AFTER) + vary(_SHORTEST, 1, chance) + seconds * JITTER
    )
