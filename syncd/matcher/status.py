"""The status of one list in a matcher."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.errors import SyncdError
from syncd.feed.proof_record import ProofRecord
from syncd.feed.snapshot import Snapshot
from syncd.format.freshness import FARTHEST, AgeVerdict, MaxAge
from syncd.matcher.age import ListAges, limits_of
from syncd.matcher.clock import late_expiry, signed_ahead
from syncd.model import ListName
from syncd.trust.overlong import LateExpiry
from syncd.trust.values import TrustedFeed

_WARNED: Final = timedelta(days=7)


@dataclass(frozen=True)
class ListStatus:
    """The status of one list that a matcher answers from."""

    list: ListName
    version: int
    rows: int
    serial: int | None
    """the upstream's version number"""
    verified_at: datetime | None
    """when the feed's operator last verified the upstream, as of the last successful pull of this list"""
    age: timedelta | None
    """since then; None if the feed does not state it, below zero if the local clock is behind"""
    expired: tuple[str, ...]
    """roles whose metadata, from that pull, has expired: nobody vouches for freshness any more"""
    max_age: MaxAge
    """the limits of its age, which its manifest states, or a reader's own"""
    freshness: AgeVerdict | None
    """the judgement of its age; None if it is retired"""
    error: SyncdError | None = None
    """the error that prevents loading a newer generation"""
    retired: datetime | None = None
    """since when the list is no longer published; look-ups skip it unless they name it"""
    ahead: timedelta | None = None
    """how far its verification, or the timestamp that states it, lies in the future; None: they do not"""
    late_expiry: LateExpiry | None = None
    """the expiry of that timestamp, if it is far too late and does not count in full"""
    proved_at: datetime | None = None
    """when all files of the copy were last proved again; None if that is not known"""
    damage: SyncdError | None = None
    """a fault that a proof found in the files of this version, and that no pull has repaired yet"""
    near_indexed: bool | None = None
    """False while an index is still to be made, so that near look-ups compare all rows; None if none is needed"""
    max_distance: int = FARTHEST
    """the most bits in which a near match may differ: what the operator states, or the matcher's own if it is less"""


def retirement_warning(name: ListName, since: datetime | None, now: datetime) -> str:
    """Return the warning about a list that was retired within the last seven days; "" for any other list."""
    if since is None or now - since > _WARNED:
        return ""
    return f"{name} was retired on {since:%Y-%m-%d}: look-ups skip it"


def list_status(
    snapshot: Snapshot,
    trusted: TrustedFeed,
    ages: ListAges,
    *,
    now: datetime,
    error: SyncdError | None,
    proof: ProofRecord,
    near_indexed: bool | None,
    max_distance: int,
) -> ListStatus:
    """Return the status of a snapshot that ``trusted`` vouches for; ``error``: prevents loading a newer one."""
    name = snapshot.manifest.list
    fresh = trusted.freshness.get(name)
    return ListStatus(
        list=name,
        version=snapshot.manifest.version,
        rows=snapshot.manifest.rows,
        serial=fresh.serial if fresh else None,
        verified_at=fresh.verified_at if fresh else None,
        age=ages.of(name),
        expired=trusted.stale(now),
        max_age=limits_of(snapshot),
        freshness=ages.verdict(snapshot),
        error=error,
        retired=snapshot.manifest.retired.since if snapshot.manifest.retired else None,
        ahead=signed_ahead(trusted, now, name),
        late_expiry=late_expiry(trusted),
        proved_at=proof.finished,
        damage=next((fault.error for fault in proof.faults if fault.manifest == snapshot.sha256), None),
        near_indexed=near_indexed,
        max_distance=max_distance,
    )
