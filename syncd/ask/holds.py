"""The question what a hold would change."""

from typing import Any

from syncd.ask.question import Answers, AskedState, Question
from syncd.operate.held_rows import HeldRows
from syncd.report.holds import hold_document


class HoldQuestion(Question):
    """``hold``: its number."""

    hold: int

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        yield {"document": held_document(HeldRows.of(state.folder, state.catalog, self.hold))}
        return 0


def held_document(held: HeldRows) -> dict[str, Any]:
    """Return a hold with its changes as JSON. Raises `StoreError`."""
    return {**hold_document(held.hold), **held.document()}
