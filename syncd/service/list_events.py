"""The events of holds and suppressions."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from syncd import events
from syncd.catalog.decisions import HoldRecord, Suppression
from syncd.event import Emit
from syncd.operate.suppressed_lists import Corrected
from syncd.outcomes import cure
from syncd.report.suppressions import keep
from syncd.units import ranges

_LONGEST_TEXT: Final = 1000


def emit_opened(emit: Emit, opened: Iterable[HoldRecord]) -> None:
    """Emit an event for each hold that was opened."""
    for hold in opened:
        emit(
            events.HoldOpened(
                hold=hold.id,
                source=hold.source,
                list=hold.list,
                lane=hold.lane,
                rows=hold.rows,
                reasons=hold.reasons,
                message=hold.message,
                to_do=cure(hold.reasons, (hold.id,)),
                sync_id=hold.sync_id or "",
            )
        )


def emit_ended(emit: Emit, ended: Iterable[HoldRecord]) -> None:
    """Emit an event for each hold that ended."""
    for hold in ended:
        emit(
            events.HoldEnded(
                hold=hold.id,
                source=hold.source,
                list=hold.list,
                lane=hold.lane,
                rows=hold.rows,
                ended=hold.state,
                by=hold.ended_by,
                reason=hold.ended_reason,
            )
        )


def emit_waiting(emit: Emit, waiting: Iterable[HoldRecord], now: datetime) -> None:
    """Emit an event for each hold that still waits."""
    for hold in waiting:
        emit(
            events.HoldWaits(
                hold=hold.id,
                source=hold.source,
                list=hold.list,
                lane=hold.lane,
                rows=hold.rows,
                opened_at=hold.opened_at,
                seconds=max(0, int((now - hold.opened_at).total_seconds())),
                message=hold.message,
                to_do=cure(hold.reasons, (hold.id,)),
            )
        )


def emit_suppressed(emit: Emit, made: Sequence[Suppression], lists: Iterable[str], rows: int) -> None:
    """Emit the event of suppressions that came into force together; nothing if there are none."""
    if not made:
        return
    emit(
        events.SuppressedEvent(
            suppressions=numbers_of(made),
            lists=tuple(lists),
            rows=rows,
            user=made[0].author,
            confirmed_by=made[0].second,
            reason=made[0].reason,
            expires_at=made[0].expires_at,
        )
    )


def emit_expired(emit: Emit, done: Corrected) -> None:
    """Emit the event of suppressions that expired together."""
    users = dict.fromkeys(one.author for one in done.suppressions)
    reasons = dict.fromkeys(one.reason for one in done.suppressions)
    emit(
        events.SuppressionExpired(
            suppressions=numbers_of(done.suppressions),
            lists=tuple(done.versions),
            rows=done.rows,
            user=", ".join(users)[:_LONGEST_TEXT],
            reason="; ".join(reasons)[:_LONGEST_TEXT],
        )
    )


def emit_expiring(emit: Emit, soon: Iterable[Suppression], now: datetime) -> None:
    """Emit an event for each suppression that expires soon."""
    for one in soon:
        emit(
            events.SuppressionExpiresSoon(
                suppression=one.id,
                lists=(one.list,) if one.list else (),
                rows=one.rows,
                user=one.author,
                reason=one.reason,
                expires_at=one.expires_at or now,
                to_do=f"nothing, if it may match again; {keep(one)}",
            )
        )


def emit_gained(emit: Emit, gained: Iterable[Suppression]) -> None:
    """Emit an event for each suppression of one entry whose digest is listed with another entry too."""
    for one in gained:
        emit(
            events.SuppressionGainedEntry(
                suppression=one.id,
                lists=(one.list,) if one.list else (),
                rows=one.rows,
                user=one.author,
                reason=one.reason,
                to_do="decide whether every entry of the digest is wrong: if so, suppress the digest without "
                "--entry; until then it matches",
            )
        )


def numbers_of(suppressions: Iterable[Suppression]) -> str:
    """Return the numbers of suppressions as text."""
    return ranges(one.id for one in suppressions)
