"""Orders to the daemon that holds the state."""

import itertools
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from typing import Any

Document = Mapping[str, Any]


def give(settings: Any, order: Document) -> Iterable[Document] | None:
    """The answers of the daemon that holds this state; None where there is none. Raises what the daemon raised."""
    from syncd.service.client import ask

    answers = ask(settings.control_socket, {**order, "state_dir": str(settings.state_dir)})
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
