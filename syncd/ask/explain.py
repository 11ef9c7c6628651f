"""The question why a digest matches, or matched."""

from contextlib import suppress
from datetime import datetime

from pydantic import Field

from syncd.ask.question import Answers, AskedState, Question
from syncd.errors import StoreError
from syncd.model import Digest
from syncd.operate.explain import explain
from syncd.operate.explanation import explanation_document, explanation_exit_code


class ExplainQuestion(Question):
    """``digest``: ``ALG:HEX``, which the answer names again. ``at``: the time asked for; None: now."""

    digest: str = Field(repr=False)
    at: datetime | None = None

    def answers(self, state: AskedState) -> Answers:
        """See `Question`."""
        with suppress(StoreError):  # what is missing here is then a gap in the answer
            state.folder.bring_private(state.folder.history)
        found = explain(state.folder, state.catalog, Digest.parse(self.digest), state.now, at=self.at)
        yield {"document": explanation_document(found, self.digest, state.now)}
        return explanation_exit_code(found)
