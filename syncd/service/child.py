"""The worker process: fetches, verifies and stages one source, as the request on standard input says.

It is started with nothing but that, holds no keys, and gives its memory back by ending. Run by
`syncd.service.worker` as ``python -m syncd.service.child``.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from syncd.errors import as_known
from syncd.fetch import Meter
from syncd.pipeline import wire
from syncd.pipeline.prepare import Progress, prepare
from syncd.pipeline.wire import Told, WorkerMessage

NICENESS: Final = 10
"""Staging a long list must not slow the daemon's answers."""
TELL_EVERY: Final = 0.1
"""Seconds between two reports of the same stage."""

_PR_SET_PDEATHSIG: Final = 1


def run(reader: BinaryIO, writer: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
    """Answer the one request of ``reader``, line by line."""
    meter = Meter()

    def say(answer: WorkerMessage) -> None:
        writer.write(wire.encode(answer.model_copy(update={"received": meter.total})))
        writer.flush()

    try:
        request = wire.decode_request(reader.readline(wire.MAX_LINE))
        for step in prepare(request, _sparing(say, clock), meter):
            say(wire.answer_of(step))
    except Exception as fault:  # noqa: BLE001 - its words may hold a digest: only its kind leaves this process
        say(WorkerMessage(fault=wire.fault_of(as_known(fault))))
    say(WorkerMessage(end=True))


def _sparing(say: Callable[[WorkerMessage], None], clock: Callable[[], float]) -> Progress:
    """Report each stage at once, and how it goes on now and then."""
    before, last = "", 0.0

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal before, last
        now = clock()
        if stage != before or now - last >= TELL_EVERY or done == total:
            before, last = stage, now
            say(WorkerMessage(told=Told(stage=stage, done=done, total=total)))

    return tell


def _die_with_parent() -> None:
    """A killed daemon leaves nobody behind who still writes into the folder that its successor works in."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """The process."""
    import stamina.instrumentation

    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the daemon, whose process group this is not
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    stamina.instrumentation.set_on_retry_hooks(())
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    run(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
