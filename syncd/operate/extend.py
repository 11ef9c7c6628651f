"""A later end for suppressions in force: nobody needs their digests again, which no command shows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from syncd.acts import SuppressionsExtended
from syncd.catalog.records import AuditEntry, Records, Suppression, SuppressionChange, SuppressionState
from syncd.operate.suppressions import Corrected, active, check_expiry, check_reason
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.result import Settled
from syncd.units import stamp


def extend(
    publisher: Publisher,
    numbers: Sequence[int],
    *,
    expires_at: datetime | None,
    actor: str,
    reason: str,
    now: datetime,
) -> Corrected:
    """Let suppressions in force expire at another time; None: never. No list changes.

    Raises `UsageError` (no reason, an unknown number, a time in the past), `RefusedError` if one has ended or waits,
    `StoreError`.
    """
    check_reason(reason)
    check_expiry(expires_at, now)
    made: list[Suppression] = []

    def make() -> tuple[Sequence[Settled], Records]:
        before = [active(publisher.catalog, number) for number in dict.fromkeys(numbers)]
        made[:] = [replace(one, expires_at=expires_at, announced_at=None) for one in before]
        changes = tuple(SuppressionChange(one, SuppressionState.ACTIVE) for one in made)
        until = stamp(expires_at) if expires_at else "never"
        act = SuppressionsExtended(tuple(one.id for one in made), until, reason)
        return (), Records(corrected=changes, audit=(AuditEntry(now, actor, act),))

    publisher.settle_lists("suppress", make, now)
    return Corrected(tuple(made), {}, 0)
