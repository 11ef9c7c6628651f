"""Holds, as the daemon lists, ends and reports them."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from syncd import events
from syncd.catalog.records import HoldRecord
from syncd.event import Emit
from syncd.operate.holds import end_hold
from syncd.outcomes import cure
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.result import Settled
from syncd.report.holds import ended_document, holds_document
from syncd.units import ranges


class Holds:
    """Lists holds, and ends those that an operator releases or discards.

    ``changed`` is called after each end, to update views of the holds.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Callable[[], datetime],
        emit: Emit,
        changed: Callable[[], None],
        second_operator: Callable[[], bool] = lambda: True,
    ) -> None:
        self._publisher, self._clock, self._emit, self._changed = publisher, clock, emit, changed
        self._second_operator = second_operator

    def document(self) -> dict[str, Any]:
        """Return all holds that are open or discarded. Raises `StoreError`."""
        return holds_document(self._publisher.catalog.holds())

    def end(self, number: int, *, release: bool, user: str, reason: str, sha256: str = "") -> dict[str, Any]:
        """Release or discard a hold and return the outcome. Raises as `syncd.operate.holds.end_hold`."""
        settled = end_hold(
            self._publisher,
            number,
            release=release,
            actor=user,
            reason=reason,
            now=self._clock(),
            second_operator=self._second_operator(),
            sha256=sha256,
        )
        emit_ended(self._emit, settled.ended)
        self._emit_confirmed(settled, number, release=release)
        self._changed()
        return ended_document(self._publisher.catalog, number, settled)

    def _emit_confirmed(self, settled: Settled, number: int, *, release: bool) -> None:
        """Emit the event of the suppressions that a second operator confirmed."""
        made = self._publisher.catalog.suppressions_in_hold(number) if release else ()
        if not made:
            return
        self._emit(
            events.SuppressedEvent(
                suppressions=ranges(one.id for one in made),
                lists=tuple(settled.corrected),
                rows=settled.released,
                user=made[0].author,
                confirmed_by=made[0].second,
                reason=made[0].reason,
                expires_at=made[0].expires_at,
            )
        )


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
