"""The worker process, seen from the daemon: takes one sync, is listened to, and killed when its time is over."""

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from syncd.errors import AbandonedError, DeadlineExceeded, StoreError
from syncd.fetch import Meter
from syncd.pipeline import wire
from syncd.pipeline.prepare import Preparing, Progress, Request, VerifiedSource
from syncd.pipeline.wire import WorkerMessage

COMMAND: Final = (sys.executable, "-P", "-m", "syncd.service.child")
GRACE: Final = 5.0
"""Seconds that the worker has, past the sync's deadline, to say so itself and leave its parts in order."""

_BLOCK: Final = 1 << 16
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""All that the worker gets of the environment: credentials may lie in the rest."""


Process = subprocess.Popen[bytes]


def start(command: Sequence[str] = COMMAND) -> Process:
    """Start a worker process. It ends with the thread that started it, or before."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a traceback may hold what the lists hold
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        cwd="/",
        start_new_session=True,
    )


class Spare:
    """Worker processes, one of them started ahead of need: that takes longer than most syncs."""

    def __init__(self, start: Callable[[], Process] = start) -> None:
        self._start = start
        self._starter = ThreadPoolExecutor(1, "syncd-workers")  # lives as long as they may
        self._turn = threading.Lock()
        self._spare: Future[Process] | None = None
        self._closed = False

    def take(self) -> Process:
        """Return the spare process, or a new one where there is none."""
        with self._turn:
            spare, self._spare = self._spare, None
        if spare is not None and spare.exception() is None:
            process = spare.result()
            if process.poll() is None:
                return process
            _end(process)  # somebody killed it meanwhile
        return self._starter.submit(self._start).result()

    def refill(self) -> None:
        """Start a process ahead of need, where there is none; does not wait for it."""
        with self._turn:
            if self._spare is None and not self._closed:
                self._spare = self._starter.submit(self._start)

    def close(self) -> None:
        """End the spare process; those that were taken end with whoever took them."""
        with self._turn:
            self._closed, spare, self._spare = True, self._spare, None
        if spare is not None and spare.exception() is None:
            _end(spare.result())


def _end(process: Process) -> None:
    with process:
        process.kill()


@dataclass
class Worker:
    """Prepares one source in a process of its own: a `syncd.pipeline.prepare.Prepare`, for one sync."""

    on_killed: Callable[[int, float], None] = lambda _pid, _seconds: None
    """told the process id and its age in seconds"""
    start: Callable[[], Process] = start
    grace: float = GRACE
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _process: Process | None = None

    def __call__(self, request: Request, progress: Progress, meter: Meter) -> Preparing:
        """See `Prepare`. Raises `DeadlineExceeded`, `AbandonedError`, and `StoreError` where the process died."""
        end = time.monotonic() + request.source.deadline + self.grace
        with self._started() as process:
            if self._abandoned.is_set():
                raise _stopped(request.source.name)
            try:
                yield from self._listen(process, request, progress, meter, end)
            except TimeoutError:
                self.on_killed(process.pid, request.source.deadline + self.grace)
                raise DeadlineExceeded(
                    f"source {request.source.name}: not prepared within {request.source.deadline:g} seconds: its "
                    "worker was killed",
                    hint="the next sync tries again; if it stays so, raise deadline for this source",
                ) from None

    def abandon(self) -> None:
        """End the process at once, from any thread: whoever listens gets an `AbandonedError`."""
        self._abandoned.set()
        process = self._process
        if process is not None:
            process.kill()

    @contextlib.contextmanager
    def _started(self) -> Iterator[Process]:
        with self.start() as process:
            self._process = process
            try:
                yield process
            finally:
                process.kill()

    def _listen(self, process: Process, request: Request, progress: Progress, meter: Meter, end: float) -> Preparing:
        assert process.stdin  # noqa: S101 - for the type checker: it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it died already: the end of its answers says so
            process.stdin.write(wire.encode_request(request))
            process.stdin.close()
        for answer in self._answers(process, end):
            meter.reached(answer.received)
            if answer.told is not None:
                progress(answer.told.stage, answer.told.done, answer.told.total)
            elif answer.verified is not None:
                yield VerifiedSource(answer.verified)
            elif answer.result is not None:
                yield wire.prepared(answer.result)
            elif answer.fault is not None:
                raise wire.error_of(answer.fault)
            elif answer.end:
                return
        if self._abandoned.is_set():
            raise _stopped(request.source.name)
        raise _died(request.source.name, process.wait())

    def _answers(self, process: Process, end: float) -> Iterator[WorkerMessage]:
        assert process.stdout  # noqa: S101 - for the type checker: it is a pipe
        for line in _lines(process.stdout.fileno(), end):
            yield wire.decode(line)


def _lines(descriptor: int, end: float) -> Iterator[bytes]:
    """Whole lines until the end of the pipe. Raises `TimeoutError`: what came before is read first, however late."""
    held = bytearray()
    ready = select.poll()  # select(2) ends at descriptor 1,023, and a daemon with many readers has more
    ready.register(descriptor, select.POLLIN)
    while True:
        if not ready.poll(max(0.0, end - time.monotonic()) * 1e3):
            raise TimeoutError
        block = os.read(descriptor, _BLOCK)
        if not block:
            return
        held += block
        *lines, rest = held.split(b"\n")
        held = bytearray(rest)
        yield from map(bytes, lines)
        if len(held) > wire.MAX_LINE:
            raise StoreError("the worker process does not stop talking", hint="look for what this partner sends")


def _stopped(source: str) -> AbandonedError:
    return AbandonedError(
        f"the sync of {source} was abandoned: the daemon is stopping",
        hint="what was fetched is kept; the next sync goes on from there",
    )


def _died(source: str, status: int) -> StoreError:
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return StoreError(
        f"source {source}: the worker process ended {how} before it was done",
        hint="signal 9 without a stop: the kernel may have run out of memory; see its log",
    )
