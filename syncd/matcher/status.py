"""How one list stands, as a matcher answers from it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.errors import SyncdError
from syncd.feed.snapshot import Snapshot
from syncd.model import ListName
from syncd.trust.values import TrustedFeed

_WARNED: Final = timedelta(days=7)


@dataclass(frozen=True)
class ListStatus:
    """One list as this matcher answers from it."""

    list: ListName
    version: int
    rows: int
    serial: int | None
    """the upstream's own number"""
    verified_at: datetime | None
    """when the feed's operator last verified the upstream, as of the last pull that brought this list up to date"""
    age: timedelta | None
    expired: tuple[str, ...]
    """roles of the metadata of that pull that are past their expiry: nobody vouches for freshness any more"""
    error: SyncdError | None = None
    """what keeps a newer generation out"""
    retired: datetime | None = None
    """since when the list is no longer published: look-ups that do not name it skip it"""


def retirement_warning(name: ListName, since: datetime | None, now: datetime) -> str:
    """The warning about a list that was retired within the last seven days; "" for any other."""
    if since is None or now - since > _WARNED:
        return ""
    return f"{name} was retired on {since:%Y-%m-%d}: look-ups go on without it"


def list_status(snapshot: Snapshot, trusted: TrustedFeed, now: datetime, error: SyncdError | None) -> ListStatus:
    """The status of a snapshot that ``trusted`` vouches for; ``error``: what keeps a newer one out."""
    name = snapshot.manifest.list
    fresh = trusted.freshness.get(name)
    return ListStatus(
        name,
        snapshot.manifest.version,
        snapshot.manifest.rows,
        fresh.serial if fresh else None,
        fresh.verified_at if fresh else None,
        now - fresh.verified_at if fresh else None,
        trusted.stale(now),
        error,
        snapshot.manifest.retired.since if snapshot.manifest.retired else None,
    )
