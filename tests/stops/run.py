"""Tries stories: at every point, or at as many of them as there is time for."""

import argparse
import itertools
import os
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stops.build import build, missing
from stops.lab import Lab, Tried
from stops.points import in_order, points_of
from stops.processes import How, Point
from stops.stories import STORIES

_IN_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 1 << 30


@dataclass(frozen=True)
class Plan:
    """The choice of stories and points, and the time for them."""

    stories: Sequence[str]
    seed: int
    seconds: float | None = None
    """None: without end"""
    most: int | None = None
    """the most points of each story"""

    @property
    def is_whole(self) -> bool:
        """True if every point is tried."""
        return self.seconds is None and self.most is None


def try_some(lab: Lab, plan: Plan, say: Callable[[str], None] = lambda _: None) -> list[Tried]:
    """Try stories in turn, each at one point after another, while there is time; each is tried once at least."""
    end = time.monotonic() + plan.seconds if plan.seconds else None
    tried = [_begin(lab, name, plan) for name in plan.stories]
    left = [iter(in_order(one.calls, f"{plan.seed} {one.story.name}")[: plan.most]) for one in tried]
    rounds = itertools.count()
    going = list(zip(tried, left, strict=True))
    while going:
        first = not next(rounds)
        for turn in list(going):
            one, points = turn
            point = next(points, None) if first or not (end and time.monotonic() > end) else None
            if point is None:
                going.remove(turn)
                continue
            before = len(one.faults)
            lab.attempt(one, point)
            for fault in one.faults[before:]:
                say(fault)
    return tried


def _begin(lab: Lab, name: str, plan: Plan) -> Tried:
    """List the calls of a story; if many points will follow, look at its states too."""
    tried = lab.count(STORIES[name], check=plan.is_whole)
    if plan.most is None:
        lab.watch(tried)
    return tried


def try_all(plan: Plan, jobs: int) -> list[Tried]:
    """Try stories, several at a time: as ``plan`` says, or whole if it sets no limit."""
    left: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in plan.stories:
        left.put(name)
    with work_folder() as folder:
        library = build(folder)

        def work(job: int) -> list[Tried]:
            own = replace(plan, stories=plan.stories[job::jobs])
            with Lab(library, folder / str(job)) as lab:
                return list(_one_by_one(lab, plan, left)) if plan.is_whole else try_some(lab, own, _say_fault)

        with ThreadPoolExecutor(jobs) as pool:
            found = [tried for some in pool.map(work, range(jobs)) for tried in some]
    return sorted(found, key=lambda one: plan.stories.index(one.story.name))


def _one_by_one(lab: Lab, plan: Plan, left: "queue.SimpleQueue[str]") -> Iterator[Tried]:
    """Try the stories that no other job has taken, each whole, and say how they went."""
    while not left.empty():
        with suppress(queue.Empty):
            (tried,) = try_some(lab, replace(plan, stories=[left.get_nowait()]), _say_fault)
            print(_row(tried), file=sys.stderr, flush=True)
            yield tried


def _say_fault(fault: str) -> None:
    print(f"FAULT {fault}", file=sys.stderr, flush=True)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a temporary folder, in memory if there is room: nothing here has to survive a power cut."""
    in_memory = os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(prefix="stops-", dir=_IN_MEMORY if in_memory else None) as folder:
        yield Path(folder)


def try_one(name: str, point: Point) -> Tried:
    """Try one point of one story."""
    with work_folder() as folder, Lab(build(folder), folder / "0") as lab:
        tried = lab.count(STORIES[name])
        lab.attempt(tried, point)
        return tried


def _point(text: str) -> Point:
    at, _, how = text.partition(":")
    return Point(int(at), How[how])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m stops", description=__doc__)
    parser.add_argument("--seconds", type=float, help="stop after this time; default: try every point")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the order of the points")
    parser.add_argument("--only", metavar="STORY", action="append", choices=STORIES, help="may be repeated")
    parser.add_argument("--point", metavar="N:HOW", type=_point, help="with --only: this point, such as 17:TORN")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--list", action="store_true", help="list the calls of each story, and try nothing")
    return parser.parse_args()


def _list(stories: Sequence[str]) -> None:
    with work_folder() as folder, Lab(build(folder), folder / "0") as lab:
        for name in stories:
            tried = lab.count(STORIES[name])
            for number, call in enumerate(tried.calls, 1):
                print(name, number, call.kind, call.length, call.file)


_COLUMNS: Final = ("calls", "points", "tried", "seen", "states", "endings", "faults")


def _numbers(tried: Tried) -> list[int]:
    points, checked = len(points_of(tried.calls)), (len(tried.checked), len(tried.endings))
    return [len(tried.calls), points, len(tried.tried), tried.seen, *checked, len(tried.faults)]


def _row(tried: Tried) -> str:
    return f"{tried.story.name:28}" + "".join(f"{number:8,}" for number in _numbers(tried))


def _report(tried: Sequence[Tried], seed: int, seconds: float) -> None:
    """Print a row for each story. Of the points tried, ``seen`` were not run; ``states`` were checked."""
    print(f"{'story':28}" + "".join(f"{column:>8}" for column in _COLUMNS))
    for one in tried:
        print(_row(one))
    totals = [sum(numbers) for numbers in zip(*map(_numbers, tried), strict=True)]
    print(f"{f'{len(tried)} stories, seed {seed}':28}" + "".join(f"{number:8,}" for number in totals))
    for how in How:
        number = sum(point.how is how for one in tried for point in one.tried)
        if number:
            print(f"  {how.name:10}{number:8,}")
    print(f"{sum(one.rechecked for one in tried):,} states were checked twice")
    print(f"{sum(one.differed for one in tried):,} kills left another state than the running command had shown")
    print(f"{seconds / 60:.0f} minutes")
    for one in tried:
        for fault in one.faults:
            print(f"FAULT {fault}")


def main() -> int:
    """Run the harness by hand; return 1 if there were faults."""
    given = _arguments()
    lacking = missing()
    if lacking:
        print(f"NOTHING WAS TRIED: the library cannot be built: {lacking}", file=sys.stderr)
        return 0
    begun = time.monotonic()
    stories = given.only or list(STORIES)
    if given.list:
        _list(stories)
        return 0
    if given.point:
        tried = [try_one(name, given.point) for name in stories]
    else:
        jobs = min(given.jobs, len(stories))
        tried = try_all(Plan(stories, given.seed, given.seconds), jobs)
    _report(tried, given.seed, time.monotonic() - begun)
    return 1 if any(one.faults for one in tried) else 0
