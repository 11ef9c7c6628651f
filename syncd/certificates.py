"""The certificates that the configuration names: their validity, and warnings before they expire."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.x509 import load_pem_x509_certificates

from syncd.errors import ConfigError, SyncdError
from syncd.files import read_bytes
from syncd.settings import Certificate
from syncd.units import span, stamp

_MAX_CERTIFICATE: Final = 1 << 20
_RENEW: Final = "replace it by a valid one; until then clients refuse to connect"
_URGENT: Final = timedelta(days=7)
"""Automatic renewal takes place 30 days before, or at a third of the lifetime: by now it has failed for weeks."""


@dataclass(frozen=True)
class ValidityPeriod:
    """The time during which a certificate and its whole chain are valid."""

    path: Path
    begins: datetime
    ends: datetime

    @staticmethod
    def of(path: Path) -> "ValidityPeriod":
        """Read the period of a PEM file (RFC 5280, 4.1.2.5). Raises `StoreError`, `ValueError`."""
        chain = load_pem_x509_certificates(read_bytes(path, _MAX_CERTIFICATE))
        return ValidityPeriod(
            path,
            max(certificate.not_valid_before_utc for certificate in chain),
            min(certificate.not_valid_after_utc for certificate in chain),
        )

    def check(self, now: datetime) -> None:
        """Raise `ConfigError` if the period is over or has not begun."""
        subject = f"the certificate {self.path}, or one in its chain,"
        if now >= self.ends:
            raise ConfigError(f"{subject} expired on {stamp(self.ends)}", hint=_RENEW)
        if now < self.begins:
            raise ConfigError(
                f"{subject} is not valid before {stamp(self.begins)}", hint=f"check this machine's clock, or {_RENEW}"
            )


class Validity(enum.StrEnum):
    """The validity of a certificate at one time."""

    FINE = "ok"
    URGENT = "within 7 days"
    EXPIRED = "expired"
    EARLY = "not yet valid"


@dataclass(frozen=True)
class CertificateView:
    """A certificate, seen at one time."""

    certificate: Certificate
    period: ValidityPeriod
    now: datetime

    @property
    def left(self) -> timedelta:
        """The time until it expires; negative once it has."""
        return self.period.ends - self.now

    @property
    def validity(self) -> Validity:
        """The validity now."""
        if self.left <= timedelta(0):
            return Validity.EXPIRED
        if self.now < self.period.begins:
            return Validity.EARLY
        return Validity.URGENT if self.left <= _URGENT else Validity.FINE

    @property
    def why(self) -> str:
        """The reason for an operator to act, or ''."""
        match self.validity:
            case Validity.EXPIRED:
                return f"{self.certificate} expired {span(-self.left)} ago"
            case Validity.EARLY:
                return f"{self.certificate} is not valid for another {span(self.period.begins - self.now)}"
            case Validity.URGENT:
                return f"{self.certificate} expires in {span(self.left)}"
            case Validity.FINE:
                return ""

    @property
    def to_do(self) -> str:
        """The cure."""
        clock = "check the clock of this host, or " if self.validity is Validity.EARLY else ""
        return f"{clock}put a valid certificate at {self.period.path}"


def views(certificates: Iterable[Certificate], now: datetime) -> tuple[CertificateView, ...]:
    """Return views of the readable certificates; the daemon, which may read more of them, reports the unusable ones."""
    periods = [(certificate, period_of(certificate.path)) for certificate in certificates]
    return tuple(CertificateView(certificate, period, now) for certificate, period in periods if period)


def period_of(path: Path | None) -> ValidityPeriod | None:
    """Return the period of a certificate; None without a path, or if the file cannot be read."""
    try:
        return ValidityPeriod.of(path) if path else None
    except (SyncdError, ValueError):
        return None
