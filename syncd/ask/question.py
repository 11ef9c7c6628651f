"""A question about a state, and what it may read."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder

Answers = Generator[dict[str, Any], None, int]
"""JSON objects; the return value is the exit code of the command that asked."""
ReportStage = Callable[[str, int, int], None]
"""Receives the stage, how much of it is done, and the total."""


@dataclass(frozen=True)
class AskedState:
    """The state that a question is about. Nothing in it may be changed."""

    folder: StateFolder
    catalog: Catalog
    now: datetime
    progress: ReportStage = lambda _stage, _done, _total: None


class Question(BaseModel):
    """Base of all questions; the fields are the arguments, as they cross the control socket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def answers(self, state: AskedState) -> Answers:
        """Answer. Each object has one key: ``document``, or the name of a part of a long answer.

        No answer holds rows of a list, except those of digests that the question names. Raises `SyncdError`.
        """
        raise NotImplementedError
