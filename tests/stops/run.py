"""Tries stories: at every point, or at as many of them as there is time for."""

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stops.build import build, missing
from stops.folders import Folder, command, digest, make, placed, write_settings
from stops.processes import Call, Command, Ended, How, Point, Processes
from stops.stories import RETIRED, STORIES, Served, Story

ASKED: Final = range(131)
"""The numbers that a reader is asked for."""
_HELD: Final = 3
_ANSWERED: Final = frozenset({0, 10})
_SCRATCH: Final = frozenset({"staging", "scratch", "download"})


def points_of(calls: Sequence[Call]) -> list[Point]:
    """Return every point of a command, by its calls.

    A process that is killed after a call leaves what one leaves that is killed before the next, so only the last call
    is stopped after it; and a flush changes nothing that a killed process leaves.
    """
    points = []
    for number, call in enumerate(calls, 1):
        if call.kind != "sync":
            points.append(Point(number, How.BEFORE))
        if call.kind == "write" and call.length > 1:
            points.append(Point(number, How.TORN))
        if call.takes_space:
            points.append(Point(number, How.NO_SPACE))
        points.append(Point(number, How.IO_ERROR))
    return [*points, Point(len(calls), How.AFTER)] if calls else []


@dataclass
class Tried:
    """The result of a story."""

    story: Story
    calls: Sequence[Call] = ()
    tried: list[Point] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Lab:
    """One series of processes, and the folders that they work in."""

    def __init__(self, library: Path, base: Path) -> None:
        self.processes = Processes(library)
        self._base = base
        self._made: dict[str, Path] = {}
        base.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.processes.__exit__(None, None, None)

    def _template(self, folder: Folder) -> Path:
        if folder.name not in self._made:
            before = self._template(folder.after) if folder.after else None
            path = self._base / f"folder-{len(self._made)}"
            make(folder, path, self.processes, before)
            self._made[folder.name] = path
        return self._made[folder.name]

    def copy(self, folder: Folder) -> Path:
        """Return a copy of a folder as it is made."""
        template, base = self._template(folder), self._base / "tried"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(template, base, symlinks=True)
        write_settings(base)
        return base

    def count(self, story: Story, *, check: bool = True) -> Tried:
        """Run a story that nothing stops, and list its calls; with ``check``, check its promises too."""
        base = self.copy(story.begins)
        point = Point(0, How.COUNT)
        (ended,) = self.processes.run(base, placed(story.command, base), point=point)
        tried = Tried(story, ended.calls)
        if check:
            tried.faults += [f"{story.name}: {fault}" for fault in self._check(story, base, point, ended)]
        return tried

    def attempt(self, tried: Tried, point: Point) -> None:
        """Stop a story at a point, and check its promises."""
        story = tried.story
        base = self.copy(story.begins)
        (ended,) = self.processes.run(base, placed(story.command, base), point=point)
        tried.tried.append(point)
        call = tried.calls[point.at - 1]
        where = f"--only {story.name} --point {point.at}:{point.how.name} ({call.kind} {call.file})"
        tried.faults += [f"{where}: {fault}" for fault in self._check(story, base, point, ended)]

    def _check(self, story: Story, base: Path, point: Point, ended: Ended) -> Iterator[str]:
        keys = _keys(self._template(story.begins))
        # Before a set-up has ended nobody has a root, and so nobody can have read what it signed.
        signed = {} if story.damaged or story.new is None else _signed(base)
        yield from _fault_of(story, point, ended)
        yield from self._check_at_once(story, base, done=ended.code == story.code)
        if story.check:
            yield from story.check(base, self.processes)
        yield from self._check_in_the_end(story, base)
        yield from (f"lost the key {name}" for name, content in keys.items() if _content(base / name) != content)
        yield from (f"left behind {path}" for path in _left_behind(base))
        after = _signed(base)
        yield from (f"signed twice: {name}" for name in signed.keys() & after if signed[name] != after[name])

    def _check_at_once(self, story: Story, base: Path, *, done: bool) -> Iterator[str]:
        """Check what readers and proofs find at once. ``done``: the command ended well."""
        pulls = [placed(story.reader.pull, base)] if story.reader.pull else []
        proofs = [_proof(name) for name in story.proves if done or (base / name).exists()]
        ended = self.processes.run(base, *pulls, _look_up(story), *proofs)
        yield from _hangs(ended)
        readers, proved = ended[: len(pulls) + 1], ended[len(pulls) + 1 :]
        served = _served(readers[-1])
        expects_failure = story.new is None or (not done and (story.old is None or story.damaged))
        allowed: set[Served] = {story.new} if done else {story.old, story.new}
        if served not in allowed and not (served is None and expects_failure):
            yield f"readers have {_numbers(served)}, not {' or '.join(map(_numbers, allowed))}"
        for end in readers:
            if end.code not in _ANSWERED and not _is_typed(end):
                yield f"readers fail without a cure: {end}"
            elif end.code not in _ANSWERED and not expects_failure and served != RETIRED:
                yield f"readers fail: {end}"
        yield from (f"it cannot be proved: {end}" for end in proved if end.code and (done or not _is_typed(end)))

    def _check_in_the_end(self, story: Story, base: Path) -> Iterator[str]:
        """Run the command again, and what comes after it; check that everything is in place."""
        commands = [placed(one, base) for one in (story.command, *story.ends)]
        ended = self.processes.run(base, *commands, _look_up(story), *map(_proof, story.proves))
        yield from _hangs(ended)
        again, *ends = ended[: len(commands)]
        if again.code not in {story.code, story.again}:
            yield f"it cannot be run again: {again}"
        yield from (f"afterwards: {end}" for end in ends if end.code not in {0, _HELD})
        served = _served(ended[len(commands)])
        if served != story.last:
            yield f"in the end readers have {_numbers(served)}, not {_numbers(story.last)}"
        yield from (f"it cannot be proved in the end: {end}" for end in ended[len(commands) + 1 :] if end.code)


def _look_up(story: Story) -> Command:
    return Command(("lookup", story.reader.copy, "-", "--json"), "\n".join(map(digest, ASKED)))


def _proof(folder: str) -> Command:
    return command(f"verify {folder}")


def _hangs(ended: Sequence[Ended]) -> Iterator[str]:
    """Yield the fault of a check whose process did not come to its end."""
    yield from (f"stopped by itself: {end}" for end in ended if end.code is None)


def _served(ended: Ended) -> Served:
    """Return the answer of a look-up of all numbers."""
    document: Any = ended.json if ended.out.startswith("{") else {}
    if not document.get("lists"):
        return None
    if all(one["retired"] for one in document["lists"]):
        return RETIRED
    return frozenset(number for number, one in zip(ASKED, document["digests"], strict=True) if one["matched"])


def _fault_of(story: Story, point: Point, ended: Ended) -> Iterator[str]:
    """Yield the fault of a command that did not end as it should at a point."""
    if ended.code is None and ended.signal == 9 and point.how.kills:
        return
    if ended.code is None:
        yield f"it ended by signal {ended.signal}: {ended}"
    elif ended.code != story.code and (point.how not in {How.NO_SPACE, How.IO_ERROR} or not _is_typed(ended)):
        yield f"it ended with {ended.code}: {ended}"


def _is_typed(ended: Ended) -> bool:
    """Return True if a command failed with an error that says what to do."""
    text = ended.err + ended.out
    return ended.code is not None and ("to do: " in text or '"to_do"' in text) and "internal error" not in text


def _numbers(served: Served) -> str:
    if not isinstance(served, frozenset):
        return served or "no list"
    return " ".join(map(str, sorted(served))) or "an empty list"


def _keys(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*.pem")}


def _signed(base: Path) -> dict[str, bytes]:
    """Return every signed document that a reader may have seen, by folder, name and version."""
    found = {}
    for path in [*base.glob("**/metadata/*.json"), *base.glob("**/*.manifest.json")]:
        content, name = path.read_bytes(), str(path.relative_to(base))
        if path.name == "timestamp.json" and content:
            name += f" {json.loads(content)['signed']['version']}"
        found[name] = content
    return found


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _left_behind(base: Path) -> list[str]:
    """Return the files that only a command under way may have."""
    files = (path.relative_to(base) for path in base.rglob("*") if path.is_file() and path.name != "lock")
    return [str(path) for path in files if path.name.startswith(".tmp-") or _SCRATCH.intersection(path.parts)]


@dataclass(frozen=True)
class Plan:
    """The choice of stories and points, and the time for them."""

    stories: Sequence[str]
    seed: int
    seconds: float | None = None
    """None: every point"""
    most: int | None = None
    """the most points of each story"""


def try_some(lab: Lab, plan: Plan, say: Callable[[str], None] = lambda _: None) -> list[Tried]:
    """Try stories in turn, each at one random point after another, while there is time; each is tried once at least."""
    end = time.monotonic() + plan.seconds if plan.seconds else None
    whole = plan.most is None and plan.seconds is None
    tried = [lab.count(STORIES[name], check=whole) for name in plan.stories]
    left = [iter(_shuffled(points_of(one.calls), f"{plan.seed} {one.story.name}")[: plan.most]) for one in tried]
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


def _shuffled(points: Sequence[Point], seed: str) -> list[Point]:
    """Return points in random order, in turn one that stops the process and one that fails a call."""
    rng = random.Random(seed)
    kinds: list[list[Point]] = [[], []]
    for point in rng.sample(points, len(points)):
        kinds[point.how.kills].append(point)
    rng.shuffle(kinds)
    turns = itertools.zip_longest(*kinds)
    return [point for turn in turns for point in turn if point is not None]


def try_all(plan: Plan, jobs: int) -> list[Tried]:
    """Try stories, several at a time."""
    with tempfile.TemporaryDirectory(prefix="stops-") as folder:
        library = build(Path(folder))

        def work(job: int) -> list[Tried]:
            own = Plan(plan.stories[job::jobs], plan.seed, plan.seconds, plan.most)
            with Lab(library, Path(folder) / str(job)) as lab:
                return try_some(lab, own, lambda fault: print(f"FAULT {fault}", file=sys.stderr, flush=True))

        with ThreadPoolExecutor(jobs) as pool:
            return [tried for some in pool.map(work, range(jobs)) for tried in some]


def try_one(name: str, point: Point) -> Tried:
    """Try one point of one story."""
    with tempfile.TemporaryDirectory(prefix="stops-") as folder, Lab(build(Path(folder)), Path(folder) / "0") as lab:
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
    with tempfile.TemporaryDirectory(prefix="stops-") as folder, Lab(build(Path(folder)), Path(folder) / "0") as lab:
        for name in stories:
            tried = lab.count(STORIES[name])
            for number, call in enumerate(tried.calls, 1):
                print(name, number, call.kind, call.length, call.file)


def _report(tried: Sequence[Tried], seed: int) -> None:
    print(f"{'story':28}{'calls':>8}{'points':>8}{'tried':>8}{'faults':>8}")
    totals = [0, 0, 0, 0]
    for one in tried:
        numbers = [len(one.calls), len(points_of(one.calls)), len(one.tried), len(one.faults)]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        print(f"{one.story.name:28}" + "".join(f"{number:8,}" for number in numbers))
    print(f"{f'{len(tried)} stories, seed {seed}':28}" + "".join(f"{number:8,}" for number in totals))
    for how in How:
        number = sum(point.how is how for one in tried for point in one.tried)
        if number:
            print(f"  {how.name:10}{number:8,}")
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
    stories = given.only or list(STORIES)
    if given.list:
        _list(stories)
        return 0
    if given.point:
        tried = [try_one(name, given.point) for name in stories]
    else:
        jobs = min(given.jobs, len(stories))
        tried = try_all(Plan(stories, given.seed, given.seconds), jobs)
    _report(tried, given.seed)
    return 1 if any(one.faults for one in tried) else 0
