"""The expiry of signed metadata: when it must be signed again, and how urgent that is. Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.report import runbook
from syncd.trust.keys import OFFLINE_ROLES
from syncd.trust.values import lifetime
from syncd.units import clock_is_behind, span, stamp

_WARN: Final = (timedelta(days=7), timedelta(days=30), timedelta(days=60))
"""Warnings before root and targets expire, which only a person with the offline keys can sign."""
_LAST_PART: Final = 4
"""The other roles are signed automatically at half their lifetime; less than a quarter left means that this fails."""


class Urgency(enum.StrEnum):
    """How soon a person must act."""

    FINE = "ok"
    SOON = "within 60 days"
    NEXT = "within 30 days"
    URGENT = "within 7 days"
    OVERDUE = "overdue"
    EXPIRED = "expired"
    IN_FUTURE = "signed in the future"
    """see `syncd.clock.ClockFault` for what to do"""


@dataclass(frozen=True)
class SigningCommands:
    """The commands that sign metadata again."""

    offline: str
    """for root and targets"""
    online: str

    def of(self, role: str) -> str:
        """Return the command for a role."""
        return self.offline if role in OFFLINE_ROLES else self.online


OF_OPERATORS: Final = SigningCommands(
    "`syncd feed renew STATE --state --offline-keys DIR --reason R`, with the daemon stopped", "`syncd sync`"
)
OF_PARTNERS: Final = SigningCommands("`syncd feed renew FEED --offline-keys DIR`", "`syncd feed sign FEED`")


@dataclass(frozen=True)
class Expiry:
    """The expiry of one role's metadata, as of one time."""

    role: str
    version: int
    expires: datetime
    left: timedelta

    @property
    def urgency(self) -> Urgency:
        """How soon a person must act."""
        if self.left <= timedelta(0):
            return Urgency.EXPIRED
        if clock_is_behind(lifetime(self.role) - self.left):
            return Urgency.IN_FUTURE
        if self.role in OFFLINE_ROLES:
            levels = zip(_WARN, (Urgency.URGENT, Urgency.NEXT, Urgency.SOON), strict=True)
            return next((level for limit, level in levels if self.left <= limit), Urgency.FINE)
        return Urgency.OVERDUE if self.left < lifetime(self.role) / _LAST_PART else Urgency.FINE

    @property
    def red(self) -> bool:
        """True if a person must act now."""
        return self.urgency in {Urgency.URGENT, Urgency.OVERDUE, Urgency.EXPIRED, Urgency.IN_FUTURE}

    @property
    def shown(self) -> str:
        """The time left, in words for a table."""
        return "expired" if self.urgency is Urgency.EXPIRED else f"in {span(self.left)}"

    @property
    def warning(self) -> str | None:
        """The warning and what to do; None if nothing is due, or if the clock is at fault."""
        if self.urgency in {Urgency.FINE, Urgency.IN_FUTURE}:
            return None
        keys = "the offline keys" if self.role in OFFLINE_ROLES else "the online keys"
        return f"{self.why}: sign it again with {keys}"

    def act(self, commands: SigningCommands) -> str | None:
        """Return the warning with the command that ends it; None if nothing is due."""
        return f"{self.warning}: {commands.of(self.role)}" if self.warning else None

    @property
    def section(self) -> str:
        """The section of the runbook about its warning."""
        if self.role in OFFLINE_ROLES:
            return runbook.METADATA
        return runbook.TIMESTAMP if self.role == "timestamp" else runbook.METADATA_OVERDUE

    @property
    def why(self) -> str:
        """The time of expiry, in words."""
        if self.left <= timedelta(0):
            return f"{self.role} expired {span(-self.left)} ago"
        return f"{self.role} expires in {span(self.left)}"

    def document(self) -> dict[str, object]:
        """Return it as JSON."""
        return {
            "role": self.role,
            "version": self.version,
            "expires": stamp(self.expires),
            "seconds_left": int(self.left.total_seconds()),
            "state": str(self.urgency),
        }


def expiries(versions: Mapping[str, int], expires: Mapping[str, datetime], now: datetime) -> list[Expiry]:
    """Return every role's expiry, the soonest first."""
    roles = [Expiry(role, versions[role], when, when - now) for role, when in expires.items()]
    return sorted(roles, key=lambda expiry: (expiry.left, expiry.role))
