"""Warnings before signed metadata expires. Pure.

Root and targets are renewed by hand, with offline keys: people need weeks. Every other role is signed anew at half its
life by whatever publishes: little time left means that nothing publishes any more.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from syncd.trust.keys import OFFLINE_ROLES
from syncd.trust.values import lifetime

Level = Literal["notice", "warning", "critical"]


class ExpiryWarning(NamedTuple):
    """One role that a person must look after. ``text`` says how long is left and what to do."""

    role: str
    level: Level
    text: str


_STEPS: Final[tuple[tuple[timedelta, Level], ...]] = (
    (timedelta(days=7), "critical"),
    (timedelta(days=30), "warning"),
    (timedelta(days=60), "notice"),
)


def expiry_warnings(expiries: Mapping[str, datetime], now: datetime) -> list[ExpiryWarning]:
    """Return what to warn of, the most urgent first. ``expiries``: when each role's newest metadata expires (UTC)."""
    found = []
    for role, expires in sorted(expiries.items(), key=lambda item: item[1]):
        level = _level(role, expires - now)
        if level is not None:
            found.append(ExpiryWarning(role, level, f"{_when(role, expires - now)}: {_remedy(role)}"))
    return found


def _level(role: str, left: timedelta) -> Level | None:
    if left <= timedelta(0):
        return "critical"
    if role in OFFLINE_ROLES:
        return next((level for limit, level in _STEPS if left <= limit), None)
    return "warning" if left < lifetime(role) / 4 else None


def _when(role: str, left: timedelta) -> str:
    if left <= timedelta(0):
        return f"{role} expired {_span(-left)} ago"
    return f"{role} expires in {_span(left)}"


def _span(time: timedelta) -> str:
    count, unit = (time.days, "day") if time.days else (int(time.total_seconds() // 3600), "hour")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _remedy(role: str) -> str:
    if role in OFFLINE_ROLES:
        return "renew it with `syncd feed renew`, which needs the offline keys"
    if role.startswith("list-"):
        return "publish the list with enough of its keys"
    return "nothing signs it any more; is the service running?"
