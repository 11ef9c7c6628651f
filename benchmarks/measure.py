"""Figures, and how they are taken: medians of several runs, memory of a process of its own."""

import gc
import hashlib
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SAMPLE_SECONDS: Final = 0.01
_BLOCK: Final = 8 << 20


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``measured`` and ``target`` in ``unit``; lower is better unless ``at_least``."""

    what: str
    measured: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured to target: 1 or less is good, or 1 or more where ``at_least``."""
        return self.measured / self.target if self.target else None

    @property
    def met(self) -> bool | None:
        if self.ratio is None:
            return None
        return self.ratio >= 1 if self.at_least else self.ratio <= 1


@dataclass(frozen=True)
class Timing:
    """Seconds of wall clock, and of this process's processors."""

    wall: float
    cpu: float


def timed(work: Callable[[], Any]) -> Timing:
    gc.collect()  # what was left by the steps before, of lists of other sizes too, is not charged to this one
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def median(timings: Sequence[Timing]) -> Timing:
    return Timing(statistics.median(one.wall for one in timings), statistics.median(one.cpu for one in timings))


def settle() -> None:
    """Let the disk finish what the preparation wrote, so that it is not charged to what is measured."""
    os.sync()


def warm(folder: Path, files: str = "*.arrow") -> None:
    """Bring the segments, or other files, below a folder into the page cache."""
    for path in folder.rglob(files):
        with path.open("rb", buffering=0) as stream:
            while stream.read(_BLOCK):
                pass


def forget(folder: Path) -> None:
    """Drop the folder's files from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy_and_hash(source: Path, scratch: Path) -> float:
    """The yardstick of a first sync: seconds to copy the file durably and to hash it."""
    settle()
    started = time.perf_counter()
    target = scratch / "yardstick"
    shutil.copyfile(source, target)
    with target.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
    os.sync()
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


@dataclass(frozen=True)
class Run:
    """What a process of its own measured of itself, and the most anonymous memory it had (bytes)."""

    timing: Timing
    anonymous: int
    """the most at any moment"""
    before: int
    """before the work: interpreter and libraries"""


def in_process(work: Callable[..., None], *arguments: Any) -> Run:
    """Run ``work`` in a fresh process, its imports made before; raises where it fails."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        ours.recv()  # its imports are made
        before = most = anonymous(process.pid)
        settle()
        ours.send(None)
        while not ours.poll(_SAMPLE_SECONDS):
            most = max(most, anonymous(process.pid))
        return Run(Timing(*ours.recv()), most, before)
    finally:
        process.join()


def _child(pipe: Any, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    pipe.send(None)
    pipe.recv()
    timing = timed(lambda: work(*arguments))
    pipe.send((timing.wall, timing.cpu))


def anonymous(pid: int | None) -> int:
    """Bytes of anonymous memory that a process holds: what it cannot give back by dropping mapped files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0
