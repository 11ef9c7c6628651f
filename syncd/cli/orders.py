"""Orders to the daemon that holds the state."""

import itertools
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from typing import Any, Final

from syncd.errors import SyncdError

Document = Mapping[str, Any]
_TELL_WITHIN: Final = 5.0
"""Seconds for what the daemon only has to look up."""


def told(settings: Any, what: str) -> Document | None:
    """What the daemon that holds this state tells: "status", "matchers" or "holds".

    None where none runs, or it cannot tell (it is older, stuck, or not for this user): who owns the state looks itself.
    """
    try:
        answers = list(give(settings, {"do": what}, _TELL_WITHIN) or ())
    except SyncdError:
        return None
    return answers[0].get("document") if answers else None


def give(settings: Any, order: Document, within: float | None = None) -> Iterable[Document] | None:
    """The answers of the daemon that holds this state, each ``within`` so many seconds; None where there is none.

    Raises what the daemon raised, and as `syncd.service.client.ask`.
    """
    from syncd.service.client import ask

    answers = ask(settings.control_socket, {**order, "state_dir": str(settings.state_dir)}, within)
    if answers is None:
        return None
    first = next(answers)
    if "other" in first:  # it serves another state: our own is free, or its lock says who has it
        answers.close()
        return None
    return _checked(first, answers)


def _checked(first: Document, rest: Generator[dict[str, Any], None, None]) -> Iterable[Document]:
    from syncd.service.client import error_of

    with closing(rest):
        for answer in itertools.chain([first], rest):
            if "error" in answer:
                raise error_of(answer["error"])
            yield answer
