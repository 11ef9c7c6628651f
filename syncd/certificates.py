"""The certificates that the configuration names: when they are valid, and whether a person must act."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.x509 import load_pem_x509_certificates

from syncd.errors import ConfigError, SyncdError
from syncd.files import read_bytes
from syncd.units import span, stamp

_MAX_CERTIFICATE: Final = 1 << 20
_RENEW: Final = "put one that is valid in its place; until then clients refuse to connect"
_URGENT: Final = timedelta(days=7)
"""Those who renew by themselves do so at 30 days, or a third of its life: by then it has failed for long."""


@dataclass(frozen=True)
class Certificate:
    """A certificate of ours, and what it is for."""

    use: str
    """``server``: what matchers see; ``client``: what a source sees"""
    source: str
    path: Path

    def __str__(self) -> str:
        return f"the client certificate for {self.source}" if self.source else "the server's certificate"


@dataclass(frozen=True)
class Period:
    """When a certificate and all that come with it are valid."""

    path: Path
    begins: datetime
    ends: datetime

    @staticmethod
    def of(path: Path) -> "Period":
        """Read it (RFC 5280, 4.1.2.5). Raises `StoreError`, `ValueError`."""
        chain = load_pem_x509_certificates(read_bytes(path, _MAX_CERTIFICATE))
        return Period(
            path, max(one.not_valid_before_utc for one in chain), min(one.not_valid_after_utc for one in chain)
        )

    def check(self, now: datetime) -> None:
        """Raises `ConfigError` where it is over, or has not begun."""
        what = f"the certificate {self.path}, or one of its chain,"
        if now >= self.ends:
            raise ConfigError(f"{what} expired on {stamp(self.ends)}", hint=_RENEW)
        if now < self.begins:
            raise ConfigError(
                f"{what} is not valid before {stamp(self.begins)}", hint=f"check this machine's clock, or {_RENEW}"
            )


class Validity(enum.StrEnum):
    """How a certificate stands."""

    FINE = "ok"
    URGENT = "within 7 days"
    EXPIRED = "expired"
    EARLY = "not yet valid"


@dataclass(frozen=True)
class CertificateView:
    """A certificate, seen at one time."""

    certificate: Certificate
    period: Period
    now: datetime

    @property
    def left(self) -> timedelta:
        """How long it is valid yet."""
        return self.period.ends - self.now

    @property
    def validity(self) -> Validity:
        """How it stands."""
        if self.left <= timedelta(0):
            return Validity.EXPIRED
        if self.now < self.period.begins:
            return Validity.EARLY
        return Validity.URGENT if self.left <= _URGENT else Validity.FINE

    @property
    def why(self) -> str:
        """Why a person must act; '' where nobody must."""
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
        """What to do about it."""
        clock = "check the clock of this host, or " if self.validity is Validity.EARLY else ""
        return f"{clock}put a valid one at {self.period.path}"


def views(certificates: Iterable[Certificate], now: datetime) -> tuple[CertificateView, ...]:
    """How they stand. Without what cannot be read: the daemon may be able to, and says what it cannot use."""
    found = [(one, period_of(one.path)) for one in certificates]
    return tuple(CertificateView(one, period, now) for one, period in found if period)


def period_of(path: Path | None) -> Period | None:
    """When a certificate is valid; None where there is none, or we cannot read what OpenSSL can."""
    try:
        return Period.of(path) if path else None
    except (SyncdError, ValueError):
        return None
