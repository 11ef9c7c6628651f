"""Backup and restore as docs/operations.md says it, line by line."""

import getpass
import grp
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from command_line import Ran, operate, syncd
from runbook import Cure, code_lines, rows_of, section
from syncd.model import ListName
from world import World, row, rows

SECTION: Final = section("Backup and restore")
VIDEOS: Final = ListName("videos")


@pytest.fixture
def running(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one list of 31 entries, and a matcher that holds it."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    world.publish(add=[row(30)])
    go_on(world)
    return world


def go_on(world: World) -> None:
    """A sync some minutes later, and a pull."""
    world.clock.forward(minutes=10)
    assert syncd("sync").code == 0
    assert pull(world).code == 0


def pull(world: World) -> Ran:
    """The matcher's host pulls."""
    return syncd("pull", world.state.feed.root.as_uri(), "--root", world.operator_root, "--dir", world.copy)


def lose(world: World) -> Path:
    """The state is lost; what of it is kept elsewhere is below the folder returned."""
    return world.state.root.rename(world.base / "lost")


def highest(world: World) -> int:
    """N, as the section has it: from `current.json` of the matcher's copy, and a day's margin."""
    current = json.loads((world.copy / "current.json").read_text())
    numbers = [*current["metadata"].values(), *(one["version"] for one in current["lists"].values())]
    return int(max(numbers)) + 24


def nothing(_: World) -> None:
    """Nothing lies beside the backup."""


def restore(
    world: World,
    file: Path,
    keys: Path,
    before: Callable[[World], None] = nothing,
    answers: dict[str, int] | None = None,
    more: tuple[object, ...] = (),
) -> None:
    """Restore as the section says. The arguments are those of `carry_out`."""
    carry_out(world, "Backup and restore", file, keys=keys, before=before, answers=answers, more=more)


def carry_out(
    world: World,
    title: str,
    file: Path,
    *,
    keys: Path | None = None,
    before: Callable[[World], None] = nothing,
    answers: dict[str, int] | None = None,
    more: tuple[object, ...] = (),
) -> None:
    """Take the lines of a section in their order; each ends with 0, or with what ``answers`` has for it.

    ``keys`` are put into their folder once it was made, then comes what ``before`` does. ``more`` are options of
    `recover`.
    """
    text = section(title)
    me = f"-o {getpass.getuser()} -g {grp.getgrgid(os.getgid()).gr_name}"
    cure = Cure(text, {"/var/lib/syncd": world.state.root, "-o syncd -g syncd": me})
    for line in code_lines(text):
        if line.startswith("syncd recover"):
            cure.stand_for(line)
            ran = syncd("recover", "--above", highest(world), *more)
        else:
            ran = cure.run(line, FILE=file)
        assert ran.code == (answers or {}).get(line, 0), ran
        if line.startswith("install") and line.endswith("/keys"):
            assert keys is not None
            shutil.copytree(keys, world.state.keys, dirs_exist_ok=True)
            before(world)


def check_restored(world: World) -> None:
    """Matchers follow, the partner's news arrive, and the state is proved."""
    assert syncd("verify").code == 0
    assert pull(world).code == 0
    assert all(world.hits(number) for number in range(32))
    world.publish(add=[row(50)])
    go_on(world)
    assert world.hits(50)
    assert syncd("status", "--check").code == 0
    assert syncd("audit", "verify").code == 0


def test_a_backup_is_restored_into_an_empty_folder(running: World, tmp_path: Path) -> None:
    """Each line of the section ends well; matchers take the new history with an alarm, and go on."""
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    running.publish(add=[row(31)])
    go_on(running)
    lost = lose(running)
    restore(running, file, lost / "keys")
    pulled = pull(running)
    assert pulled.err.startswith("ALARM: iwf.images version ")
    check_restored(running)
    assert {path.stat().st_mode & 0o777 for path in (running.state.root, running.state.keys)} == {0o750, 0o700}


def test_a_backup_without_segments_is_restored_with_the_lists_of_a_copy(running: World, tmp_path: Path) -> None:
    """Until the next sync `verify` names the partner's segments, as the section says; afterwards nothing is wrong."""
    assert "ends with 4" in SECTION
    file = tmp_path / "backup.tar"
    assert syncd("backup", file, "--no-segments").code == 0

    def bring_lists(world: World) -> None:
        shutil.copytree(world.copy / "v1", world.state.feed.path("v1"), dirs_exist_ok=True)

    restore(running, file, lose(running) / "keys", bring_lists, {"syncd verify": 4})
    running.publish(add=[row(31)])
    go_on(running)
    check_restored(running)


def test_segments_are_back_after_a_sync_without_news(running: World, tmp_path: Path) -> None:
    """The partner need not publish first."""
    file = tmp_path / "backup.tar"
    assert syncd("backup", file, "--no-segments").code == 0

    def bring_lists(world: World) -> None:
        shutil.copytree(world.copy / "v1", world.state.feed.path("v1"), dirs_exist_ok=True)

    restore(running, file, lose(running) / "keys", bring_lists, {"syncd verify": 4})
    verified = syncd("verify")
    assert (verified.code, verified.err) == (0, "")


def test_a_backup_with_keys_needs_no_others(running: World, tmp_path: Path) -> None:
    """FILE has them then."""
    file, none = tmp_path / "backup.tar", tmp_path / "none"
    none.mkdir()
    assert syncd("backup", file, "--with-keys").code == 0
    lose(running)
    restore(running, file, none)
    running.publish(add=[row(31)])
    go_on(running)
    check_restored(running)


def test_lost_online_keys_are_replaced(running: World, tmp_path: Path) -> None:
    """In the order that the section names; matchers need not do anything."""
    file, none = tmp_path / "backup.tar", tmp_path / "none"
    none.mkdir()
    assert syncd("backup", file).code == 0
    lose(running)

    def make_keys(world: World) -> None:
        cure = Cure(SECTION, {"STATE": world.state.root, "DIR": world.offline, "R": "lost"})
        for role in ("timestamp", "snapshot", "lists"):
            made = cure.run("syncd feed rotate STATE ROLE --state --offline-keys DIR --reason R", ROLE=role)
            assert made.code == 0, made

    restore(running, file, none, make_keys)
    running.publish(add=[row(31)])
    go_on(running)
    check_restored(running)


def bring_newest(world: World) -> None:
    """Bring the newest published files back from the matcher's copy, as the section has it."""
    numbered = (world.copy / "metadata").glob("*.timestamp.json")
    newest = max(numbered, key=lambda path: int(path.name.partition(".")[0]))
    cure = Cure(SECTION, {"/var/lib/syncd": world.state.root, "COPY": world.copy})
    assert cure.run("cp -r COPY/metadata COPY/v1 /var/lib/syncd/feed/").code == 0
    put = "cp COPY/metadata/1234.timestamp.json /var/lib/syncd/feed/metadata/timestamp.json"
    assert cure.run(put, **{"COPY/metadata/1234.timestamp.json": newest}).code == 0


@pytest.mark.parametrize("role", ["root", "targets", "timestamp", "snapshot", "lists"])
def test_keys_that_were_rotated_after_the_backup_stay_rotated(running: World, tmp_path: Path, role: str) -> None:
    """The newest files are in a matcher's copy: nobody needs another root, or the keys that were given up."""
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    rotated = syncd("feed", "rotate", running.state.root, role, "--state", "--offline-keys", running.offline)
    assert rotated.code == 0
    (running.state.keys / f"{role}.pem").unlink(missing_ok=True)
    running.publish(add=[row(31)])
    go_on(running)
    restore(running, file, lose(running) / "keys", bring_newest, {"syncd verify": 4})
    check_restored(running)


def begin_another_list(world: World) -> None:
    """The partner's second list, in two versions, after the backup."""
    world.publish(full=rows(100, 110), name=VIDEOS)
    go_on(world)
    world.publish(add=[row(31)])
    world.publish(add=[row(110)], name=VIDEOS)
    go_on(world)
    assert world.hits(110)


def test_a_list_that_began_after_the_backup_goes_on(running: World, tmp_path: Path) -> None:
    """Above its last version, which a matcher's copy names."""
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    begin_another_list(running)
    restore(running, file, lose(running) / "keys", bring_newest, {"syncd verify": 4})
    check_restored(running)
    assert running.hits(110)


def test_a_list_that_matchers_refuse_after_a_restore(running: World, tmp_path: Path) -> None:
    """Without those files it begins again at version 1: `recover` once more, as the table of losses says."""
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    begin_another_list(running)
    restore(running, file, lose(running) / "keys")
    refused = pull(running)
    assert refused.code == 4, refused
    assert running.hits(110)
    cure = Cure(rows_of("When things were lost or reset")["after a restore matchers refuse the feed"])
    assert cure.run("syncd recover --above N", N=highest(running) + 100).code == 0
    check_restored(running)
    assert running.hits(110)


def test_acts_of_operators_after_the_backup_are_repeated(running: World, tmp_path: Path) -> None:
    """A suppressed digest matches again, and a revoked token is valid again, until both are repeated."""
    assert "Repeat it before `sync`" in " ".join(SECTION.split())
    assert syncd("matchers", "add", "web", "--token-file", tmp_path / "web.token").code == 0
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    suppress = ("suppress", f"sha256:{row(3)[1]}", "--reason", "case 1")
    assert syncd(*suppress).code == 0
    assert syncd("matchers", "revoke", "web").code == 0
    running.publish(add=[row(31)])
    go_on(running)
    assert not running.hits(3)
    restore(running, file, lose(running) / "keys")
    assert pull(running).code == 0
    assert running.hits(3)
    assert [one["name"] for one in syncd("matchers", "--json").json["matchers"]] == ["web"]
    assert syncd(*suppress).code == 0
    assert syncd("matchers", "revoke", "web").code == 0
    assert pull(running).code == 0
    assert not running.hits(3)
    assert syncd("matchers", "--json").json["matchers"] == []
