"""Suppressions, as the daemon makes, ends, lists and reports them; and the daily report of holds that wait."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from syncd import events
from syncd.model import Digest, list_name
from syncd.operate.suppressed_lists import Corrected
from syncd.operate.suppression_ends import announce, expire, extend, gained, unsuppress
from syncd.operate.suppression_order import Correction, SuppressionOrder, expiry_of
from syncd.operate.suppressions import suppress
from syncd.outcomes import Outcome
from syncd.report.suppressions import corrected_document, suppressions_document
from syncd.service.control import Order
from syncd.service.holds import ListActs
from syncd.service.list_events import (
    emit_expired,
    emit_expiring,
    emit_gained,
    emit_opened,
    emit_suppressed,
    emit_waiting,
    numbers_of,
)

CHORE: Final = "suppressions"
PAGE_EVERY: Final = timedelta(days=1)


@dataclass(frozen=True)
class ExtendOrder:
    """Another end for suppressions; None: they do not expire."""

    numbers: tuple[int, ...]
    reason: str
    expires_at: datetime | None


@dataclass(frozen=True)
class Suppressions(ListActs):
    """Carries out orders about suppressions, and what falls due."""

    published: threading.Event = field(default_factory=threading.Event)
    """set if a list may have a new version"""

    def __post_init__(self) -> None:
        self.published.set()  # while no daemon ran, other processes may have published

    def answer(self, order: Order, user: str) -> dict[str, Any]:
        """Carry out an order from the control socket. Raises `SyncdError`, whose message never has a digest."""
        until = expiry_of(order.expires_at, self.clock(), forever=order.forever)
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
        return suppressions_document(self.publisher.catalog, self.clock(), ended=ended)

    def suppress(self, order: SuppressionOrder, user: str) -> dict[str, Any]:
        """Suppress digests, and return the outcome. Raises as `syncd.operate.suppressions.suppress`."""
        done = suppress(self.publisher, order, actor=user, now=self.clock(), second_operator=self.second_operator())
        if done.hold:
            emit_opened(self.emit, (done.hold,))
        else:
            emit_suppressed(self.emit, done.suppressions, done.versions, done.rows)
            self._note_gained()
        return self._document(done)

    def unsuppress(self, numbers: Sequence[int], reason: str, user: str) -> dict[str, Any]:
        """End suppressions, and return the outcome. Raises as `syncd.operate.suppression_ends.unsuppress`."""
        done = unsuppress(self.publisher, numbers, actor=user, reason=reason, now=self.clock())
        self.emit(
            events.UnsuppressedEvent(
                suppressions=numbers_of(done.suppressions),
                lists=tuple(done.versions),
                rows=done.rows,
                user=user,
                reason=reason,
            )
        )
        emit_opened(self.emit, done.opened)
        return self._document(done)

    def extend(self, order: ExtendOrder, user: str) -> dict[str, Any]:
        """Let suppressions expire at another time. Raises as `syncd.operate.suppression_ends.extend`."""
        done = extend(
            self.publisher,
            order.numbers,
            expires_at=order.expires_at,
            actor=user,
            reason=order.reason,
            now=self.clock(),
        )
        numbers = numbers_of(done.suppressions)
        self.emit(events.SuppressionExtended(numbers, user, order.reason, order.expires_at))
        return self._document(done)

    def note_publication(self) -> None:
        """Note that a list has a new version: `look` then looks for entries that suppressions do not cover."""
        self.published.set()

    def look(self) -> None:
        """End what is due, announce what is due soon, and report holds that wait. A chore. Raises `StoreError`."""
        now = self.clock()
        expired = expire(self.publisher, now)
        if expired:
            emit_expired(self.emit, expired)
            emit_opened(self.emit, expired.opened)
        emit_expiring(self.emit, announce(self.publisher, now), now)
        self.look_for_entries()
        emit_waiting(self.emit, self.publisher.catalog.page_holds(now, PAGE_EVERY), now)
        if expired:
            self.changed()

    def look_for_entries(self) -> None:
        """Report suppressions of one entry whose digest gained another, if a list changed. Raises `StoreError`."""
        if not self.published.is_set():
            return
        self.published.clear()
        try:
            self._note_gained()
        except BaseException:
            self.published.set()  # the chore tries again
            raise

    def _note_gained(self) -> None:
        emit_gained(self.emit, gained(self.publisher, self.clock()))

    def _document(self, done: Corrected) -> dict[str, Any]:
        self.changed()
        catalog, now = self.publisher.catalog, self.clock()
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
