"""Documents that cannot rot: what they name exists, and what exists is named."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.commands import LazyCommand, program
from syncd.errors import RESTORE_CATALOG
from syncd.outcomes import HoldReason, Outcome
from syncd.pipeline.values import Deltas, Full, FullReason
from syncd.report.fleet import LAGS_AFTER, NO_LEADER_AFTER, SILENT_AFTER, DaemonRole
from syncd.service.leading import LEASE
from syncd.service.relay import TAKEN_WITHIN

PROJECT = Path(__file__).parent.parent
_AS_A_USER = r"(?:sudo (?:-u \w+ )?|runuser -u [\w-]+ -- )"
DOCUMENTS = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *PROJECT.glob("docs/**/*.md")])


def commands() -> list[tuple[Path, str]]:
    """Every command line of syncd in a document's shell examples."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL):
            joined = block.replace("\\\n", " ")
            found += [(document, line) for line in joined.splitlines() if re.match(rf"({_AS_A_USER})?syncd ", line)]
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_in_a_document_exists(document: Path, line: str) -> None:
    """Commands and options in examples are those of the program."""
    words = shlex.split(re.sub(rf"^{_AS_A_USER}", "", line.partition(" #")[0]))
    words = words[words.index("syncd") + 1 :]
    command: Any = program()
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        if name.startswith("-"):
            assert name in {"--help", "--version"}
            return
        assert name in command.commands, f"{document.name}: {line}"
        command = command.commands[name]
        command = command.load() if isinstance(command, LazyCommand) else command
    options = {option for parameter in command.params for option in parameter.opts}
    used = {word for word in words if word.startswith("--")}
    assert used - options - {"--help"} == set(), f"{document.name}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Relative links name files that are there."""
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text()


def test_every_path_in_the_architecture_exists() -> None:
    """A reader who is sent to a file finds it."""
    paths = set(re.findall(r"`((?:syncd|tests|monitoring)/[\w./-]*)`", ARCHITECTURE))
    assert paths
    assert [path for path in sorted(paths) if not (PROJECT / path).exists()] == []


def test_every_package_has_its_sentence() -> None:
    """The architecture says of each package what belongs in it, and names no other."""
    packages = {path.parent.name for path in (PROJECT / "syncd").glob("*/__init__.py")}
    assert sorted(re.findall(r"^\| `syncd/(\w+)` \| [A-Z].+\. \|$", ARCHITECTURE, re.M)) == sorted(packages)


def test_every_reason_and_outcome_is_documented() -> None:
    """What a sync may answer is explained to the operator."""
    told = (PROJECT / "docs" / "operations.md").read_text()
    plans = ("up_to_date", str(Deltas(())), *(str(Full(one)) for one in FullReason))
    missing = [one for one in (*Outcome, *HoldReason, *plans) if f"| `{one}` |" not in told]
    assert missing == []


def test_every_decision_says_what_it_costs() -> None:
    """A decision record has its drawbacks, and is one page."""
    for record in sorted((PROJECT / "docs" / "adr").glob("*.md")):
        text = record.read_text()
        assert re.search(r"^## (Drawbacks|Consequences)", text, re.MULTILINE), record.name
        assert len(text.splitlines()) <= 80, record.name


def test_every_defence_names_the_test_that_shows_it() -> None:
    """The threat model promises nothing that is not tried."""
    attacks = (PROJECT / "docs/threat-model.md").read_text().partition("## Attacks")[2].partition("\n## ")[0]
    rows = [line for line in attacks.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_[a-z_]+\.py)`", line) for line in rows]
    assert [line for line, tests in zip(rows, named, strict=True) if not tests] == []
    assert [test for tests in named for test in tests if not (Path(__file__).parent / test).exists()] == []


def test_a_hint_for_a_lost_catalog_names_a_section_of_the_manual() -> None:
    """The section exists under exactly the name that the hint gives."""
    _, section, rest = RESTORE_CATALOG.split('"')
    assert rest == " in docs/operations.md"
    assert f"## {section}" in (PROJECT / "docs/operations.md").read_text().splitlines()


def test_the_times_of_several_daemons_are_those_of_the_code() -> None:
    """A page that is read while nobody leads promises nothing else."""
    page = " ".join((PROJECT / "docs" / "several-daemons.md").read_text().split())
    after_a_crash = LEASE + NO_LEADER_AFTER.total_seconds()
    for promise in (
        f"a lease of {LEASE:.0f} seconds in the catalog and renews it every {LEASE / 3:.0f}",
        f"another daemon leads within {after_a_crash:.0f} seconds of the crash",
        f"If no daemon leads for {TAKEN_WITHIN:.0f} seconds, the order is taken back",
        f"none leads | {after_a_crash:.0f} seconds after a crash",
        f"a version that was replaced | after {LAGS_AFTER.total_seconds():.0f} seconds",
        f"is not seen | after {SILENT_AFTER.total_seconds():.0f} seconds, for a day",
        *(f"`{role}`" for role in (DaemonRole.STANDBY, DaemonRole.UNABLE, DaemonRole.SILENT)),
    ):
        assert promise in page, promise
