"""Folders in which stories are tried, and the points that were tried there."""

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stops.checks import ANSWERED, Checks, Ending, faults_of_end, keys_in
from stops.folders import WARM, Folder, make, placed, write_settings
from stops.points import states_after
from stops.processes import HALF, Call, Command, Ended, How, Point, Processes, calls_of
from stops.states import States
from stops.stories import Story

_STEP: Final = 60
"""Seconds from the making of a folder to the command in it."""
_SEED: Final = 15
_RECHECKED: Final = 0.01
"""The share of points whose state is known that are tried and checked all the same."""


@dataclass
class Tried:
    """The result of a story."""

    story: Story
    calls: Sequence[Call] = ()
    states: dict[Point, str] = field(default_factory=dict)
    """the states of the points that kill it, as a running command showed them"""
    tried: list[Point] = field(default_factory=list)
    seen: int = 0
    """points among them that were not run: their state was seen in the running command, and checked before"""
    differed: int = 0
    """points that killed it and left another state than the running command had shown"""
    rechecked: int = 0
    """points among them that were checked although their state was known"""
    checked: dict[tuple[bool, str], Sequence[str]] = field(default_factory=dict)
    """the faults of each state, with whether the command had ended well"""
    endings: dict[str, Ending] = field(default_factory=dict)
    """the results of the checks after the command was run again, by the state in which it left the folder"""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Made:
    path: Path
    clock: int
    """seconds since 1970 after its last command"""


class Lab:
    """One series of processes, and the folders that they work in. Their clocks begin with that of this process."""

    def __init__(self, library: Path, base: Path) -> None:
        self.processes = Processes(library)
        self._base = base
        self._made: dict[str, _Made] = {}
        self._begun = int(time.time())
        self._rng = random.Random(_SEED)
        base.mkdir()
        self._states = States(base / "catalog")
        self._template(WARM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.processes.__exit__(None, None, None)

    def _template(self, folder: Folder) -> _Made:
        if folder.name not in self._made:
            before = self._template(folder.after) if folder.after else None
            path = self._base / f"folder-{len(self._made)}"
            clock = (before.clock if before else self._begun) + _STEP
            make(folder, path, self.processes, before.path if before else None, clock)
            self._made[folder.name] = _Made(path, clock + len(folder.steps))
        return self._made[folder.name]

    def copy(self, folder: Folder) -> Path:
        """Return a copy of a folder as it is made."""
        template, base = self._template(folder), self._base / "tried"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(template.path, base, symlinks=True)
        write_settings(base)
        return base

    def count(self, story: Story, *, check: bool = True) -> Tried:
        """Run a story that nothing stops, and list its calls; with ``check``, check its promises too."""
        tried = Tried(story)
        point = Point(0, How.COUNT)
        base, ended = self._run(story, point)
        tried.calls = ended.calls
        if check:
            self._judge(tried, point, base, ended, story.name)
        return tried

    def fault_of_reading(self, begins: Folder, given: Command) -> str:
        """Run a command that should end well and leave the folder as it is; return what is wrong, or ""."""
        base, clock = self.copy(begins), self._template(begins).clock + _STEP
        before = self._states.of(base)
        (ended,) = self.processes.run(base, given, clock=clock)
        if ended.code not in ANSWERED:
            return str(ended)
        return "" if self._states.of(base) == before else f"{given} changed files"

    def watch(self, tried: Tried) -> None:
        """Run a story that waits at each call, and note the state that each point which kills it would leave."""
        base = self.copy(tried.story.begins)
        trace: list[str] = []
        states: list[str] = []

        def look(line: str) -> None:
            trace.append(line)
            states.append(self._states.of(base))

        command, clock = self._placed(tried.story, base)
        self.processes.run_in_steps(base, command, look, clock=clock, seed=_SEED)
        if calls_of([line for line in trace if line != HALF]) == tried.calls:
            tried.states = dict(states_after(tried.calls, states))

    def attempt(self, tried: Tried, point: Point) -> None:
        """Stop a story at a point, and check its promises, unless the same state was checked before."""
        tried.tried.append(point)
        known = tried.checked.get((False, tried.states.get(point, "")))
        if known is not None and not known and self._rng.random() >= _RECHECKED:
            tried.seen += 1
            return
        base, ended = self._run(tried.story, point)
        call = tried.calls[point.at - 1]
        where = f"--only {tried.story.name} --point {point.at}:{point.how.name} ({call.kind} {call.file})"
        state = self._judge(tried, point, base, ended, where)
        if tried.states.get(point, state) != state:
            tried.differed += 1

    def _placed(self, story: Story, base: Path) -> tuple[Command, int]:
        """Return the command of a story, and the time of day in it."""
        clock = self._template(story.begins).clock + _STEP
        return placed(story.command, base, datetime.fromtimestamp(clock, UTC)), clock

    def _run(self, story: Story, point: Point) -> tuple[Path, Ended]:
        base = self.copy(story.begins)
        command, clock = self._placed(story, base)
        (ended,) = self.processes.run(base, command, point=point, clock=clock, seed=_SEED)
        return base, ended

    def _judge(self, tried: Tried, point: Point, base: Path, ended: Ended, where: str) -> str:
        """Check the promises of a story after a point, and return the state that it left."""
        story = tried.story
        tried.faults += [f"{where}: {fault}" for fault in faults_of_end(story, point, ended)]
        done = ended.code == story.code
        key = done, self._states.of(base)
        known = tried.checked.get(key)
        if known is None or self._rng.random() < _RECHECKED:
            keys = keys_in(self._template(story.begins).path)
            clock = self._placed(story, base)[1]
            endings = tried.endings if known is None else {}
            checks = Checks(story, base, self.processes, self._states, keys, clock, endings)
            found = list(checks.faults(done=done))
            if known is not None:
                tried.rechecked += 1
            if known == [] and found:
                tried.faults.append(f"{where}: a state that passed before does not pass again")
            tried.checked[key] = found
        tried.faults += [f"{where}: {fault}" for fault in tried.checked[key]]
        return key[1]
