"""Remarks of commands about the daemon: none runs, its configuration is older, or it lacks a source."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import operate, syncd
from test_daemon import daemon, text, today
from world import World, rows

__all__ = ["today"]  # a fixture

FAULTS: dict[str, Callable[[str], str]] = {
    "an unknown key": lambda good: good + 'intervall = "1h"\n',
    "not TOML": lambda good: good + "[sources\n",
    "a fault beside the keys that name the daemon": lambda good: f"what is this\n{good}",
}


def config(world: World) -> Path:
    return world.base / "syncd.toml"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_configuration_does_not_hide_the_running_daemon(today: World, fault: str) -> None:
    """Status and sync work by the daemon, which runs on the configuration before; each names the fault, once."""
    refused = "warning: the configuration on disk is refused, so the daemon still runs on the previous one: "
    with daemon(today) as running:
        assert syncd("sync").code == 0
        config(today).write_text(FAULTS[fault](text(today)))
        status = syncd("status")
        assert (status.code, "iwf.images" in status.out) == (0, True)
        assert status.err.startswith(refused)
        assert "; until then a restart of the daemon fails\n" in status.err
        assert syncd("status", "--json").json["daemon"] == "running"
        synced = syncd("sync", "iwf", "--json")
        assert (synced.code, synced.json["syncs"][0]["source"]) == (0, "iwf")
        assert synced.err.count(refused) == 1
        assert syncd("matchers").err.startswith(refused)
        probe = syncd("status", "--check")
        assert probe.code == 1
        assert "a restart of the daemon would fail, because the configuration on disk is refused: " in probe.out
        assert syncd("run", "--check").code == 2
        running.stop()
    alone = syncd("status")
    assert (alone.code, alone.out) == (2, "")
    assert alone.err.startswith("error: ")


def test_a_command_that_needs_the_refused_configuration_says_so(today: World) -> None:
    """A command that the daemon cannot carry out for us ends with the fault of the file."""
    with daemon(today):
        config(today).write_text(text(today) + 'intervall = "1h"\n')
        ran = syncd("retrust", "iwf", "--root", today.root, "--reason", "new keys")
        assert (ran.code, "intervall: unknown key" in ran.err.splitlines()[-2]) == (2, True)


def test_a_source_that_the_daemon_has_not_loaded_yet_names_the_reload(today: World) -> None:
    """It is in the file, and not in the running daemon: neither "no such source" nor silence."""
    with daemon(today):
        assert syncd("sync").code == 0
        second = text(today).partition("[")[2].replace("sources.iwf", "sources.new")
        config(today).write_text(f"{text(today)}[{second}")
        ran = syncd("sync", "new")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith(
            "error: the running daemon has not loaded new from the configuration on disk\n  to do: load"
        )
        assert "`systemctl reload syncd`" in ran.err
        told = "warning: the running daemon has not loaded new from the configuration on disk\n"
        assert told in syncd("sync").err
        assert told in syncd("status").err
        assert syncd("sync", "neww").err.startswith("error: no source 'neww' is configured\n")


def test_each_view_says_that_no_daemon_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line, and as a field of the document."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    synced = syncd("sync")
    assert synced.err == "note: no daemon is running: this process synced, and nothing syncs by itself\n"
    assert syncd("sync", "--json").json["daemon"] == "not running"
    for view in ("status", "matchers"):
        told = "no daemon is running: this was read from the state, and nothing syncs by itself\n"
        assert told in syncd(view).out
        assert syncd(view, "--json").json["daemon"] == "not running"


def test_without_a_daemon_other_users_learn_that_none_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would look for a fault in their permissions."""
    operate(world, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    for command in ("status", "matchers", "sync"):
        ran = syncd(command)
        assert (ran.code, ran.out) == (6, "")
        assert ran.err.startswith(f"error: no daemon is running, and {world.state.root} belongs to ")
        assert "\n  to do: start the daemon (`systemctl start syncd`), or run this command as " in ran.err


def test_a_probe_warns_if_a_daemon_that_planned_syncs_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs without a daemon cause no warning."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    syncd("sync")
    assert syncd("status", "--check").code == 0
    with world.publisher() as publisher:
        publisher.catalog.note_schedule("iwf", world.clock.now + timedelta(hours=2))
    ran = syncd("status", "--check")
    assert (ran.code, "no daemon is running, so no source is synced" in ran.out) == (1, True)
