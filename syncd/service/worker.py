"""The worker process, seen from the daemon: takes one sync, reports its progress, and is killed after its deadline."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from syncd.children import read_lines
from syncd.errors import AbandonedError, DeadlineExceeded, StoreError
from syncd.fetch import Meter
from syncd.pipeline import wire
from syncd.pipeline.preparation import Preparing, Progress, Request, VerifiedSource

COMMAND: Final = (sys.executable, "-P", "-m", "syncd.service.child")
GRACE: Final = 5.0
"""Seconds that the worker gets, past the sync's deadline, to report it and leave its partial files in order."""

_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that the worker inherits. The others may hold credentials."""

_OF_STORE: Final = "AWS_"

Process = subprocess.Popen[bytes]


def start(command: Sequence[str] = COMMAND, *, with_store: bool = False) -> Process:
    """Start a worker process. It ends with the thread that started it, or earlier.

    ``with_store``: it inherits the credentials of the store as well, since it reads files that may not be here.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a traceback may hold digests
        env={
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or (with_store and name.startswith(_OF_STORE))
        },
        cwd="/",
        start_new_session=True,
    )


class SpareWorker:
    """Starts worker processes, one of them ahead of need: starting takes longer than most syncs."""

    def __init__(self, start: Callable[[], Process] = start) -> None:
        self._start = start
        self._starter = ThreadPoolExecutor(1, "syncd-workers")  # must outlive the processes: see `start`
        self._lock = threading.Lock()
        self._spare: Future[Process] | None = None
        self._closed = False

    def take(self) -> Process:
        """Return the spare process, or start one if there is no spare."""
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and spare.exception() is None:
            process = spare.result()
            if process.poll() is None:
                return process
            _end(process)  # it was killed while it waited
        return self._starter.submit(self._start).result()

    def refill(self) -> None:
        """Start a spare process, unless there is one already. Does not wait for it."""
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = self._starter.submit(self._start)

    def close(self) -> None:
        """End the spare process. Processes that were taken are ended by their `Worker`."""
        with self._lock:
            self._closed, spare, self._spare = True, self._spare, None
        if spare is not None and spare.exception() is None:
            _end(spare.result())


def _end(process: Process) -> None:
    with process:
        process.kill()


@dataclass
class Worker:
    """Prepares one source in a process of its own: a `syncd.pipeline.preparation.Prepare`, for one sync."""

    on_killed: Callable[[int, float], None] = lambda _pid, _seconds: None
    """called with the process ID and its age in seconds"""
    start: Callable[[], Process] = start
    grace: float = GRACE
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _process: Process | None = None

    def __call__(self, request: Request, progress: Progress, meter: Meter) -> Preparing:
        """See `Prepare`. Raises `DeadlineExceeded`, `AbandonedError`, and `StoreError` if the process died."""
        end = time.monotonic() + request.source.deadline + self.grace
        with self._started() as process:
            if self._abandoned.is_set():
                raise _stopped(request.source.name)
            try:
                yield from self._listen(process, request, progress, meter, end)
            except TimeoutError:
                self.on_killed(process.pid, request.source.deadline + self.grace)
                raise DeadlineExceeded(
                    f"source {request.source.name}: fetching and staging took longer than "
                    f"its deadline of {request.source.deadline:g} s, so the worker was killed",
                    hint="the next sync tries again; if this goes on, raise deadline for this source",
                ) from None

    @staticmethod
    def _lines(descriptor: int, end: float) -> Iterator[bytes]:
        """Yield whole lines. Raises `TimeoutError` at ``end``, after all that has arrived was read; `StoreError`."""
        try:
            for line in read_lines(descriptor, lambda: end - time.monotonic(), wire.MAX_LINE):
                if line is None:
                    raise TimeoutError
                yield line
        except ValueError as error:
            raise StoreError(
                f"the worker process sent {error}",
                hint="inspect this partner's feed: it may have compromised the worker",
            ) from error

    def abandon(self) -> None:
        """Kill the process at once, from any thread. The caller of the worker gets an `AbandonedError`."""
        self._abandoned.set()
        process = self._process
        if process is not None:
            process.kill()

    @contextlib.contextmanager
    def _started(self) -> Iterator[Process]:
        try:
            started = self.start()
        except OSError as error:
            raise StoreError(
                f"the worker process could not be started: {error}",
                hint="check free memory and TasksMax= of the service; the next sync tries again",
            ) from error
        with started as process:
            self._process = process
            try:
                yield process
            finally:
                process.kill()

    def _listen(self, process: Process, request: Request, progress: Progress, meter: Meter, end: float) -> Preparing:
        assert process.stdin and process.stdout  # noqa: S101, PT018 - for the type checker: both are pipes
        with contextlib.suppress(BrokenPipeError):  # it died already, which the end of its answers shows
            process.stdin.write(wire.encode_request(request))
            process.stdin.close()
        for answer in map(wire.decode, self._lines(process.stdout.fileno(), end)):
            meter.reached(answer.received)
            if answer.progress is not None:
                progress(answer.progress.stage, answer.progress.done, answer.progress.total)
            elif answer.verified is not None:
                yield VerifiedSource(answer.verified, answer.set_aside)
            elif answer.result is not None:
                yield wire.prepared(answer.result)
            elif answer.fault is not None:
                raise wire.error_of(answer.fault)
            elif answer.end:
                return
        if self._abandoned.is_set():
            raise _stopped(request.source.name)
        status = process.wait()
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise StoreError(
            f"source {request.source.name}: the worker process ended {how} before it was done",
            hint="the next sync tries again; after signal 9, look for out of memory in the kernel's log",
        )


def _stopped(source: str) -> AbandonedError:
    return AbandonedError(
        f"the sync of {source} was abandoned, because the daemon is stopping",
        hint="the next sync goes on from the files fetched so far",
    )
