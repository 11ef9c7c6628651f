"""When a feed's metadata was signed. Pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from syncd.clock import ClockReading
from syncd.trust.keys import OFFLINE_ROLES
from syncd.trust.values import signed_at


def signature(role: str, expires: datetime) -> ClockReading:
    """Return the time at which the metadata of a role was signed."""
    return ClockReading(f"the signature of {role}", signed_at(role, expires), role, role in OFFLINE_ROLES)


def signatures(expiries: Mapping[str, datetime]) -> Iterator[ClockReading]:
    """Yield the time at which the metadata of each role was signed. ``expiries``: of each role."""
    return (signature(role, expires) for role, expires in expiries.items())
