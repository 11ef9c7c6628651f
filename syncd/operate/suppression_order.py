"""An order to suppress digests, and the checks that it must pass."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncd.catalog.decisions import Suppression, SuppressionState
from syncd.errors import RefusedError, UsageError
from syncd.model import Algorithm, Digest, ListName
from syncd.operate.checks import check_reason
from syncd.outcomes import CONFIRM

DEFAULT_EXPIRY: Final = timedelta(days=30)
LONGEST_REASON: Final = 1000
MOST_AT_ONCE: Final = 100_000
_PERCEPTUAL: Final = frozenset({Algorithm.PDQ, Algorithm.PHOTODNA})


@dataclass(frozen=True)
class Correction:
    """A digest to suppress, or one entry of it."""

    digest: Digest
    entry: str | None = None
    line: int = 0
    """the line of the file that names it; 0: it was not read from a file"""

    @property
    def words(self) -> str:
        """The kind of digest, and its line, for messages."""
        line = f" on line {self.line}" if self.line else ""
        return f"this {self.digest.algorithm} digest{line}" + (" with that entry" if self.entry is not None else "")


@dataclass(frozen=True)
class SuppressionOrder:
    """Everything that an operator decides about new suppressions."""

    corrections: tuple[Correction, ...]
    reason: str
    list: ListName | None = None
    """the published list; None: all lists"""
    expires_at: datetime | None = None
    """None: never"""
    ahead: bool = False
    """true if digests that are not listed are meant"""


def expiry_of(expires_at: datetime | None, now: datetime, *, forever: bool) -> datetime | None:
    """Return when a new suppression expires: 30 days from now unless the operator says otherwise; None: never."""
    return None if forever else expires_at or now + DEFAULT_EXPIRY


def check_order(order: SuppressionOrder, now: datetime) -> None:
    """Raise `UsageError` if an order cannot be carried out, whatever is suppressed and listed."""
    check_short_reason(order.reason)
    check_expiry(order.expires_at, now)
    _check_not_in(order.reason, order.corrections)
    if not order.corrections:
        raise UsageError("no digest was given", hint="give ALG:DIGEST, or a file with one a line")
    if len(order.corrections) > MOST_AT_ONCE:
        raise UsageError(
            f"more than {MOST_AT_ONCE:,} digests at once", hint="a whole list is stopped with `syncd rollback`"
        )


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raise `UsageError` if the end of a suppression is in the past."""
    if expires_at is not None and expires_at <= now:
        raise UsageError(
            f"the suppression would expire at {expires_at:%Y-%m-%d %H:%M} UTC, which is in the past",
            hint="give a later time with --expires, or --forever",
        )


def check_short_reason(reason: str) -> None:
    """Raise `UsageError` if a reason is empty or too long."""
    check_reason(reason)
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"the reason is longer than {LONGEST_REASON:,} characters", hint="shorten it")


def _check_not_in(reason: str, corrections: Iterable[Correction]) -> None:
    """Raise `UsageError` if a reason, which is logged, contains one of the digests."""
    if not re.search("[0-9a-f]{32}", text := reason.lower()):
        return
    if any(correction.digest.value.hex() in text for correction in corrections):
        raise UsageError("the reason contains the digest", hint="leave it out: reasons are logged")


def check_new(order: SuppressionOrder, known: Iterable[Suppression]) -> None:
    """Raise `RefusedError` if a digest is suppressed already, as widely as the order asks for."""
    held: dict[tuple[str, str, str | None], Suppression] = {
        (one.algorithm, one.digest, one.entry): one for one in known if one.list in {None, order.list}
    }
    for correction in order.corrections:
        key = (correction.digest.algorithm, correction.digest.value.hex())
        one = held.get((*key, None)) or held.get((*key, correction.entry))
        if one is not None:
            waiting = one.state is SuppressionState.WAITING
            waits = " and waits for a second operator" if waiting else ""
            later = f"`syncd suppress --extend {one.id} --reason R` lets it expire later"
            raise RefusedError(
                f"suppression {one.id} covers {correction.words} already{waits}",
                hint=f"`syncd suppressions` shows it; {CONFIRM.format(one.hold_id) if waiting else later}; nothing was "
                "changed",
            )


def unlisted(correction: Correction, name: ListName | None) -> UsageError:
    """Return the error for a digest that is on no list, or not on the list that the order names."""
    where = f"{name} does not list" if name else "no list has"
    hint = "check the digest; to suppress it before a list has it, add --ahead; nothing was changed"
    if correction.digest.algorithm in _PERCEPTUAL:
        hint = f"give the listed digest of the hit, not that of your image: {hint}"
    return UsageError(f"{where} {correction.words}", hint=hint)
