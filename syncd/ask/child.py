"""The process that answers one long question for the daemon, so that neither its threads nor its memory suffer.

`syncd.service.questions` runs it as ``python -m syncd.ask.child``. It reads one line of JSON, answers line by line, and
ends. It is killed if the client goes away.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydantic import BaseModel, ConfigDict, JsonValue

from syncd.ask.questions import answer, question
from syncd.catalog.folder import StateFolder
from syncd.children import become_child
from syncd.database_address import DatabaseAddress
from syncd.errors import as_known, error_document
from syncd.store.settings import BucketSettings

REPORT_EVERY: Final = 0.2
"""Seconds between two progress reports."""

_MAX_REQUEST: Final = 1 << 21


class LongQuestion(BaseModel):
    """A question that the daemon passes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    do: str
    arguments: dict[str, JsonValue]
    state_dir: Path
    bucket: BucketSettings | None = None
    database: DatabaseAddress | None = None
    now: datetime


def run(reader: BinaryIO, writer: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
    """Read one question from ``reader`` and write its answers to ``writer``, line by line."""

    def send(part: dict[str, Any]) -> None:
        writer.write(json.dumps(part).encode() + b"\n")
        writer.flush()

    try:
        asked = LongQuestion.model_validate_json(reader.readline(_MAX_REQUEST))
        folder = StateFolder(asked.state_dir, asked.bucket, asked.database)
        answers = answer(question(asked.do, asked.arguments), folder, asked.now, _throttled(send, clock))
        while True:
            try:
                send(next(answers))
            except StopIteration as ended:
                send({"end": ended.value})
                return
    except Exception as fault:  # noqa: BLE001 - its message may hold a digest: only its kind leaves this process
        error = as_known(fault)
        send({"error": error_document(error), "end": error.exit_code})


def _throttled(send: Callable[[dict[str, Any]], None], clock: Callable[[], float]) -> Callable[[str, int, int], None]:
    last = -REPORT_EVERY

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if clock() - last >= REPORT_EVERY:
            last = clock()
            send({"progress": {"stage": stage, "done": done, "total": total}})

    return report


def main() -> None:
    """Run the process."""
    answers = become_child()
    run(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
