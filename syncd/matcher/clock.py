"""Times of a pulled copy that lie in the future, and accepting the clock once it is right again."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from syncd.clock import ClockReading, check_accepted, in_future
from syncd.errors import SyncdError
from syncd.feed.folder import TRUST, FeedFolder
from syncd.matcher.copy import CurrentFile
from syncd.model import ListName
from syncd.trust.client import stored_expiries
from syncd.trust.overlong import LateExpiry
from syncd.trust.values import TIMESTAMP, TrustedFeed, role_of, signed_at

_TIMESTAMP: Final = role_of(TIMESTAMP)


def accepted_clock(copy: FeedFolder, current: CurrentFile | None, time: datetime, now: datetime) -> datetime:
    """Return ``time`` as the new clock floor of a copy, after checking that it may replace the time of the last pull.

    Raises `RefusedError` if the last pull does not lie in the future, `UsageError` if ``time`` does or is too early.
    """
    floor = [ClockReading("the last pull into this copy", current.updated)] if current else []
    check_accepted(time, floor, _held(copy, current), now)
    return time


def _held(copy: FeedFolder, current: CurrentFile | None) -> Iterator[ClockReading]:
    """Yield the times signed by the feed's operator, whose clock is not ours."""
    for name, held in current.lists.items() if current else ():
        if held.verified_at is not None:
            yield ClockReading(f"the verification of {name}", held.verified_at)
    expires = None
    with suppress(SyncdError):  # it is damaged: the pull fetches it again
        expires = stored_expiries(copy.work / TRUST).get(_TIMESTAMP)
    if expires is not None:
        yield ClockReading("the timestamp of the feed", signed_at(_TIMESTAMP, expires))


def signed_ahead(trusted: TrustedFeed, now: datetime, name: ListName | None = None) -> timedelta | None:
    """Return how far a feed's timestamp, or the verification of a list, lies in the future; None if none of them does.

    ``name``: the only list to look at; None for all lists.
    """
    readings = [ClockReading(_TIMESTAMP, signed_at(_TIMESTAMP, trusted.expires[_TIMESTAMP]))]
    fresh = trusted.freshness.items()
    readings += [ClockReading(listed, one.verified_at) for listed, one in fresh if name in {None, listed}]
    ahead = in_future(readings, now)
    return ahead[0].ahead(now) if ahead else None


def late_expiry(trusted: TrustedFeed) -> LateExpiry | None:
    """Return the expiry of a feed's timestamp if it is far too late and does not count in full; otherwise None."""
    return LateExpiry(trusted.expires[_TIMESTAMP], trusted.counts_until) if trusted.counts_until else None
