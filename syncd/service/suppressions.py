"""Suppressions, as the daemon makes, ends, lists and reports them; and the daily report of holds that wait."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from syncd import events
from syncd.catalog.records import Suppression
from syncd.event import Emit
from syncd.model import Digest, list_name
from syncd.operate.suppressed_lists import Corrected
from syncd.operate.suppression_ends import announce, expire, extend, gained, unsuppress
from syncd.operate.suppression_order import Correction, SuppressionOrder, expiry_of
from syncd.operate.suppressions import suppress
from syncd.outcomes import Outcome, cure
from syncd.pipeline.publisher import Publisher
from syncd.report.suppressions import corrected_document, keep, suppressions_document
from syncd.service.control import Order
from syncd.service.holds import emit_opened
from syncd.units import ranges

CHORE: Final = "suppressions"
PAGE_EVERY: Final = timedelta(days=1)
_LONGEST_TEXT: Final = 1000


@dataclass(frozen=True)
class ExtendOrder:
    """Another end for suppressions; None: they do not expire."""

    numbers: tuple[int, ...]
    reason: str
    expires_at: datetime | None


class Suppressions:
    """Carries out orders about suppressions, and what falls due.

    ``changed`` is called after each change, to update views; ``second_operator`` as in
    `syncd.operate.suppressions.suppress`.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Callable[[], datetime],
        emit: Emit,
        changed: Callable[[], None],
        second_operator: Callable[[], bool],
    ) -> None:
        self._publisher, self._clock, self._emit, self._changed = publisher, clock, emit, changed
        self._second_operator = second_operator
        self._published = threading.Event()
        self._published.set()  # while no daemon ran, other processes may have published

    def answer(self, order: Order, user: str) -> dict[str, Any]:
        """Carry out an order from the control socket. Raises `SyncdError`, whose message never has a digest."""
        until = expiry_of(order.expires_at, self._clock(), forever=order.forever)
        match order.do:
            case "unsuppress":
                done = self.unsuppress(order.suppressions, order.reason, user)
                return {"corrected": done, "end": Outcome.HELD.exit_code if done["opened"] else 0}
            case "extend":
                wanted = ExtendOrder(order.suppressions, order.reason, until)
                return {"corrected": self.extend(wanted, user), "end": 0}
        done = self.suppress(_suppression_order(order, until), user)
        return {"corrected": done, "end": Outcome.HELD.exit_code if done["hold"] else 0}

    def document(self, *, ended: bool) -> dict[str, Any]:
        """Return the suppressions; ``ended``: also those that are over. Raises `StoreError`."""
        return suppressions_document(self._publisher.catalog, self._clock(), ended=ended)

    def suppress(self, order: SuppressionOrder, user: str) -> dict[str, Any]:
        """Suppress digests, and return the outcome. Raises as `syncd.operate.suppressions.suppress`."""
        done = suppress(self._publisher, order, actor=user, now=self._clock(), second_operator=self._second_operator())
        if done.hold:
            emit_opened(self._emit, (done.hold,))
        else:
            emit_suppressed(self._emit, done.suppressions, done)
            self._note_gained()
        return self._document(done)

    def unsuppress(self, numbers: Sequence[int], reason: str, user: str) -> dict[str, Any]:
        """End suppressions, and return the outcome. Raises as `syncd.operate.suppression_ends.unsuppress`."""
        done = unsuppress(self._publisher, numbers, actor=user, reason=reason, now=self._clock())
        self._emit(
            events.UnsuppressedEvent(
                suppressions=_numbers(done.suppressions),
                lists=tuple(done.versions),
                rows=done.rows,
                user=user,
                reason=reason,
            )
        )
        emit_opened(self._emit, done.opened)
        return self._document(done)

    def extend(self, order: ExtendOrder, user: str) -> dict[str, Any]:
        """Let suppressions expire at another time. Raises as `syncd.operate.suppression_ends.extend`."""
        done = extend(
            self._publisher,
            order.numbers,
            expires_at=order.expires_at,
            actor=user,
            reason=order.reason,
            now=self._clock(),
        )
        numbers = _numbers(done.suppressions)
        self._emit(events.SuppressionExtended(numbers, user, order.reason, order.expires_at))
        return self._document(done)

    def note_publication(self) -> None:
        """Note that a list has a new version: `look` then looks for entries that suppressions do not cover."""
        self._published.set()

    def look(self) -> None:
        """End what is due, announce what is due soon, and report holds that wait. A chore. Raises `StoreError`."""
        now = self._clock()
        expired = expire(self._publisher, now)
        if expired:
            emit_expired(self._emit, expired)
            emit_opened(self._emit, expired.opened)
        for one in announce(self._publisher, now):
            self._emit(
                events.SuppressionExpiresSoon(
                    suppression=one.id,
                    lists=_lists(one),
                    rows=one.rows,
                    user=one.author,
                    reason=one.reason,
                    expires_at=one.expires_at or now,
                    to_do=f"nothing, if it may match again; {keep(one)}",
                )
            )
        self.look_for_entries()
        for hold in self._publisher.catalog.page_holds(now, PAGE_EVERY):
            self._emit(
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
        if expired:
            self._changed()

    def look_for_entries(self) -> None:
        """Report suppressions of one entry whose digest gained another, if a list changed. Raises `StoreError`."""
        if not self._published.is_set():
            return
        self._published.clear()
        try:
            self._note_gained()
        except BaseException:
            self._published.set()  # the chore tries again
            raise

    def _note_gained(self) -> None:
        for one in gained(self._publisher, self._clock()):
            self._emit(
                events.SuppressionGainedEntry(
                    suppression=one.id,
                    lists=_lists(one),
                    rows=one.rows,
                    user=one.author,
                    reason=one.reason,
                    to_do="decide whether every entry of the digest is wrong: if so, suppress the digest without "
                    "--entry; until then it matches",
                )
            )

    def _document(self, done: Corrected) -> dict[str, Any]:
        self._changed()
        catalog, now = self._publisher.catalog, self._clock()
        return corrected_document(
            catalog,
            done.suppressions,
            now,
            versions=done.versions,
            rows=done.rows,
            hold=done.hold,
            opened=done.opened,
        )


def _suppression_order(order: Order, until: datetime | None) -> SuppressionOrder:
    return SuppressionOrder(
        corrections=tuple(Correction(Digest.parse(one.digest), one.entry, one.line) for one in order.corrections),
        reason=order.reason,
        list=list_name(order.list) if order.list is not None else None,
        expires_at=until,
        ahead=order.ahead,
    )


def emit_suppressed(emit: Emit, made: Sequence[Suppression], done: Corrected) -> None:
    """Emit the event of suppressions that came into force together."""
    emit(
        events.SuppressedEvent(
            suppressions=_numbers(made),
            lists=tuple(done.versions),
            rows=done.rows,
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
            suppressions=_numbers(done.suppressions),
            lists=tuple(done.versions),
            rows=done.rows,
            user=", ".join(users)[:_LONGEST_TEXT],
            reason="; ".join(reasons)[:_LONGEST_TEXT],
        )
    )


def _numbers(made: Sequence[Suppression]) -> str:
    return ranges(one.id for one in made)


def _lists(one: Suppression) -> tuple[str, ...]:
    return (one.list,) if one.list else ()
