"""The address of the runbook, from the configuration: in the rules that are printed, and in what a probe says."""

import re

import pytest

from command_line import configure, operate, settings, syncd
from runbook import DOCS
from syncd.report import runbook
from test_alerts import RULES
from world import World, rows

PAGE = "https://wiki.example.org/syncd/operations"


def with_page(world: World, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the address of the runbook."""
    operate(world, monkeypatch)
    configure(world.base / "syncd.toml", f"runbook = '{page}'\n{settings(world)}", monkeypatch)


def test_the_rules_are_printed_with_absolute_links(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else of them is changed."""
    operate(world, monkeypatch)
    plain = syncd("alerts")
    assert plain.code == 0
    assert plain.err.startswith("warning: the links to the runbook are relative paths\n  to do: set `runbook`")
    with_page(world, PAGE, monkeypatch)
    ran = syncd("alerts")
    assert (ran.code, ran.err) == (0, "")
    assert set(re.findall(r"runbook_url: (\S+)", ran.out)) == {f"{PAGE}#{rule['alert'].lower()}" for rule in RULES}
    assert plain.out == (DOCS.parent / "syncd" / "alerts.yml").read_text()
    assert ran.out.replace(f"{PAGE}#", "docs/operations.md#") == plain.out


def test_there_is_one_copy_of_the_rules() -> None:
    """That of the package; promtool's tests read it through a link."""
    project = DOCS.parent
    link = project / "monitoring" / "alerts.yml"
    assert link.is_symlink()
    assert link.resolve() == project / "syncd" / "alerts.yml"


@pytest.mark.parametrize(
    "page", ["docs/operations.md", "wiki.example.org", f"{PAGE}#top", "https://a b", 'https://x/"', "ftp://x/"]
)
def test_only_the_absolute_address_of_a_page_is_taken(world: World, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fragment, and nothing that YAML or HTML would read otherwise."""
    with_page(world, page, monkeypatch)
    ran = syncd("alerts")
    assert (ran.code, ran.out) == (2, "")
    assert "runbook: not the absolute address of a page\n  to do: write it without #" in ran.err


def test_every_section_that_is_named_exists() -> None:
    """In docs/operations.md, under the name that a link has."""
    named = {one for key, one in vars(runbook).items() if key.isupper() and isinstance(one, str)}
    headings = {found.lower() for found in re.findall(r"^#+ (\w+)$", (DOCS / "operations.md").read_text(), re.M)}
    assert {one.lower() for one in (*named, *runbook.OF_OUTCOME.values())} <= headings


def test_a_probe_names_the_section_about_its_worst_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last, and only if the page is configured and there is a fault."""
    with_page(world, PAGE, monkeypatch)
    world.publish(full=rows(0, 130))
    assert syncd("sync").code == 0
    assert "runbook" not in syncd("status", "--check").out
    world.clock.forward(hours=-3)
    assert f"; runbook: {PAGE}#syncdstateahead" in syncd("status", "--check").out
    world.clock.forward(hours=3)
    world.publish(remove=rows(10, 130))
    assert syncd("sync").code == 3
    held = syncd("status", "--check").out
    assert held.partition(" | ")[0].rstrip().endswith(f"; runbook: {PAGE}#syncdheld")
    operate(world, monkeypatch)
    assert "runbook" not in syncd("status", "--check").out
