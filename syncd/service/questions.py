"""Questions about the state, as the daemon answers them for clients of the control socket.

Short ones are answered in the client's thread. Long ones get a process of their own, a few at a time: verifying a large
list must delay neither syncs nor matchers. The process is killed if the client goes away or the daemon stops.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from syncd.ask.child import LongQuestion
from syncd.ask.questions import QUESTIONS, answer, question
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.children import read_lines
from syncd.errors import AbandonedError, RefusedError, StoreError
from syncd.service import worker

COMMAND: Final = (sys.executable, "-P", "-m", "syncd.ask.child")
MOST: Final = 2
"""Long questions answered at a time."""
BEAT: Final = 1.0
"""Seconds between two signs of life to a client that waits: a client that has gone is noticed by them."""


Parts = Generator[dict[str, Any], None, None]
Process = subprocess.Popen[bytes]


class Questions:
    """Answers the questions of `syncd.ask.questions.QUESTIONS` about one state."""

    def __init__(
        self,
        folder: StateFolder,
        catalog: Catalog,
        clock: Callable[[], datetime],
        start: Callable[[], Process] = lambda: worker.start(COMMAND, with_store=True),
    ) -> None:
        self._folder, self._catalog, self._clock, self._start = folder, catalog, clock, start
        self._lock = threading.Lock()
        self._processes: list[Process | None] = []
        """of the long questions; None: about to start"""
        self._stopping = False

    def answers(self, name: str, arguments: Mapping[str, Any]) -> Parts:
        """Yield the answers to a question, the exit code last. Close the generator to cancel. Raises `SyncdError`."""
        if QUESTIONS[name].long:
            yield from self._in_process(name, arguments)
            return
        asked = question(name, arguments)
        code = yield from answer(asked, self._folder, self._clock(), lambda *_: None, self._catalog)
        yield {"end": code}

    def stop(self) -> None:
        """Kill the processes. Their clients get an `AbandonedError`."""
        with self._lock:
            self._stopping = True
            running = [process for process in self._processes if process is not None]
        for process in running:
            process.kill()

    def _in_process(self, name: str, arguments: Mapping[str, Any]) -> Parts:
        asked = LongQuestion(
            do=name,
            arguments=dict(arguments),
            state_dir=self._folder.root.absolute(),
            bucket=self._folder.bucket,
            database=self._folder.database,
            now=self._clock(),
        )
        with self._process() as process:
            assert process.stdin and process.stdout  # noqa: S101, PT018 - for the type checker: both are pipes
            with suppress(BrokenPipeError):  # it died already, which the end of its answers shows
                process.stdin.write(asked.model_dump_json().encode() + b"\n")
                process.stdin.close()
            for line in read_lines(process.stdout.fileno(), lambda: BEAT):
                part = {"beat": True} if line is None else json.loads(line)
                yield part
                if "end" in part:
                    return
            if self._stopping:
                raise _stopped()
            raise _died(process.wait())

    @contextmanager
    def _process(self) -> Iterator[Process]:
        """Start a process in one of the `MOST` places, and kill it at the end."""
        with self._lock:
            if self._stopping:
                raise _stopped()
            if len(self._processes) >= MOST:
                raise RefusedError(
                    f"the daemon already answers {MOST} long questions", hint="run the command again in a while"
                )
            self._processes.append(None)
        process: Process | None = None
        try:
            with self._started() as process:
                with self._lock:
                    self._processes[self._processes.index(None)] = process
                    stopping = self._stopping
                try:
                    if stopping:
                        raise _stopped()
                    yield process
                finally:
                    process.kill()
        finally:
            with self._lock:
                self._processes.remove(process)

    def _started(self) -> Process:
        try:
            return self._start()
        except OSError as error:
            raise StoreError(
                f"the question could not be answered: {error}",
                hint="check free memory and TasksMax= of the service, then ask again",
            ) from error


def _stopped() -> AbandonedError:
    return AbandonedError("the daemon is stopping", hint="ask again when it runs")


def _died(status: int) -> StoreError:
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return StoreError(
        f"the process that answers ended {how} before it was done",
        hint="ask again; after signal 9, look for out of memory in the kernel's log",
    )
