"""Runs the command line in this process, as a shell would see it."""

import contextlib
import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import main
from world import Clock, World

TAKES_TIME = r"^from syncd\.cli\.output import (\([^)]*|.*)\butc_now\b"
CLOCKED = sorted(
    module.stem
    for module in (Path(__file__).parents[1] / "syncd" / "cli").glob("*.py")
    if module.stem != "output" and re.search(TAKES_TIME, module.read_text(), re.M)
)
"""The modules of commands that take the time."""


ALONE = "no daemon is running: this was read from the state, and nothing syncs by itself\n"
"""The line of status and matchers without a daemon."""
HERE = "note: no daemon is running: this process synced, and nothing syncs by itself\n"
"""The note of a sync without a daemon."""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON document it must be."""
        return json.loads(self.out)


def syncd(*arguments: object, stdin: str = "") -> Ran:
    """Run ``syncd`` with these arguments."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(one) for one in arguments])
    finally:
        sys.stdin = before
    return Ran(code, out.getvalue(), err.getvalue())


def use_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command take the time from ``clock``."""
    for module in CLOCKED:
        monkeypatch.setattr(f"syncd.cli.{module}.utc_now", clock)


def configure(path: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``text`` the configuration that commands find."""
    path.write_text(text)
    monkeypatch.setenv("SYNCD_CONFIG", str(path))


def place(world: World) -> str:
    """The configuration of a world's operator without sources."""
    catalog = f'catalog = "{world.database.url}"\n' if world.database else ""
    return f'{catalog}state_dir = "{world.state.root}"\n'


def settings(world: World, more: str = "") -> str:
    """The configuration of a world's operator; ``more`` is of its source."""
    return (
        f'{place(world)}control_socket = "{world.base}/c.sock"\n'
        f'[sources.iwf]\ntype = "feed"\nurl = "{world.url}"\nroot = "{world.root}"\n{more}'
    )


def operate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command work for a world's operator, by the world's clock."""
    use_clock(world.clock, monkeypatch)
    configure(world.base / "syncd.toml", settings(world), monkeypatch)
