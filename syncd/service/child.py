"""The worker process: fetches, verifies and stages one source, as requested on standard input.

It gets nothing but that request, holds no keys, and returns its memory by ending. `syncd.service.worker` runs it as
``python -m syncd.service.child``.
"""

import sys
import time
from collections.abc import Callable
from typing import BinaryIO, Final

import stamina.instrumentation

from syncd.children import become_child
from syncd.errors import as_known
from syncd.fetch import Meter
from syncd.pipeline import wire
from syncd.pipeline.preparation import Progress
from syncd.pipeline.prepare import prepare
from syncd.pipeline.wire import ProgressMessage, WorkerMessage

REPORT_EVERY: Final = 0.1
"""Seconds between two progress reports of the same stage."""


def run(reader: BinaryIO, writer: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
    """Read one request from ``reader`` and write its answers to ``writer``, line by line."""
    meter = Meter()

    def send(answer: WorkerMessage) -> None:
        writer.write(wire.encode(answer.model_copy(update={"received": meter.total})))
        writer.flush()

    try:
        request = wire.decode_request(reader.readline(wire.MAX_LINE))
        for step in prepare(request, _throttled(send, clock), meter):
            send(wire.answer_of(step))
    except Exception as fault:  # noqa: BLE001 - its message may hold a digest: only its kind leaves this process
        send(WorkerMessage(fault=wire.fault_of(as_known(fault))))
    send(WorkerMessage(end=True))


def _throttled(send: Callable[[WorkerMessage], None], clock: Callable[[], float]) -> Progress:
    """Return a `Progress` that reports each new stage at once, and progress within a stage every `REPORT_EVERY`."""
    before, last = "", 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal before, last
        now = clock()
        if stage != before or now - last >= REPORT_EVERY or done == total:
            before, last = stage, now
            send(WorkerMessage(progress=ProgressMessage(stage=stage, done=done, total=total)))

    return report


def main() -> None:
    """Run the worker process."""
    answers = become_child()
    stamina.instrumentation.set_on_retry_hooks(())
    run(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
