"""What docs/partner.md tells a partner to do after a mistake or a loss, word for word; and examples of the runbook."""

import shutil
from pathlib import Path

import pytest

from command_line import Ran, operate, syncd, use_clock
from runbook import Cure, advised, code_lines, commands, section
from syncd.matcher import Matcher
from world import World, row, rows

PAGE = "partner.md"


@pytest.fixture
def partner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner whose list is at version 42, and a follower that holds it."""
    use_clock(world.clock, monkeypatch)
    world.publish(full=rows(0, 30))
    for number in range(30, 71):
        world.publish(add=[row(number)])
    assert not world.follow().errors
    return world


def csv(world: World, *numbers: int) -> Path:
    """A file with the rows of these numbers."""
    path = world.base / "rows.csv"
    path.write_text("\n".join(["algorithm,digest,entry,label", *(",".join(row(one)) for one in numbers), ""]))
    return path


def version(world: World) -> int:
    """The newest version of the list."""
    found = syncd("feed", "snapshots", world.partner.root, "--json").json["lists"][0]["snapshots"]
    return int(found[0]["version"])


def test_a_bad_row_that_was_signed_is_taken_back(partner: World) -> None:
    """By itself, or with the whole version; each line of the section ends well."""
    text = section("You signed a bad row", PAGE)
    before = version(partner)
    values = {"/srv/feed": partner.partner.root, "wrong.csv": csv(partner, 3), "changes.csv": partner.base / "c.csv"}
    cure = Cure(text, {**values, "41": before - 1, "42": before})
    for line in code_lines(text):
        ran = cure.run(line)
        assert ran.code == 0, ran
        if "--remove" in line:
            assert version(partner) > before
            assert not partner.follow().errors
            assert not follower(partner).lookup("sha256", row(3)[1])
    assert (partner.base / "c.csv").stat().st_mode & 0o777 == 0o600
    assert not partner.follow().errors
    assert follower(partner).lookup("sha256", row(3)[1]), "the revert took the removal back as well"
    assert syncd("verify", partner.partner.root).code == 0


def follower(world: World) -> Matcher:
    """A matcher on the copy of a direct follower."""
    return Matcher.open(world.mirror, clock=world.clock)


def test_files_that_were_damaged_are_copied_back(partner: World) -> None:
    """From a follower's copy, as the example has it; `verify` is content, and the next publication goes on."""
    text = section("Files are damaged or lost", PAGE)
    for path in partner.partner.root.rglob("*.arrow"):
        path.unlink()
    assert syncd("verify", partner.partner.root).code == 4
    cure = Cure(text, {"/srv/feed": partner.partner.root, "copy": partner.mirror})
    for line in code_lines(text):
        ran = cure.run(line)
        assert ran.code == 0, ran
    done = syncd("feed", "publish", partner.partner.root, "--list", "images", "--add", csv(partner, 80))
    assert done.code == 0, done


def test_a_segment_that_nobody_has_any_more(partner: World) -> None:
    """The list is retired and published whole; followers have it again."""
    cure = Cure(
        section("Files are damaged or lost", PAGE),
        {"/srv/feed": partner.partner.root, "R": "lost", "F": csv(partner, *range(71))},
    )
    for path in partner.partner.root.rglob("*.arrow"):
        path.unlink()
    retired = cure.run("syncd feed retire /srv/feed --list images --reason R")
    assert retired.code == 0, retired
    published = cure.run("syncd feed publish /srv/feed --list images --full F")
    assert published.code == 0, published
    assert syncd("verify", partner.partner.root).code == 0
    fresh = syncd("pull", partner.url, "--root", partner.root, "--dir", partner.base / "fresh")
    assert fresh.code == 0, fresh


def test_a_journal_that_was_damaged(partner: World) -> None:
    """Removed as the error and the page say; the next publication goes on."""
    assert "Remove the file" in section("Files are damaged or lost", PAGE)
    journal = partner.partner.path(".work/journal.json")
    journal.write_text("{")
    add = ("feed", "publish", partner.partner.root, "--list", "images", "--add", csv(partner, 80))
    refused = syncd(*add)
    assert (refused.code, str(journal) in refused.err) == (1, True)
    journal.unlink()
    assert advised_verify(refused, partner).code == 0
    assert syncd(*add).code == 0


def advised_verify(ran: Ran, world: World) -> Ran:
    """Run the `syncd verify` that an error advises, on the feed."""
    assert "syncd verify" in ran.err or "syncd verify" in advised(ran)
    return syncd("verify", world.partner.root)


def test_a_list_that_was_emptied_on_purpose(partner: World) -> None:
    """Published with its code; or ended."""
    assert commands(section("You emptied a list on purpose", PAGE)) >= {"syncd feed publish --remove"}
    remove = ("feed", "publish", partner.partner.root, "--list", "images", "--remove", csv(partner, *range(71)))
    held = syncd(*remove, "--json")
    assert held.code == 3
    assert syncd(*remove, "--accept", held.json["judged"]["code"]).code == 0
    shutil.rmtree(partner.mirror)
    assert not partner.follow().errors
    assert syncd("feed", "retire", partner.partner.root, "--list", "images", "--reason", "ended").code == 0


@pytest.mark.parametrize("title", ["Old files and records", "The audit log"])
def test_the_examples_of_the_runbook_can_be_typed(world: World, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    """Those that have no placeholder, as they stand."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    cure = Cure(section(title))
    lines = code_lines(section(title))
    assert lines
    for line in lines:
        ran = cure.run(line)
        assert ran.code == 0, ran
