"""Starts commands of syncd in real processes, and stops or fails them at a chosen call."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

HALF: Final = "half"
"""In a trace: the process is in the middle of a write."""
_UNNAMED: Final = re.compile(r"#\d+ \(deleted\)$")
"""The path of a file without a name; the number is its inode."""
_TESTS: Final = Path(__file__).parents[1]


class How(IntEnum):
    """The faults of a call; the numbers are those of ``interpose.c``."""

    COUNT = 0
    """nothing: the calls are listed"""
    BEFORE = 1
    """the process is killed before the call"""
    TORN = 2
    """half of the bytes are written, and the process is killed"""
    AFTER = 3
    """the process is killed after the call"""
    NO_SPACE = 4
    """the disk is full from this call on: half of the bytes fit, and later calls that take up space fail"""
    IO_ERROR = 5
    """this call alone fails with EIO"""

    @property
    def kills(self) -> bool:
        """True if the process ends there."""
        return self in {How.BEFORE, How.TORN, How.AFTER}


@dataclass(frozen=True)
class Call:
    """One call that changes files."""

    kind: str
    takes_space: bool
    length: int
    """bytes that it writes"""
    file: str


@dataclass(frozen=True)
class Point:
    """A call by its number, from 1 on, and what happens there."""

    at: int
    how: How


@dataclass(frozen=True)
class Command:
    """A command line of syncd."""

    arguments: tuple[str, ...]
    stdin: str = field(default="", repr=False)
    hours_ahead: float = 0
    """by which the clock is ahead that the command reads"""

    def __str__(self) -> str:
        return " ".join(("syncd", *self.arguments))


@dataclass(frozen=True)
class Ended:
    """The end of one command."""

    command: Command
    code: int | None
    """None: the process was stopped"""
    signal: int
    """the number of the signal that stopped it, or 0"""
    out: str
    err: str
    calls: Sequence[Call] = field(default=(), repr=False)

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


class Processes:
    """Starts processes with the library preloaded. One at a time; two of these work side by side."""

    def __init__(self, library: Path) -> None:
        self._output = tempfile.TemporaryDirectory(prefix="stops-")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "stops.server"],
            cwd=_TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.communicate()
        self._output.cleanup()

    def run(
        self,
        folder: Path,
        *commands: Command,
        clock: int,
        point: Point | None = None,
        seed: int = 0,
        here: bool = False,
    ) -> list[Ended]:
        """Run commands in one process, in ``folder``; a stopped command is the last. ``point`` counts from the first.

        ``clock``: the time of day in the first command, in seconds since 1970, one more in each further command.
        ``seed``: if it is not 0, two processes with the same seed draw the same random bytes.
        ``here``: in the process that later ones are forked from, so that they find its caches filled.

        With `How.COUNT` the calls are those of the whole process, given with its first command.
        """
        output = Path(tempfile.mkdtemp(dir=self._output.name))
        trace = output / "trace" if point and point.how is How.COUNT else None
        self._ask(folder, output, commands, clock=clock, seed=seed, here=here, point=point, trace=trace)
        signal = self._signal()
        calls = calls_of(trace.read_text(errors="replace").splitlines()) if trace else ()
        ended = []
        for number, command in enumerate(commands):
            code = _read(output / f"{number}.code")
            out, err = (_read(output / f"{number}.{kind}") for kind in ("out", "err"))
            ended.append(Ended(command, int(code) if code else None, 0 if code else signal, out, err, calls))
            calls = ()
            if not code:
                break
        shutil.rmtree(output)
        return ended

    def run_in_steps(
        self, folder: Path, command: Command, at_call: Callable[[str], None], *, clock: int, seed: int
    ) -> None:
        """Run a command, which waits before each call while ``at_call`` runs, and in the middle of each write.

        ``at_call`` is given the line of the trace, or `HALF` in the middle of a write.
        """
        output = Path(tempfile.mkdtemp(dir=self._output.name))
        trace, answers = output / "trace", output / "answers"
        os.mkfifo(trace)
        os.mkfifo(answers)
        point = Point(0, How.COUNT)
        self._ask(folder, output, [command], clock=clock, seed=seed, point=point, trace=trace, answers=answers)
        with trace.open(errors="replace") as lines, answers.open("wb", buffering=0) as answer:
            for line in lines:
                at_call(line.rstrip("\n"))
                answer.write(b".")
        self._signal()
        shutil.rmtree(output)

    def _ask(
        self,
        folder: Path,
        output: Path,
        commands: Sequence[Command],
        *,
        clock: int,
        seed: int,
        point: Point | None,
        trace: Path | None,
        here: bool = False,
        answers: Path | None = None,
    ) -> None:
        request = {
            "folder": str(folder),
            "output": str(output),
            "commands": [asdict(command) for command in commands],
            "clock": clock,
            "seed": seed,
            "here": here,
            "point": point and {"at": point.at, "how": point.how},
            "trace": trace and str(trace),
            "answers": answers and str(answers),
        }
        assert self._server.stdin
        print(json.dumps(request), file=self._server.stdin, flush=True)

    def _signal(self) -> int:
        """Wait for the end of a process, and return the signal that stopped it, or 0."""
        assert self._server.stdout
        return int(json.loads(self._server.stdout.readline())["signal"])


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def calls_of(trace: Sequence[str]) -> Sequence[Call]:
    """Return the calls of the lines of a trace."""
    fields = (_UNNAMED.sub("(unnamed)", line).split(" ", 3) for line in trace)
    return tuple(Call(kind, takes_space == "1", int(length), file) for kind, takes_space, length, file in fields)
