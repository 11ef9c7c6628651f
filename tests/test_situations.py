"""docs/situations.md, taken word for word: each command of a section, in the situation that the section is for."""

import re
from pathlib import Path
from typing import Final

import pytest

from command_line import Ran, configure, operate, settings, syncd
from syncd.acts import AddedMatcher
from syncd.catalog.records import AuditEntry, MatcherRecord
from test_explain import check_in
from test_holds import forked  # noqa: F401 - a fixture
from world import World, row, rows

PAGE: Final = (Path(__file__).parents[1] / "docs" / "situations.md").read_text()
WRONG: Final = f"{row(3)[0]}:{row(3)[1]}\n"


class Section:
    """The commands that a section names, and those of them that were run."""

    def __init__(self, title: str) -> None:
        found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
        assert found, title
        commands = re.findall(r"`(syncd [^`]+)`|\$ (syncd .*)", found[1])
        self.named = {re.sub(r"\s+", " ", one or other) for one, other in commands}
        self.tried = set[str]()

    def run(self, command: str, *arguments: object, stdin: str = "") -> Ran:
        """Run a command that the section names, with the arguments of this story."""
        self.tried.add(command)
        return syncd(*arguments, stdin=stdin)

    def end(self) -> None:
        """See that the story took exactly the commands of the section."""
        assert self.tried == self.named


def served(world: World) -> set[int]:
    """The numbers that a matcher answers after a pull."""
    assert not world.pull().errors
    matcher = world.matcher()
    return {number for number in range(1002) if world.hits(number, matcher)}


@pytest.fixture
def listed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator of one list with 1,002 entries."""
    monkeypatch.setenv("COLUMNS", "100")
    operate(world, monkeypatch)
    world.publish(full=rows(0, 1002))
    assert syncd("sync").code == 0
    world.clock.forward(hours=1)
    return world


def test_the_list_halved_overnight(listed: World, tmp_path: Path) -> None:
    """Nothing is lost while somebody decides, each way out works, and a wrong release can be undone."""
    section, every = Section("The list halved overnight"), set(range(1002))
    listed.publish(remove=rows(501, 1002))
    assert syncd("sync").code == 3
    holds = section.run("syncd holds", "holds").out
    assert "501 of 1,002 rows (sha256), limit 50" in re.sub(r"\s+", " ", holds)
    assert re.search(r"sha256 +A +0 +167 +0", section.run("syncd holds 7", "holds", 1).out)
    rows_file = tmp_path / "held.csv"
    assert section.run("syncd holds 7 --out /root/held.csv", "holds", 1, "--out", rows_file).code == 0
    assert len(rows_file.read_text().splitlines()) == 502
    assert section.run("syncd snapshots iwf.images", "snapshots", "iwf.images").code == 0
    assert "1,002" in section.run("syncd status", "status").out
    assert served(listed) == every
    listed.publish(add=rows(501, 1002))
    assert section.run("syncd sync", "sync").code == 0
    assert syncd("holds").out == "nothing is held\n"
    listed.publish(remove=rows(501, 1002))
    assert syncd("sync").code == 3
    discard = 'syncd discard 7 --reason "under dispute"'
    assert section.run(discard, "discard", 2, "--reason", "under dispute").code == 0
    assert syncd("sync").code == 0
    assert served(listed) == every
    release = 'syncd release 7 --reason "IWF, Ms Hill, by telephone"'
    assert section.run(release, "release", 2, "--reason", "IWF, Ms Hill, by telephone").code == 0
    assert served(listed) == set(range(501))
    back = ("rollback", "iwf.images", 1, "--exact", "--reason", "wrong release")
    asked = section.run('syncd rollback iwf.images 41 --exact --reason "wrong release"', *back)
    assert asked.code == 3
    code = re.search(r"--accept (\w+)", asked.out + asked.err)
    assert code
    assert syncd(*back, "--accept", code[1]).code == 0
    assert served(listed) == every
    listed.publish(add=rows(501, 1002))
    assert syncd("sync").code == 0
    unpin = 'syncd unpin iwf.images --reason "corrected"'
    assert section.run(unpin, "unpin", "iwf.images", "--reason", "corrected").code == 0
    assert served(listed) == every
    section.end()


@pytest.mark.parametrize("retired", [False, True])
def test_a_list_was_emptied_on_purpose(listed: World, monkeypatch: pytest.MonkeyPatch, *, retired: bool) -> None:
    """The partner is asked first; then the list goes on empty, or ends."""
    section = Section("A list was emptied on purpose")
    listed.publish(remove=rows(0, 1002))
    assert syncd("sync").code == 3
    listed.publish(add=rows(0, 1002))
    assert section.run("syncd sync", "sync").code == 0, "it was a mistake"
    listed.publish(remove=rows(0, 1002))
    assert syncd("sync").code == 3
    release = 'syncd release 7 --reason "withdrawn, letter of 3 May"'
    assert section.run(release, "release", 2, "--reason", "withdrawn, letter of 3 May").code == 0
    assert served(listed) == set()
    if retired:
        listed.publish(add=rows(0, 10))
        assert syncd("sync").code == 0
        assert served(listed) == set(range(10)), "the next additions are judged as for a new list"
        return
    configure(listed.base / "syncd.toml", settings(listed).replace("[sources.iwf]", "[sources.other]"), monkeypatch)
    section.tried.add("syncd release")
    ended = 'syncd retire iwf.images --reason "contract ended"'
    assert section.run(ended, "retire", "iwf.images", "--reason", "contract ended").code == 0
    section.end()


def test_a_partner_signed_a_bad_row(listed: World) -> None:
    """It stops matching at once, and does not return after the partner has removed it."""
    section = Section("A partner signed a bad row")
    suppress = 'syncd suppress - --reason "case 4711" < digest'
    assert section.run(suppress, "suppress", "-", "--reason", "case 4711", stdin=WRONG).code == 0
    assert 3 not in served(listed)
    explain = "syncd explain - < digest"
    assert "suppressed" in section.run(explain, "explain", "-", stdin=WRONG).out
    listed.clock.forward(minutes=10)
    listed.publish(remove=[row(3)])
    assert section.run("syncd sync", "sync").code == 0
    assert "removed" in syncd("explain", "-", stdin=WRONG).out
    unsuppress = 'syncd unsuppress 1 --reason "removed"'
    assert section.run(unsuppress, "unsuppress", 1, "--reason", "removed").code == 0
    assert 3 not in served(listed)
    listed.publish(add=rows(1002, 1100))
    assert syncd("sync").code == 0
    back = 'syncd rollback iwf.images 41 --reason "wrong version"'
    assert section.run(back, "rollback", "iwf.images", 1, "--reason", "wrong version").code == 0
    assert served(listed) == set(range(1002)) - {3}
    unpin = 'syncd unpin iwf.images --reason "corrected"'
    assert section.run(unpin, "unpin", "iwf.images", "--reason", "corrected").code == 0
    assert syncd("status", "--json").json["lists"][0]["rows"] == 1099
    section.end()


def test_why_did_this_match_on_that_day(listed: World) -> None:
    """In force at that time, since when and by whom, at which version of the matcher, and what still waits."""
    section = Section("Why did this match on that day")
    joined = AuditEntry(listed.clock(), "alice", AddedMatcher("web", None))
    with listed.publisher() as publisher:
        publisher.catalog.add_matcher(MatcherRecord("web", "a" * 64, None, listed.clock(), "alice"), joined)
    check_in(listed, "web-1", 1)
    listed.clock.forward(hours=1)
    day = listed.clock()
    listed.clock.forward(hours=30)
    listed.publish(remove=[row(3)])
    assert syncd("sync").code == 0
    check_in(listed, "web-1", 2)
    at = f"{day:%Y-%m-%dT%H:%M}"
    answer = section.run(
        "syncd explain md5:8d777f385d3dfec8815d20f7496026dc --at 2026-05-03T14:30", "explain", WRONG.strip(), "--at", at
    )
    assert answer.code == 0
    told = re.sub(r" +", " ", answer.out)
    assert f"iwf.images: in force at {day:%Y-%m-%d %H:%M} UTC, version 1" in told
    assert re.search(
        r"added e3 A 1 1 full.*\n.*removed e3 A 2 2 deltas *\nserial 1, 2 signed by key [0-9a-f]{12}", told
    )
    assert re.search(rf"matched at {day:%Y-%m-%d %H:%M} UTC\nweb 1 1 yes", told)
    assert (
        "iwf.images version 2"
        in section.run("syncd audit --since 2026-05-01", "audit", "--since", f"{day:%Y-%m-%d}").out
    )
    assert section.run("syncd holds", "holds").out == "nothing is held\n"
    piped = "syncd explain - --at 24h < digest"
    assert section.run(piped, "explain", "-", "--at", "24h", stdin=WRONG).out.startswith("iwf.images: in force at ")
    assert syncd("explain", "-", stdin=WRONG).out.startswith("iwf.images: not in force")
    assert syncd("explain", "-", "--at", "24h", "--json", stdin=WRONG).json["lists"][0]["list"] == "iwf.images"
    assert section.run("syncd verify", "verify").code == 0
    section.end()


@pytest.mark.parametrize("release", [True, False])
def test_the_partner_restored_a_backup(
    forked: tuple[World, World],  # noqa: F811 - a fixture
    monkeypatch: pytest.MonkeyPatch,
    *,
    release: bool,
) -> None:
    """The list moves to the other history, or stays at ours."""
    world, _ = forked
    section = Section("The partner restored a backup")
    operate(world, monkeypatch)
    assert syncd("sync").code == 3
    assert "both" in section.run("syncd holds", "holds").out
    accept, refuse = 'syncd release HOLD --reason "restored, Ms Hill"', 'syncd discard HOLD --reason "not theirs"'
    section.tried |= {accept, refuse}
    if release:
        assert section.run(accept, "release", 1, "--reason", "restored, Ms Hill").code == 0
    else:
        assert section.run(refuse, "discard", 1, "--reason", "not theirs").code == 0
    assert syncd("sync").code == 0
    assert syncd("status", "--json").json["lists"][0]["serial"] == (3 if release else 2)
    section.end()
