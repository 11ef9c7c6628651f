"""Every question by name, imported only when it is asked."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, Final

from pydantic import ValidationError

from syncd.ask.question import Answers, AskedState, Question
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import UsageError


@dataclass(frozen=True)
class QuestionKind:
    """The module of a question in this package, and its class. ``long``: the daemon answers in another process."""

    module: str
    name: str
    long: bool = False


QUESTIONS: Final[Mapping[str, QuestionKind]] = {
    "snapshots": QuestionKind("versions", "SnapshotsQuestion"),
    "diff": QuestionKind("versions", "DiffQuestion", long=True),
    "hold": QuestionKind("holds", "HoldQuestion", long=True),
    "lookup": QuestionKind("lookup", "LookupQuestion"),
    "explain": QuestionKind("explain", "ExplainQuestion"),
    "audit": QuestionKind("audit", "AuditQuestion"),
    "audit_verify": QuestionKind("audit", "AuditCheckQuestion", long=True),
    "verify": QuestionKind("proof", "VerifyQuestion", long=True),
}


def question(name: str, arguments: Mapping[str, Any]) -> Question:
    """Build a question from JSON values. Raises `UsageError`, without repeating them."""
    kind = QUESTIONS[name]
    asked: type[Question] = getattr(import_module(f"syncd.ask.{kind.module}"), kind.name)
    try:
        return asked.model_validate(arguments)
    except ValidationError:
        raise UsageError(
            f"the arguments of the question {name!r} are not valid",
            hint="use the same version of syncd for the command and the daemon",
        ) from None


def answer(
    asked: Question,
    folder: StateFolder,
    now: datetime,
    progress: Callable[[str, int, int], None],
    catalog: Catalog | None = None,
) -> Answers:
    """Answer a question about the state in ``folder``; ``catalog``: its catalog, if it is open already.

    Raises `SyncdError`.
    """
    with ExitStack() as stack:
        opened = catalog or stack.enter_context(Catalog.open(folder.catalog))
        return (yield from asked.answers(AskedState(folder, opened, now, progress)))
