"""Holds, as the daemon lists and ends them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncd.event import Emit
from syncd.operate.holds import end_hold
from syncd.pipeline.publisher import Publisher
from syncd.report.holds import ended_document, holds_document
from syncd.service.list_events import emit_ended, emit_suppressed


@dataclass(frozen=True)
class ListActs:
    """Operators' acts on published lists: carried out, logged, and shown by all views."""

    publisher: Publisher
    clock: Callable[[], datetime]
    emit: Emit
    changed: Callable[[], None]
    """called after each act, to update views"""
    second_operator: Callable[[], bool] = lambda: True
    """false if one operator may decide about any number of suppressions"""


class Holds(ListActs):
    """Lists holds, and ends those that an operator releases or discards."""

    def document(self) -> dict[str, Any]:
        """Return all holds that are open or discarded. Raises `StoreError`."""
        return holds_document(self.publisher.catalog.holds())

    def end(self, number: int, *, release: bool, user: str, reason: str, sha256: str = "") -> dict[str, Any]:
        """Release or discard a hold and return the outcome. Raises as `syncd.operate.holds.end_hold`."""
        settled = end_hold(
            self.publisher,
            number,
            release=release,
            actor=user,
            reason=reason,
            now=self.clock(),
            second_operator=self.second_operator(),
            sha256=sha256,
        )
        emit_ended(self.emit, settled.ended)
        if release:  # a second operator confirmed its suppressions, if it has any
            confirmed = self.publisher.catalog.suppressions_in_hold(number)
            emit_suppressed(self.emit, confirmed, settled.corrected, settled.released)
        self.changed()
        return ended_document(self.publisher.catalog, number, settled)
