"""The driver for PostgreSQL, on connections that do not wait forever for a server that has fallen silent."""

import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg

Done = TypeVar("Done")

_ANSWER_WITHIN: Final = 15.0
"""Seconds for what is done outside of a transaction."""


class PatientConnection(psycopg.Connection):  # type: ignore[misc]  # psycopg is in an extra: mypy reads nothing of it
    """A connection that is given up if an answer takes longer than ``answer_within`` seconds.

    The server's own time-outs end slow statements; this is for a server, or something in between, that keeps the
    connection open and says nothing.
    """

    answer_within: float = _ANSWER_WITHIN

    def wait(self, gen: Generator[Any, Any, Done], *args: Any, **named: Any) -> Done:
        """Wait for an answer. Raises `psycopg.OperationalError`, and closes the connection, if it does not come."""
        return super().wait(self._limited(gen), *args, **named)  # type: ignore[no-any-return]  # as above

    def _limited(self, steps: Generator[Any, Any, Done]) -> Generator[Any, Any, Done]:
        end = time.monotonic() + self.answer_within
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > end:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.answer_within:.0f} seconds")
                wanted = steps.send(ready)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # of ``steps``
