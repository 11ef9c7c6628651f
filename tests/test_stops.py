"""Stopped at any call that changes a file, or failed there: nothing is torn, and the same command completes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from stops import folders
from stops.build import build, missing
from stops.folders import command
from stops.lab import Lab
from stops.run import Plan, try_some, work_folder
from stops.stories import ELSEWHERE, READING, STORIES, WRITING_OPTIONS
from syncd.cli.commands import program

SEED = 15
POINTS = 1
"""Points of each story that are tried here; `make crash` tries more."""

needs_compiler = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Processes with the library preloaded."""
    with work_folder() as folder, Lab(build(folder), folder / "lab") as found:
        yield found


@needs_compiler
@pytest.mark.parametrize("name", STORIES)
def test_a_command_stopped_anywhere(lab: Lab, name: str) -> None:
    """Readers have the old list or the new one whole, proofs hold, and running it again completes the work."""
    (tried,) = try_some(lab, Plan([name], SEED, most=POINTS))
    assert tried.faults == []
    assert len(tried.calls) > 1


def _commands(group: typer.core.TyperGroup, before: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield every command with its options; a group that is a command of its own comes with those in it."""
    for name, one in group.commands.items():
        found = one.load() if hasattr(one, "load") else one
        if not isinstance(found, typer.core.TyperGroup) or before + name != "feed":
            yield before + name, {option for parameter in found.params for option in parameter.opts}
        if isinstance(found, typer.core.TyperGroup):
            yield from _commands(found, f"{before}{name} ")


def test_every_command_that_writes_has_a_story() -> None:
    """A command is stopped in a story, or listed as one that changes no file, or as one with tests of its own."""
    stopped = [story.command.arguments for story in STORIES.values()]
    for name, options in _commands(program()):
        words = tuple(name.split())
        stories = [arguments for arguments in stopped if arguments[: len(words)] == words]
        assert stories or name in READING or name in ELSEWHERE, name
        for option in options & WRITING_OPTIONS:
            assert any(option in arguments for arguments in stories), (name, option)


@needs_compiler
@pytest.mark.parametrize("name", READING)
def test_a_command_that_reads_changes_nothing(lab: Lab, name: str) -> None:
    """So it needs no story."""
    assert lab.fault_of_reading(folders.WITH_TWO, command(READING[name])) == ""


def test_every_command_tried_elsewhere_has_tests() -> None:
    """The files exist."""
    assert all((Path(__file__).parent / file).exists() for file in ELSEWHERE.values())
