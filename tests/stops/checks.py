"""The promises that hold after a command was stopped or failed."""

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from stops.folders import command, digest, placed
from stops.processes import Command, Ended, How, Point, Processes
from stops.states import States
from stops.stories import RETIRED, Served, Story

ASKED: Final = range(131)
"""The numbers that a reader is asked for."""
_HELD: Final = 3
ANSWERED: Final = frozenset({0, 10})
"""Exit codes of commands that answer: there was a match, or none."""
_SCRATCH: Final = frozenset({"staging", "scratch", "download"})
_SEED_AGAIN: Final = 16
"""Other random names than those of the first run."""
_STEP: Final = 60
"""Seconds from the command to the checks, and between those."""


@dataclass(frozen=True)
class Ending:
    """The result of the checks after the command was run again."""

    faults: Sequence[str]
    signed: Mapping[str, bytes]
    """as `_signed` returns it, in the end"""


@dataclass(frozen=True)
class Checks:
    """Checks the promises of a story in its folder, after its command has ended."""

    story: Story
    base: Path
    processes: Processes
    states: States
    keys: Mapping[str, bytes]
    """every private key at the beginning, by its path in the folder"""
    clock: int
    """seconds since 1970 when the command ran"""
    endings: MutableMapping[str, Ending]
    """by the state after the command was run again; those that are found are added"""

    def faults(self, *, done: bool) -> Iterator[str]:
        """Yield the faults of the folder; changes it. ``done``: the command ended well."""
        # Before a set-up has ended nobody has a root, and so nobody can have read what it signed.
        signed = {} if self.story.damaged or self.story.new is None else _signed(self.base)
        yield from self._at_once(done=done)
        if self.story.check:
            yield from self.story.check(self.base, self.processes, self.clock + _STEP)
        yield from self._again()
        state = self.states.of(self.base)
        if state not in self.endings:
            self.endings[state] = self._ending()
        ending = self.endings[state]
        yield from ending.faults
        for name in signed.keys() & ending.signed:
            if signed[name] != ending.signed[name]:
                yield f"signed twice: {name}"

    def _at_once(self, *, done: bool) -> Iterator[str]:
        """Check what readers and proofs find at once."""
        story, clock = self.story, self.clock + _STEP
        pulls = [self._placed(story.reader.pull, clock)] if story.reader.pull else []
        proofs = [_proof(name) for name in story.proves if done or (self.base / name).exists()]
        ended = self.processes.run(self.base, *pulls, _look_up(story), *proofs, clock=clock)
        yield from _hangs(ended)
        readers, proved = ended[: len(pulls) + 1], ended[len(pulls) + 1 :]
        served = _served(readers[-1])
        expects_failure = story.new is None or (not done and (story.old is None or story.damaged))
        allowed: set[Served] = {story.new} if done else {story.old, story.new}
        if served not in allowed and not (served is None and expects_failure):
            yield f"readers have {_numbers(served)}, not {' or '.join(map(_numbers, allowed))}"
        for end in readers:
            if end.code not in ANSWERED and not _is_typed(end):
                yield f"readers fail without a cure: {end}"
            elif end.code not in ANSWERED and not expects_failure and served != RETIRED:
                yield f"readers fail: {end}"
        yield from (f"it cannot be proved: {end}" for end in proved if end.code and (done or not _is_typed(end)))

    def _again(self) -> Iterator[str]:
        """Run the command again."""
        story, clock = self.story, self.clock + 2 * _STEP
        (again,) = self.processes.run(self.base, self._placed(story.command, clock), clock=clock, seed=_SEED_AGAIN)
        yield from _hangs([again])
        if again.code not in {None, story.code, story.again}:
            yield f"it cannot be run again: {again}"

    def _ending(self) -> Ending:
        """Run what comes after the command; check that everything is in place."""
        faults = list(self._in_the_end())
        for name, content in self.keys.items():
            if _content(self.base / name) != content:
                faults.append(f"lost the key {name}")
        faults += [f"left behind {path}" for path in _left_behind(self.base)]
        return Ending(faults, _signed(self.base))

    def _in_the_end(self) -> Iterator[str]:
        story, clock = self.story, self.clock + 3 * _STEP
        commands = [self._placed(one, clock) for one in story.ends]
        ended = self.processes.run(self.base, *commands, _look_up(story), *map(_proof, story.proves), clock=clock)
        yield from _hangs(ended)
        for end in ended[: len(commands)]:
            if end.code not in {None, 0, _HELD}:
                yield f"afterwards: {end}"
        served = _served(ended[len(commands)])
        if served != story.last:
            yield f"in the end readers have {_numbers(served)}, not {_numbers(story.last)}"
        yield from (f"it cannot be proved in the end: {end}" for end in ended[len(commands) + 1 :] if end.code)

    def _placed(self, given: Command, clock: int) -> Command:
        return placed(given, self.base, datetime.fromtimestamp(clock, UTC))


def keys_in(base: Path) -> dict[str, bytes]:
    """Return every private key below a folder, by its path there."""
    return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*.pem")}


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


def faults_of_end(story: Story, point: Point, ended: Ended) -> Iterator[str]:
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


def _signed(base: Path) -> dict[str, bytes]:
    """Return every signed document that a reader may have seen, by folder, name and version."""
    found = {}
    for path in [*base.glob("**/metadata/*.json"), *base.glob("**/*.manifest.json")]:
        content, name = path.read_bytes(), str(path.relative_to(base))
        with suppress(ValueError):  # torn: its readers say so
            version = f" {json.loads(content)['signed']['version']}" if path.name == "timestamp.json" else ""
            found[name + version] = content
    return found


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _left_behind(base: Path) -> list[str]:
    """Return the files that only a command under way may have."""
    files = (path.relative_to(base) for path in base.rglob("*") if path.is_file() and path.name != "lock")
    return [str(path) for path in files if path.name.startswith(".tmp-") or _SCRATCH.intersection(path.parts)]
