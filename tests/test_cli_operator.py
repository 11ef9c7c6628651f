import json
import os
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from command_line import ALONE, HERE, configure, operate, settings, syncd
from syncd.catalog.catalog import Catalog
from syncd.model import ListName
from syncd.outcomes import Outcome
from world import HEAD, World, row, rows

CURE = "; `syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it"


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The operator's commands, by the world's clock."""
    operate(world, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    return world


def test_a_sync_tells_what_it_did(configured: World) -> None:
    """As a table of 80 columns."""
    configured.publish(full=rows(0, 1200))
    ran = syncd("sync")
    assert (ran.code, ran.err) == (0, HERE)
    assert ran.out == (
        "list        outcome    version   rows  added  removed  relabelled  why\n"
        "iwf.images  published        1  1,200  1,200        0           0     \n"
    )


def test_a_sync_tells_the_same_as_json(configured: World) -> None:
    """Counts by algorithm and label, and how it was obtained."""
    configured.publish(full=rows(0, 3))
    syncd("sync")
    configured.publish(add=[row(3)], remove=[row(0)])
    document = syncd("sync", "--json").json
    sync = document["syncs"][0]
    assert (document["dry_run"], sync["source"], sync["outcome"], sync["exit_code"]) == (False, "iwf", "published", 0)
    listed = sync["lists"][0]
    assert (listed["list"], listed["version"], listed["serial"], listed["plan"]) == ("iwf.images", 2, 2, "deltas")
    assert listed["counts"] == {
        "sha256": {"added": 1, "relabelled": 0, "unchanged": 0, "removed": 1, "absent": 0},
    }


def test_a_held_update_is_exit_code_3(configured: World) -> None:
    """What the gate holds is shown with its reason, what is served and what to do; the list stays as it was."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.publish(remove=rows(0, 2))
    configured.clock.forward(minutes=1)
    ran = syncd("sync")
    assert ran.code == 3
    _, line = ran.out.splitlines()
    assert line.split() == ["iwf.images", "held", "1", "2", "0", "2", "0", "emptied"]
    assert ran.err == (
        "held: iwf.images: the update would leave the list without any entry\n"
        "  still served: iwf.images version 1\n"
        "  to do: ask the partner whether this was intended" + CURE + "\n" + HERE
    )
    (listed,) = syncd("sync", "--json").json["syncs"][0]["lists"]
    assert (listed["rows"], listed["reason"], listed["hold"]) == (
        2,
        "emptied",
        {
            "message": "the update would leave the list without any entry",
            "still_served": "iwf.images version 1",
            "to_do": "ask the partner whether this was intended" + CURE,
            "exit_code": 3,
            "holds": [1],
        },
    )
    status = syncd("status")
    held = "hold 1: 2 rows (removals): the update would leave the list without any entry"
    assert status.err == f"warning: iwf.images: {held}{CURE}\n"


def test_a_rejected_list_is_told_with_what_is_still_served(configured: World) -> None:
    """Exit code 4, and the error in full."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.publish(add=[row(9)])
    newest = max(configured.partner.root.glob("v1/images/segments/*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(bytes(newest.stat().st_size))
    ran = syncd("sync")
    assert ran.code == 4
    assert "MismatchError" in ran.out
    assert "\n  still served: iwf.images version 1\n" in ran.err
    assert syncd("sync", "--json").json["syncs"][0]["lists"][0]["error"]["kind"] == "MismatchError"


def test_one_bad_source_does_not_stop_the_others(configured: World, tmp_path: Path) -> None:
    """Sources are synced in turn, and the worst exit code stands."""
    configured.publish(full=rows(0, 2))
    other = f'[sources.aaa]\ntype = "feed"\nurl = "file://{tmp_path}/nowhere"\nroot = "{configured.root}"\n'
    (tmp_path / "syncd.toml").write_text(settings(configured, other))
    ran = syncd("sync")
    assert ran.code == 5
    assert "iwf.images  published" in ran.out
    assert ran.err == (
        f"error: aaa: there is no folder {tmp_path}/nowhere\n"
        "  still served: nothing of this source yet\n"
        "  to do: mount it, or correct the address\n" + HERE
    )
    assert syncd("sync", "iwf").code == 0


def test_of_several_errors_each_says_whose_it_is(configured: World) -> None:
    """Lists as well as sources: they may fail in the same words."""
    configured.publish(full=rows(0, 2))
    configured.publish(full=rows(0, 2), name=ListName("videos"))
    for path in configured.partner.root.glob("v1/*/segments/*"):
        path.unlink()
    ran = syncd("sync")
    assert ran.code == 5
    told = [line.split(": ")[1] for line in ran.err.splitlines() if line.startswith("error: ")]
    assert told == ["iwf.images", "iwf.videos"]


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("iwff", "no source 'iwff' is configured", "did you mean iwf?"),
        ("x", "no source 'x' is configured", "known sources: iwf"),
    ],
)
def test_an_unknown_source_is_a_usage_error(configured: World, source: str, message: str, hint: str) -> None:
    """It names the nearest."""
    ran = syncd("sync", source)
    assert (ran.code, ran.err) == (2, f"error: {message}\n  to do: {hint}\n")


@pytest.mark.parametrize("more", [("iwf",), ("nosuch",), ("--dry-run",), ("--no-wait",)])
def test_the_status_of_a_sync_is_asked_for_alone(configured: World, more: tuple[str, ...]) -> None:
    """What else is asked for would be passed over: a sync of that source, that was never started."""
    configured.publish(full=rows(0, 3))
    sync_id = syncd("sync", "--json").json["syncs"][0]["sync_id"]
    assert syncd("sync", "--status", sync_id).out == "iwf: published\n"
    ran = syncd("sync", *more, "--status", sync_id)
    assert (ran.code, ran.out, ran.err) == (
        2,
        "",
        "error: --status shows one sync: SOURCE, --dry-run and --no-wait cannot be combined with it\n"
        "  to do: give the ID alone: `syncd sync --status ID`; nothing was started\n",
    )


def test_without_sources_there_is_nothing_to_sync(configured: World, tmp_path: Path) -> None:
    """And it says where to name them."""
    (tmp_path / "syncd.toml").write_text(f'state_dir = "{configured.state.root}"')
    ran = syncd("sync")
    assert (ran.code, ran.err) == (
        2,
        "error: no source is configured\n  to do: add [sources.NAME] to the configuration\n",
    )
    assert syncd("status").out == ALONE + "no source is configured: add [sources.NAME] to the configuration\n"


def test_status_shows_age_rows_and_the_last_sync(configured: World) -> None:
    """The age is that of the verified state: a failed sync does not move it."""
    configured.publish(full=rows(0, 1200))
    syncd("sync")
    configured.clock.forward(minutes=50)
    ran = syncd("status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "list        version   rows  verified        last sync       outcome  \n"
        "iwf.images        1  1,200  50 minutes ago  50 minutes ago  published\n" + ALONE
    )
    listed = syncd("status", "--json").json["lists"][0]
    assert (listed["age_seconds"], listed["verified_at"], listed["act"]) == (3000, "2026-01-01T12:00:00Z", None)


def test_status_says_when_syncs_do_not_run(configured: World) -> None:
    """A list that nobody verified for an hour, or for three intervals, needs a person."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.clock.forward(hours=3, minutes=1)
    assert syncd("status").err == "warning: iwf.images: not verified for 3 hours: syncs do not run\n"


def test_status_says_when_the_clock_was_set_back(configured: World) -> None:
    """Ages that lie in the future are not "0 seconds ago"."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.clock.forward(minutes=-4)
    assert "0 seconds ago" in syncd("status").out
    configured.clock.forward(hours=-2)
    ran = syncd("status")
    known = "warning: iwf.images: its last verification is dated 2 hours in the future, so its age is not known\n"
    assert known in ran.err
    assert "check the clock of this host and correct it; if it is right, it was ahead before: run `syncd" in ran.err
    assert "in the future" in ran.out
    assert "ago" not in ran.out


def test_status_tells_a_killed_sync_from_a_running_one(configured: World) -> None:
    """The catalog says "running" of both; only one of them holds the source's lock."""
    from syncd.locks import lock

    configured.publish(full=rows(0, 2))
    syncd("sync")
    with configured.publisher() as publisher:
        publisher.catalog.begin_sync("killed", "iwf", configured.clock())
    with lock(configured.state.source("iwf").lock, "a sync of iwf"):
        assert syncd("status").err == ""
        found = syncd("status", "--json").json
        assert found["lists"][0]["last_sync"]["outcome"] == "published"
        assert found["sources"][0]["running"] == {
            "sync_id": "killed",
            "started_at": "2026-01-01T12:00:00Z",
            "dry_run": False,
        }
    assert syncd("status").err == "warning: iwf.images: the last sync was interrupted\n"
    assert syncd("status", "--json").json["lists"][0]["act"] == "the last sync was interrupted"


def test_status_says_when_a_source_is_no_longer_configured(configured: World, tmp_path: Path) -> None:
    """Its list would grow old in silence."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    (tmp_path / "syncd.toml").write_text(f'state_dir = "{configured.state.root}"')
    assert syncd("status").err == (
        "warning: iwf.images: source iwf is no longer configured, so the list is stale: configure it again, or "
        "retire the list: syncd retire iwf.images --reason R\n"
    )


def test_status_warns_before_the_offline_keys_are_needed(configured: World) -> None:
    """targets lasts 180 days: the warning comes 60 days before, and names the keys."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.clock.forward(days=121)
    warned = (
        "warning: targets expires in 59 days: sign it again with the offline keys: `syncd feed renew STATE --state "
    )
    assert warned in syncd("status").err


def test_snapshots_shows_every_version(configured: World) -> None:
    """The newest first, with what changed."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.publish(add=[row(5)], remove=[row(0)])
    syncd("sync")
    ran = syncd("snapshots", HEAD)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "version  created (UTC)     rows  added  removed  relabelled  plan      \n"
        "      2  2026-01-01 12:00     2      1        1           0  deltas    \n"
        "      1  2026-01-01 12:00     2                              full:first\n"
    )
    assert [one["version"] for one in syncd("snapshots", HEAD, "--limit", "1", "--json").json["snapshots"]] == [2]


def test_numbers_that_no_version_has_are_refused(configured: World) -> None:
    """Nothing asks the catalog for what it cannot hold."""
    for arguments in (("snapshots", HEAD, "--limit", 2**63), ("diff", HEAD, 1, 2**70), ("init", "--keys", 10**8)):
        ran = syncd(*arguments)
        assert ran.code == 2
        assert "less than or equal to" in ran.err


def test_an_unknown_list_names_the_nearest(configured: World) -> None:
    """Published lists carry their source's name."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    ran = syncd("snapshots", "iwf.image")
    assert (ran.code, ran.err) == (2, "error: there is no list iwf.image\n  to do: did you mean iwf.images?\n")


def test_a_second_init_changes_nothing(configured: World) -> None:
    """It says so, and what to run instead."""
    ran = syncd("init", "--offline-keys", configured.offline)
    assert (ran.code, ran.err) == (
        2,
        f"error: {configured.state.root} is already set up\n  to do: `syncd status` shows it; nothing was changed\n",
    )


def test_before_init_every_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is named."""
    configure(tmp_path / "c.toml", f'state_dir = "{tmp_path}/state"\n', monkeypatch)
    for command in (("status",), ("snapshots", "iwf.images")):
        ran = syncd(*command)
        assert (ran.code, ran.err) == (
            2,
            f"error: {tmp_path}/state is not set up\n  to do: run `syncd init --offline-keys DIR` first\n",
        )


def test_a_state_without_its_catalog_is_not_taken_for_none(configured: World) -> None:
    """It is to be restored; to begin anew beside the feed that matchers follow is no way out."""
    configured.state.catalog_file.unlink()
    for command in (("status",), ("snapshots", "iwf.images"), ("sync",), ("verify",), ("run",)):
        ran = syncd(*command)
        assert ran.code == 1
        assert ran.err.startswith(f"error: the catalog {configured.state.catalog} is missing\n")
        assert ran.err.endswith(
            "  to do: stop the daemon, move catalog.sqlite3* aside and restore it from a backup: "
            'see "Backup and restore" in docs/operations.md\n'
        )


def test_an_emptied_catalog_is_not_taken_for_a_new_one(configured: World) -> None:
    """SQLite would: every token, floor and version were forgotten, and the next sync refused for a version used."""
    configured.publish(full=rows(0, 3))
    assert syncd("sync").code == 0
    configured.state.catalog_file.write_bytes(b"")
    for command in (("status",), ("snapshots", "iwf.images"), ("sync",), ("verify",), ("run",)):
        ran = syncd(*command)
        assert (ran.code, ran.err.splitlines()[0]) == (1, f"error: the catalog {configured.state.catalog} is empty")
    assert configured.state.catalog_file.read_bytes() == b""


def test_a_feed_that_lost_its_metadata_is_restored_not_made_anew(configured: World, tmp_path: Path) -> None:
    """To make a feed there is no way out: it is one; and no backup is written that lacks what was lost."""
    configured.publish(full=rows(0, 3))
    assert syncd("sync").code == 0
    configured.state.feed.path("metadata/timestamp.json").unlink()
    for command in (("sync",), ("status",), ("backup", tmp_path / "b.tar"), ("recover", "--above", "9"), ("run",)):
        ran = syncd(*command)
        assert (ran.code, ran.err.splitlines()[0]) == (
            1,
            f"error: the metadata of {configured.state.feed.root} is missing",
        )
        assert "syncd feed init" not in ran.err
    assert not (tmp_path / "b.tar").exists()


def test_init_takes_the_folder_from_the_command_line(tmp_path: Path) -> None:
    """No configuration is needed yet."""
    ran = syncd("init", "--state-dir", tmp_path / "state", "--offline-keys", tmp_path / "off")
    assert ran.code == 0
    assert (tmp_path / "state" / "feed" / "root.json").exists()


def test_the_audit_log_names_who_ran_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it names those who run any other command without a daemon."""
    import getpass

    configure(tmp_path / "syncd.toml", f'state_dir = "{tmp_path / "state"}"\n', monkeypatch)
    assert syncd("init", "--offline-keys", tmp_path / "keys").code == 0
    (line,) = syncd("audit", "--act", "set_up", "--json").out.splitlines()
    record = json.loads(line)
    assert record["actor"] == getpass.getuser()


def test_an_init_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the feed was made and the catalog was not."""
    command = ("init", "--state-dir", tmp_path / "state", "--offline-keys", tmp_path / "off")

    def die(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as around:
        around.setattr(Catalog, "open", die)
        assert syncd(*command).code == 130
    first = syncd(*command)
    assert first.code == 0
    assert (tmp_path / "state/catalog.sqlite3").exists()
    assert syncd(*command).code == 2


def test_a_lost_catalog_is_not_made_anew(configured: World) -> None:
    """Versions that matchers have seen would be given out again."""
    configured.publish(full=rows(0, 3))
    syncd("sync")
    configured.state.catalog_file.unlink()
    ran = syncd("init", "--offline-keys", configured.offline)
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {configured.state.feed.root} is a feed already")
    assert not configured.state.catalog_file.exists()


@pytest.mark.parametrize(
    "command", [("sync",), ("status",), ("snapshots", "iwf.images"), ("init", "--offline-keys", "o")]
)
def test_another_users_state_is_left_alone(
    configured: World, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Root's files in it would lock its owner out: the owner is named."""
    me = pwd.getpwuid(os.geteuid()).pw_name
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    ran = syncd(*command)
    start, alone = (
        ("", "")
        if command[0] == "init"
        else ("start the daemon (`systemctl start syncd`), or ", "no daemon is running, and ")
    )
    assert (ran.code, ran.err) == (
        6,
        f"error: {alone}{configured.state.root} belongs to {me}\n"
        f"  to do: {start}run this command as {me}; nothing was changed\n",
    )


def test_a_state_that_everybody_may_write_to_is_refused(configured: World) -> None:
    """Any user could replace its catalog or its keys; the hint is the command that corrects it."""
    root = configured.state.root
    root.chmod(0o777)
    ran = syncd("sync")
    assert (ran.code, ran.err.splitlines()[0]) == (
        6,
        f"error: every user of this machine may write to {root} (mode 0777), and can so replace the files in it",
    )
    root.chmod(0o755)
    assert syncd("sync").code == 0


def test_two_syncs_at_once_are_refused(configured: World) -> None:
    """The second names the first, and what it is doing."""
    from syncd.locks import lock

    with lock(configured.state.root / "lock", "syncd sync"):
        ran = syncd("sync")
    assert ran.code == 6
    assert ran.err.startswith(f"error: {configured.state.root} is in use by process {os.getpid()} (syncd sync)\n")


def test_a_killed_sync_is_told_as_interrupted(configured: World) -> None:
    """The next one cleans up after it."""
    with configured.publisher() as publisher:
        publisher.catalog.begin_sync("killed", "iwf", configured.clock())
    configured.publish(full=rows(0, 2))
    configured.clock.forward(minutes=1)
    syncd("sync")
    with configured.publisher() as publisher:
        found = {one.id: one.outcome for one in publisher.catalog.recent_syncs()}
    assert found["killed"] is Outcome.INTERRUPTED
