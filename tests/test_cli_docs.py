import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.commands import OF_FEED, OF_PROGRAM, LazyCommand, Place, program
from syncd.config import Config, RetentionTable, Serve, StoreTable
from syncd.format.caps import DEFAULT_CAPS
from syncd.sources.tables import TABLES

DOCS = Path(__file__).parents[1] / "docs"
CLI, CONFIGURATION = (DOCS / "cli.md").read_text(), (DOCS / "configuration.md").read_text()


def commands(group: Any, name: str = "syncd") -> Iterator[tuple[str, Any]]:
    """Every command under its whole name."""
    for key, known in group.commands.items():
        command = known.load() if isinstance(known, LazyCommand) else known
        if hasattr(command, "commands"):
            if "Exit codes:" in (command.help or ""):  # a command by itself as well
                yield f"{name} {key}", command
            yield from commands(command, f"{name} {key}")
        else:
            yield f"{name} {key}", command


COMMANDS = dict(commands(program()))


def section(name: str) -> str:
    """What docs/cli.md says of a command."""
    found = re.search(rf"^## {name}(?: [A-Z[][^\n]*)?\n(.*?)(?=^## |\Z)", CLI, re.M | re.S)
    assert found, f"docs/cli.md has no section on {name}"
    return found[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """Each command has a section that names each of its options, and no option that it does not have."""
    options = {flag for one in COMMANDS[name].params for flag in one.opts if flag.startswith("--")} - {"--help"}
    rows = [line for line in section(name).splitlines() if line.startswith("| `--")]
    assert {flag for line in rows for flag in re.findall(r"`(--[a-z-]+)", line.split("|")[1])} == options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """What it does, its exit codes and an example that begins with its name, within 80 columns."""
    text = COMMANDS[name].help
    assert "Exit codes:\n" in text
    assert f"Example:\n  {name} " in text
    first = text.splitlines()[0]
    assert first.endswith(".")
    assert len(first) < 70
    shown = [line for line in text.splitlines() if line.startswith("  ")]
    assert max(map(len, shown)) <= 78


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *((f"syncd {name}", place) for name, place in OF_PROGRAM.items()),
        *((f"syncd feed {name}", place) for name, place in OF_FEED.items()),
    ],
)
def test_the_summary_of_a_command_is_its_first_line(name: str, place: Place) -> None:
    """The help of a group shows the summary without importing the command."""
    assert COMMANDS[name].help.splitlines()[0] == place.summary


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 10, 130])
def test_every_exit_code_is_documented(code: int) -> None:
    """In the documentation and in the program's help."""
    assert re.search(rf"^\| {code} \| .+ \|$", CLI, re.M)
    assert re.search(rf"^  {code} +[a-z]", program().help or "", re.M)


@pytest.mark.parametrize(
    "key",
    [
        *(key for key in Config.model_fields if key not in {"sources", "serve", "operators", "dashboard", "retention"}),
        *(key for table in TABLES.values() for key in table.model_fields),
        *Serve.model_fields,
        *RetentionTable.model_fields,
        *StoreTable.model_fields,
    ],
)
def test_every_key_is_documented(key: str) -> None:
    """Each has a row, with its default."""
    pages = CONFIGURATION + (DOCS / "partners" / "README.md").read_text()
    assert re.search(rf"^\| (`[a-z_]+`, )*`{key}`(, `[a-z_]+`)* \| .+ \| .+ \|$", pages, re.M)


def test_the_defaults_are_those_of_the_program() -> None:
    """Numbers in documents rot first."""
    assert f"| {DEFAULT_CAPS.rows} |" in CONFIGURATION
    assert f"| {DEFAULT_CAPS.length} |" in CONFIGURATION
    for key, value in RetentionTable():
        if isinstance(value, int):
            assert re.search(rf"^\| `{key}` \| .+ \| {value} \|$", CONFIGURATION, re.M), key
    assert (RetentionTable().grace, RetentionTable().matchers) == (86400.0, 30 * 86400.0)


def test_the_example_is_a_configuration(tmp_path: Path) -> None:
    """It can be copied."""
    from syncd.config_file import load

    found = re.search(r"```toml\n(.*?)```", CONFIGURATION, re.S)
    assert found
    (tmp_path / "c.toml").write_text(found[1])
    assert load(tmp_path / "c.toml").source("iwf").lists == ("images", "videos")


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"syncd feed serve", "syncd mirror", "syncd alerts"}))
def test_every_command_that_reports_can_do_so_in_json(name: str) -> None:
    """All but those that serve, or print a file for another program: programs read what people read."""
    assert "--json" in {flag for parameter in COMMANDS[name].params for flag in parameter.opts}
