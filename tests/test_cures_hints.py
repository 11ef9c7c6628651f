"""Commands that errors name as the way out, run as they are written, in the situation that raises the error."""

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from command_line import Ran, configure, settings, syncd
from disks import root_only
from runbook import Cure, advised
from two_versions import running
from world import World, row, rows

__all__ = ["running"]  # a fixture

REMOVALS = "[sources.iwf.gate]\nmin_rows = 10\n"
"""A gate that holds the removals of `shrink`."""


def cure_of(ran: Ran, **values: object) -> Cure:
    """The commands that an error advises."""
    return Cure(" ".join(f"`{command}`" for command in advised(ran)), values)


def csv(world: World, *numbers: int) -> Path:
    """A file with the rows of these numbers."""
    path = world.base / "rows.csv"
    path.write_text("\n".join(["algorithm,digest,entry,label", *(",".join(row(one)) for one in numbers), ""]))
    return path


def shrink(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partner removes most rows, which the gate holds."""
    configure(world.base / "syncd.toml", settings(world, REMOVALS), monkeypatch)
    world.publish(remove=rows(0, 5) + rows(6, 25))
    assert syncd("sync").code == 3


def change_catalog(world: World, statement: str) -> None:
    """Damage the operator's catalog."""
    with closing(sqlite3.connect(world.state.catalog_file)) as connection:
        connection.execute(statement)
        connection.commit()


# operators


@pytest.mark.parametrize("keep", [True, False])
def test_a_rollback_beside_a_hold(running: World, monkeypatch: pytest.MonkeyPatch, *, keep: bool) -> None:
    """The refusal names a command that keeps the held rows, and one that removes them."""
    shrink(running, monkeypatch)
    refused = syncd("rollback", "iwf.images", 1, "--reason", "wrong")
    assert refused.code == 6
    cure = cure_of(refused, HOLD=1, R="asked")
    if keep:
        needed = cure.run("syncd rollback iwf.images 1 --exact --reason R")
        code = re.search(r"repeat the command with (--accept \w+)", needed.err)
        assert code, needed
        done = syncd("rollback", "iwf.images", 1, "--exact", "--reason", "asked", *code[1].split())
    else:
        assert cure.run("syncd release HOLD --reason R").code == 0
        done = syncd("rollback", "iwf.images", 1, "--reason", "wrong")
    assert done.code == 0, done
    assert not running.pull().errors
    assert bool(running.hits(1)) == keep


def test_a_hold_is_discarded(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number, as the sync that opened it says; and released after all, as the list of holds says."""
    shrink(running, monkeypatch)
    held = syncd("sync")
    cure = cure_of(held, R="wrong")
    assert cure.run("syncd discard 1 --reason R").code == 0
    assert not running.pull().errors
    assert running.hits(1)
    assert cure.run("syncd release 1 --reason R").code == 0
    cure.end()
    assert not running.pull().errors
    assert not running.hits(1)


def test_a_suppression_that_waits_is_confirmed_and_not_extended(
    running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another operator may be asked for a digest that waits already."""
    digests = running.base / "digests.txt"
    digests.write_text("\n".join(f"sha256:{row(number)[1]}" for number in range(6, 26)))
    assert syncd("suppress", "--file", digests, "--reason", "wrong").code == 3
    refused = syncd("suppress", f"sha256:{row(7)[1]}", "--reason", "wrong")
    assert refused.code == 6
    cure = cure_of(refused, R="seen")
    assert cure.named == {"syncd suppressions", "syncd release 1 --reason R", "syncd discard 1 --reason R"}
    assert "not in force: hold 1" in cure.run("syncd suppressions").out
    monkeypatch.setattr("syncd.cli.operator.this_user", lambda: "bob")
    assert cure.run("syncd release 1 --reason R").code == 0
    assert not running.pull().errors
    assert not running.hits(7)


def test_a_suppression_that_waits_is_discarded_and_not_ended(running: World) -> None:
    """It is not in force, so there is nothing to end."""
    digests = running.base / "digests.txt"
    digests.write_text("\n".join(f"sha256:{row(number)[1]}" for number in range(6, 26)))
    assert syncd("suppress", "--file", digests, "--reason", "wrong").code == 3
    refused = syncd("unsuppress", 1, "--reason", "right")
    assert refused.code == 6
    cure = cure_of(refused, R="right")
    assert cure.run("syncd discard 1 --reason R").code == 0
    cure.end()
    assert syncd("suppressions").out == "nothing is suppressed\n"


def test_a_suppression_that_is_in_force_is_extended(running: World) -> None:
    """By its number."""
    suppress = ("suppress", f"sha256:{row(7)[1]}", "--reason", "wrong")
    assert syncd(*suppress, "--expires", "2d").code == 0
    cure = cure_of(syncd(*suppress), R="again")
    assert cure.run("syncd suppressions").code == 0
    assert "in force until 2026-01-31" in cure.run("syncd suppress --extend 1 --reason R").out
    cure.end()


def test_a_matcher_that_exists_is_revoked_first(running: World) -> None:
    """Then its name is free."""
    assert syncd("matchers", "add", "web").code == 0
    refused = syncd("matchers", "add", "web")
    assert cure_of(refused).run("syncd matchers revoke web").code == 0
    assert syncd("matchers", "add", "web").code == 0


def test_known_good_digests_that_are_lost_are_read_again(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a sync; until then nothing is published that they would have kept out."""
    path = running.base / "known-good.txt"
    path.write_text(f"sha256:{row(3)[1]}\n")
    gate = f'[sources.iwf.gate]\nknown_good_file = "{path}"\n'
    configure(running.base / "syncd.toml", settings(running, gate), monkeypatch)
    assert syncd("sync").code == 0
    for digests in running.state.known_good.rglob("*.arrow"):
        digests.unlink()
    rollback = ("rollback", "iwf.images", 1, "--reason", "wrong")
    refused = syncd(*rollback)
    assert refused.code == 1
    assert cure_of(refused).run("syncd sync").code == 0
    assert syncd(*rollback).code == 0
    assert not running.pull().errors
    assert not running.hits(3)


@pytest.mark.parametrize("publish", [True, False])
def test_an_older_catalog_that_was_restored_alone(running: World, *, publish: bool) -> None:
    """`verify` and a sync that would publish name `recover`."""
    older = running.base / "older.sqlite3"
    shutil.copy(running.state.catalog_file, older)
    for number in (40, 41):
        running.publish(add=[row(number)])
        assert syncd("sync").code == 0
    assert not running.pull().errors
    for path in running.state.root.glob("catalog.sqlite3*"):
        path.unlink()
    shutil.copy(older, running.state.catalog_file)
    running.publish(add=[row(42)])
    refused = syncd("sync") if publish else syncd("verify")
    assert refused.code == (6 if publish else 4), refused
    assert cure_of(refused, N=100).run("syncd recover --above N").code == 0
    assert syncd("sync").code == 0
    assert syncd("verify").code == 0
    running.pull()
    assert running.hits(42)


def test_a_state_that_is_not_set_up(running: World) -> None:
    """`syncd init`, then the `syncd sync` that it names."""
    path = running.base / "syncd.toml"
    path.write_text(path.read_text().replace(str(running.state.root), str(running.base / "other")))
    refused = syncd("sync")
    assert refused.code == 2
    cure = cure_of(refused, DIR=running.base / "keys")
    made = cure.run("syncd init --offline-keys DIR")
    assert (made.code, "then run `syncd sync`" in made.out) == (0, True)
    cure.end()
    assert "nothing published yet; run `syncd sync`" in syncd("status").out
    assert syncd("sync").code == 0


def test_a_copy_that_was_never_pulled(running: World) -> None:
    """`syncd pull` with all that it needs."""
    copy = running.base / "new"
    refused = syncd("lookup", copy, f"sha256:{row(1)[1]}")
    assert refused.code == 2
    url = running.state.feed.root.as_uri()
    cure = cure_of(refused, URL=url, ROOT=running.operator_root, DIR=copy)
    assert cure.run("syncd pull URL --root ROOT --dir DIR").code == 0
    cure.end()
    assert syncd("lookup", copy, f"sha256:{row(1)[1]}").code == 0


def test_an_origin_that_the_catalog_lost_is_fetched_again(running: World) -> None:
    """By a sync; `syncd verify` would find nothing wrong."""
    change_catalog(running, "DELETE FROM origins")
    rollback = ("rollback", "iwf.images", 1, "--reason", "wrong")
    refused = syncd(*rollback)
    assert (refused.code, "still served: iwf.images" in refused.err) == (1, True)
    assert cure_of(refused).run("syncd sync").code == 0
    assert syncd(*rollback).code == 0


@pytest.mark.parametrize("fields", ["act = 'nonsense'", "fields = '{}'"])
def test_a_record_of_the_audit_log_that_cannot_be_read(running: World, fields: str) -> None:
    """`audit verify` names it."""
    change_catalog(running, f"UPDATE audit SET {fields} WHERE number = 2")
    refused = syncd("audit")
    assert refused.code == 1
    found = cure_of(refused).run("syncd audit verify")
    assert (found.code, "record 2 does not match its hash" in found.out + found.err) == (4, True)


def test_a_backup_whose_files_are_missing(running: World) -> None:
    """`verify` names them, a sync fetches them, and the backup is written."""
    for path in running.state.root.rglob("*.arrow"):
        path.unlink()
    backup = ("backup", running.base / "backup.tar")
    refused = syncd(*backup)
    assert refused.code == 1
    assert cure_of(refused).run("syncd verify").code == 4
    assert syncd("sync").code == 0
    assert syncd(*backup).code == 0


@pytest.mark.parametrize("from_copy", [True, False])
def test_published_metadata_is_brought_back(running: World, *, from_copy: bool) -> None:
    """From a matcher's copy, which has the newest; from a backup that is older, `recover` publishes above it."""
    metadata, backup = running.state.feed.path("metadata"), running.base / "backup"
    shutil.copytree(metadata, backup)
    running.publish(add=[row(40)])
    assert syncd("sync").code == 0
    assert not running.pull().errors
    shutil.rmtree(metadata)
    refused = syncd("sync")
    assert (refused.code, "they cannot pull" in refused.err) == (1, True)
    if from_copy:
        shutil.copytree(running.copy / "metadata", metadata)
        newest = max(metadata.glob("*.timestamp.json"), key=lambda path: int(path.name.split(".")[0]))
        shutil.copy(newest, metadata / "timestamp.json")
    else:
        shutil.copytree(backup, metadata)
        assert cure_of(refused, N=100).run("syncd recover --above N").code == 0
    running.publish(add=[row(41)])
    assert syncd("sync").code == 0
    assert syncd("verify").code == 0
    assert not running.pull().errors
    assert running.hits(41)


@pytest.mark.parametrize("name", ["1.root.json", "3.snapshot.json"])
def test_a_metadata_file_that_is_missing_is_brought_back(running: World, name: str) -> None:
    """From a matcher's copy; the error does not ask for another folder."""
    path = running.state.feed.path(f"metadata/{name}")
    path.unlink()
    running.publish(add=[row(40)])
    refused = syncd("sync")
    assert (refused.code, "bring it back from a mirror, a pulled copy or a backup" in refused.err) == (1, True)
    shutil.copy(running.copy / "metadata" / path.name, path)
    assert syncd("sync").code == 0
    assert syncd("verify").code == 0


def test_the_daemon_is_named_only_if_it_could_do_the_command(running: World) -> None:
    """Nobody starts a daemon to recover, which needs it stopped."""
    root_only()
    os.chown(running.state.root, 12345, 12345)
    asked, alone = syncd("status"), syncd("recover", "--above", 9)
    assert (asked.code, alone.code) == (6, 6)
    assert cure_of(asked).named == {"systemctl start syncd"}
    assert "run this command as user 12345" in alone.err
    assert "systemctl" not in alone.err


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "lists"])
def test_a_lost_online_key_is_replaced(running: World, role: str) -> None:
    """The refusal has the command for an operator and the one for a partner."""
    key = running.state.keys / f"{role}.pem"
    key.unlink()
    running.publish(add=[row(40)])
    refused = syncd("sync")
    assert refused.code == 6
    cure = cure_of(refused, STATE=running.state.root, FEED=running.partner.root, R="lost")
    done = cure.run(f"syncd feed rotate STATE {role} --state --offline-keys DIR --reason R", DIR=running.offline)
    assert done.code == 0, done
    assert syncd("sync").code == 0
    (running.partner_keys / f"{role}.pem").unlink()
    add = ("feed", "publish", running.partner.root, "--list", "images", "--add", csv(running, 41))
    assert advised(syncd(*add)) == cure.named
    done = cure.run(f"syncd feed rotate FEED {role} --offline-keys DIR", DIR=running.partner_offline)
    assert done.code == 0, done
    cure.end()
    assert syncd(*add).code == 0
    assert syncd("sync").code == 0
    assert not running.pull().errors
    assert running.hits(41)


def test_online_metadata_that_expired_is_signed_by_the_command_that_status_names(running: World) -> None:
    """`syncd sync` for the operator, `syncd feed sign` for the partner."""
    running.clock.forward(days=35)
    partners = syncd("feed", "status", running.partner.root)
    assert "lists expired 5 days ago: sign it again with the online keys: `syncd feed sign FEED`" in partners.err
    assert syncd("feed", "sign", running.partner.root).code == 0
    assert syncd("feed", "status", running.partner.root).err == ""
    operators = syncd("status")
    assert "lists expired 5 days ago: sign it again with the online keys: `syncd sync`" in operators.err
    assert syncd("sync").code == 0
    assert syncd("status").err == ""


# partners


def test_a_version_without_rows_is_not_reverted_to(running: World) -> None:
    """The list is emptied, or ended, by the commands that the error names."""
    running.publish(remove=rows(0, 5) + rows(6, 31))
    running.publish(full=rows(0, 30))
    refused = syncd("feed", "revert", running.partner.root, "images", 3)
    assert refused.code == 2
    cure = cure_of(refused, FILE=csv(running, 1), R="ended")
    feed = running.partner.root
    assert cure.run(f"syncd feed publish {feed} --list images --remove FILE").code == 0
    assert cure.run(f"syncd feed retire {feed} --list images --reason R").code == 0
    cure.end()


def test_a_retired_list_lives_again(running: World) -> None:
    """By the command that the second retirement names."""
    retire = ("feed", "retire", running.partner.root, "--list", "images", "--reason", "moved")
    assert syncd(*retire).code == 0
    refused = syncd(*retire)
    assert refused.code == 6
    cure = cure_of(refused, FILE=csv(running, *range(30)))
    assert cure.run(f"syncd feed publish {running.partner.root} --list images --full FILE").code == 0
    cure.end()


def test_a_damaged_journal_names_the_feed_to_verify(running: World) -> None:
    """`syncd verify` alone would prove an operator's state."""
    feed = running.partner.root
    running.partner.path(".work/journal.json").write_text("{")
    refused = syncd("feed", "publish", feed, "--list", "images", "--add", csv(running, 41))
    assert refused.code == 1
    running.partner.path(".work/journal.json").unlink()
    assert cure_of(refused).run(f"syncd verify {feed}").code == 0


def test_a_damaged_feed_names_the_feed_to_verify(running: World) -> None:
    """As every error of a damaged file below `syncd feed` does."""
    path = running.partner.path("metadata/1.root.json")
    kept = path.read_bytes()
    path.unlink()
    refused = syncd("feed", "sign", running.partner.root)
    assert refused.code == 1
    path.write_bytes(kept)
    assert cure_of(refused, FEED=running.partner.root).run("syncd verify FEED").code == 0


# paths


def test_a_command_quotes_a_path_with_a_space(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of USB sticks have: the command can be pasted into a shell."""
    stick = running.base / "USB DISK"
    stick.mkdir()
    token = stick / "iwf token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    configure(running.base / "syncd.toml", settings(running, f'token_file = "{token}"\n'), monkeypatch)
    cure = cure_of(syncd("status"))
    (command,) = cure.named
    assert cure.run(command).code == 0
    assert syncd("status").code == 0
