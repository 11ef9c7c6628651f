"""The guides as tests take them: the commands of a section, run in the words of the page.

    cure = Cure(section("Backup and restore"), {"/var/lib/syncd": state})
    assert cure.run("tar -x -p -f FILE -C /var/lib/syncd", FILE=backup).code == 0
    cure.end()

A command that the page does not have (any more) fails the test, and so does one that the test did not run.
"""

import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from command_line import Ran, syncd

DOCS: Final = Path(__file__).parents[1] / "docs"
_PROGRAM: Final = r"(?:syncd|systemctl|sudo|runuser|install|tar|cp|mv|rm|chmod|chown) [^`]+"
_INLINE: Final = re.compile(rf"`({_PROGRAM})`")
_LINE: Final = re.compile(rf"(?:\$ )?({_PROGRAM})")


def section(title: str, page: str = "operations.md") -> str:
    """The text below a heading, with the sections in it."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*)", (DOCS / page).read_text(), re.M | re.S)
    assert found, f"docs/{page} has no section {title!r}"
    end = re.search(rf"^#{{1,{len(found[1])}}} ", found[2], re.M)
    return found[2][: end.start()] if end else found[2]


def rows_of(title: str, page: str = "operations.md") -> dict[str, str]:
    """The tables of a section: the last cell of each row, by its first."""
    lines = [line for line in section(title, page).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[-1] for row in cells}


def what_to_do(alert: str) -> str:
    """The text after "Do" in the runbook of an alert."""
    found = re.search(r"^- \*\*Do\*\*: (.*?)(?=^- \*\*)", section(alert), re.M | re.S)
    assert found, alert
    return found[1]


def code_lines(text: str) -> list[str]:
    """The command lines of a text's examples, in their order, without comments."""
    examples = [*re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S), *re.findall(r"(?:^ {4}\S.*\n)+", text, re.M)]
    lines = "".join(examples).replace("\\\n", " ").splitlines()
    found = (_LINE.fullmatch(re.sub(r"\s+# .*", "", line).strip()) for line in lines)
    return [_spaced(match[1]) for match in found if match]


def shell_lines(text: str) -> list[str]:
    """Every line of a text's shell examples, in their order, with its comment; continued lines as one."""
    examples = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    return [line for line in examples.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def commands(text: str) -> set[str]:
    """Every command of a text, in its sentences and in its examples."""
    return {_spaced(command) for command in _INLINE.findall(text)} | set(code_lines(text))


def advised(ran: Ran) -> set[str]:
    """The commands that an error of ours names as what to do."""
    found = re.search(r"^ *to do: (.*)", ran.err, re.M)
    assert found, ran.err
    return commands(found[1])


def _spaced(command: str) -> str:
    return re.sub(r"\s+", " ", command).strip()


class Cure:
    """The commands of a text, and those already run. ``values`` replace the placeholders of the page."""

    def __init__(self, text: str, values: Mapping[str, object] | None = None) -> None:
        self.named, self.done, self._values = commands(text), set[str](), dict(values or {})

    def run(self, command: str, **values: object) -> Ran:
        """Run a command of the text, in this process if it is ours, with ``values`` for its capital letters."""
        self.stand_for(command)
        line = re.sub(r"^(sudo -u syncd|runuser -u syncd --) ", "", command)
        line = with_values(line, {**self._values, **values})
        program, *arguments = shlex.split(line)
        if program == "syncd":
            return syncd(*arguments)
        shell = subprocess.run(["sh", "-ec", line], capture_output=True, text=True, check=False)
        return Ran(shell.returncode, shell.stdout, shell.stderr)

    def stand_for(self, command: str) -> None:
        """Count a command as done: the test does the same by other means."""
        assert command in self.named, f"{command!r} is not among {sorted(self.named)}"
        self.done.add(command)

    def end(self) -> None:
        """Check that every command of the text was run."""
        assert self.done == self.named


def with_values(line: str, values: Mapping[str, object]) -> str:
    """Put values in the places of the words of a command, the longest first."""
    for name, value in sorted(values.items(), key=lambda item: -len(item[0])):
        line = _with_value(line, name, value)
    return line


def _with_value(line: str, name: str, value: object) -> str:
    """Put a value in the place of a name; the values of a tuple in that of ``--option NAME ...``."""
    if isinstance(value, tuple):
        repeated = re.compile(rf"(--[a-z-]+) {re.escape(name)} \.\.\.")
        return repeated.sub(lambda match: " ".join(f"{match[1]} {shlex.quote(str(one))}" for one in value), line)
    before = r"[\w.-]" if name.isupper() else r"[\w/.-]"  # a placeholder may be the name of a file in a folder
    whole = re.compile(rf"(?<!{before}){re.escape(name)}(?![\w-])")
    return whole.sub(lambda _: shlex.quote(str(value)) if " " not in name else str(value), line)
