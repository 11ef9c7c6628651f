"""The signature of the operator's timestamp: due every hour, sooner for lists that may not look old."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from syncd.clock import ACCEPT
from syncd.feed.folder import TRUST, FeedFolder
from syncd.format.freshness import SourceAges
from syncd.pipeline.publisher import Publisher
from syncd.publish import author
from syncd.trust.client import stored_expiries
from syncd.trust.values import signed_at
from syncd.units import clock_is_behind

RESIGN_AFTER: Final = timedelta(hours=1)


def sign_if_due(
    publisher: Publisher,
    now: datetime,
    sources: Iterable[SourceAges | None] = (),
    *,
    confirmed: Callable[[datetime], bool] = lambda _now: False,
) -> bool:
    """Sign the timestamp if it is an hour old, so that matchers learn when each upstream was last verified.

    It is signed more often if lists of ``sources`` would otherwise look older than they may be.

    A signature or verification dated in the future was made by a clock that ran ahead, and is corrected at once.
    Returns True if signing was due. Raises `StoreError`, and `RefusedError` if the last signature is so far ahead that
    the present clock may be wrong (its signature would expire at once), unless the clock is ``confirmed``.
    """
    last = check_clock(publisher, now, confirmed)
    corrected = publisher.catalog.correct_verified(now)
    sign_after = min((RESIGN_AFTER, *(ages.sign_after for ages in sources if ages)))
    due = corrected or clock_is_behind(now - last) or now - last >= sign_after
    if due:
        publisher.resign(now)
    return due


def check_clock(publisher: Publisher, now: datetime, confirmed: Callable[[datetime], bool]) -> datetime:
    """Return when the timestamp was signed last, if a signature by the present clock would not expire at once.

    Raises `RefusedError` as `sign_if_due`, which checks this before it signs, and `StoreError`.
    """
    last = publisher.last_signed()
    if not (clock_is_behind(now - last) and confirmed(now)):
        author.check_timestamp(last, now, ACCEPT)
    return last


def is_confirmed_by(folder: FeedFolder, now: datetime) -> bool:
    """Return True if a source's timestamp, which was verified just now, is valid at ``now`` and not from the future."""
    expires = stored_expiries(folder.work / TRUST).get("timestamp")
    return expires is not None and now < expires and not clock_is_behind(now - signed_at("timestamp", expires))
