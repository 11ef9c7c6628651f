"""Cures that need a running daemon, or keys that are its credentials, carried out word for word."""

import getpass
import grp
import os
import shutil
import signal
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from command_line import operate, syncd
from runbook import Cure, code_lines, section, what_to_do
from syncd.model import ListName
from test_cli_watch import said, watching
from test_daemon import daemon, text, today
from test_daemon_web import serve
from world import World, row, rows

__all__ = ["today"]  # a fixture

VIDEOS: Final = ListName("videos")


def until_checked_in(name: str) -> dict[str, Any]:
    """`syncd matchers`, once it shows a check-in under a name."""
    for _ in range(600):
        (matcher,) = (one for one in syncd("matchers", "--json").json["matchers"] if one["name"] == name)
        if matcher["instances"]:
            return dict(matcher)
        threading.Event().wait(0.05)
    raise AssertionError(f"{name} never checked in")


def test_a_token_is_replaced_without_a_gap(today: World) -> None:
    """Under a second name; once the first is revoked, its hosts are refused and those with the new token go on."""
    today.publish(full=rows(20, 25), name=VIDEOS)
    first, second = today.base / "web.token", today.base / "next.token"
    cure = Cure(section("Matchers and their tokens"), {"/root/web.token": first})
    with serve(today) as running:
        assert syncd("sync").code == 0
        add = "syncd matchers add web --list iwf.images --list iwf.videos --token-file /root/web.token"
        assert cure.run(add).code == 0
        url, more = f"{running.url}/feed/", ("--interval", "1h")
        with watching(today, "--token-file", str(first), "--instance", "web-1", *more, url=url) as former:
            assert said(former) == "iwf.images version 1, new here"
            assert said(former) == "iwf.videos version 1, new here"
            assert until_checked_in("web")["instances"][0]["instance"] == "web-1"
            assert syncd("matchers", "add", "web-2027", "--token-file", second).code == 0
            second.replace(first)
            with watching(today, "--token-file", str(first), "--instance", "web-2", *more, url=url) as newer:
                assert until_checked_in("web-2027")["instances"][0]["instance"] == "web-2"
                assert cure.run("syncd matchers revoke web").code == 0
                assert former.stderr is not None
                assert former.stderr.readline().endswith(" answered 401 to events\n")
                today.publish(add=[row(40)])
                assert syncd("sync").code == 0
                assert said(newer) == "iwf.images version 2, was 1"
        shown = cure.run("syncd matchers")
        assert [line.split()[0] for line in shown.out.splitlines()[1:] if line[0] != " "] == ["web-2027"]
        running.stop()


def test_the_timestamp_is_signed_once_the_key_is_back(today: World) -> None:
    """The event says which key; it is read at the next start."""
    with today.publisher() as publisher:
        publisher.resign(datetime.now(UTC) - timedelta(hours=2))
    key, away = today.state.keys / "timestamp.pem", today.base / "away.pem"
    key.rename(away)
    cure = Cure(what_to_do("SyncdTimestampNotSigned"))
    with daemon(today) as running:
        event = running.until("timestamp_not_signed")
        assert event["message"] == "timestamp needs 1 of its keys to sign, but has 0 at hand"
        assert "put its key back into the folder of online keys" in event["to_do"]
        away.rename(key)
        running.stop()
    cure.stand_for("systemctl restart syncd")
    with daemon(today) as running:
        assert running.until("timestamp_signed")["level"] == "info"
    cure.end()


def test_a_configuration_that_was_refused_is_corrected(today: World) -> None:
    """The one before stays in force meanwhile; `run --check` says the same before the reload."""
    cure = Cure(what_to_do("SyncdConfigRefused"))
    with daemon(today) as running:
        (today.base / "syncd.toml").write_text(text(today).replace("interval", "intervall"))
        running.send(signal.SIGHUP)
        assert "unknown key" in running.until("config_rejected")["message"]
        assert syncd("run", "--check").code == 2
        (today.base / "syncd.toml").write_text(text(today).replace('"1d"', '"2d"'))
        assert syncd("run", "--check").code == 0
        running.send(signal.SIGHUP)
        cure.stand_for("systemctl reload syncd")
        assert running.until("config_reloaded")["changed"] == ["iwf.interval"]
    cure.end()


def test_a_full_server_is_given_more_room(today: World) -> None:
    """`max_connections` is raised, and the daemon restarted."""
    assert "raise `max_connections`" in what_to_do("SyncdHttpFull")
    for number, refused in ((16, 1), (32, 0)):
        with serve(today, f"max_connections = {number}") as running, ExitStack() as clients:
            asked = [clients.enter_context(httpx.Client()).get(f"{running.url}/feed/root.json") for _ in range(17)]
            assert [answer.status_code for answer in asked].count(503) == refused
            running.stop()


# keys that are credentials


@pytest.fixture
def handed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator whose online keys belong to root and are given to the service as credentials."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    world.state.keys.rename(world.base / "etc-keys")
    start_service(world, monkeypatch)
    return world


def start_service(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand the keys over as systemd does for `LoadCredential=keys:/etc/syncd/keys/`; then it syncs."""
    folder = world.base / "credentials"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in (world.base / "etc-keys").iterdir():
        shutil.copy(path, folder / f"keys_{path.name}")
    world.clock.forward(minutes=10)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert syncd("sync").code == 0
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert not world.pull().errors


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "lists"])
def test_a_key_that_is_a_credential_is_rotated(handed: World, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Line by line as docs/install.md has it; the service signs with the new key, and the old one is nowhere."""
    text_of = section("Credentials", "install.md")
    me = f"-o {getpass.getuser()} -g {grp.getgrgid(os.getgid()).gr_name}"
    values = {
        "-o syncd -g syncd": me,
        "/etc/syncd/keys": handed.base / "etc-keys",
        "/run/rotate": handed.base / "rotate",
        "/var/lib/syncd": handed.state.root,
        "/media/stick/keys": handed.offline,
    }
    cure = Cure(text_of, values)
    lines = code_lines(text_of)
    for line in lines[lines.index("systemctl stop syncd") : lines.index("systemctl start syncd")]:
        if line.startswith("systemctl"):
            continue
        ran = cure.run(line, ROLE=role, R="yearly", OLD=f"{role}.pem")
        assert ran.code == 0, ran
        if " feed rotate " in line:
            assert f"created   {handed.base}/rotate/{role}-1.pem" in ran.out
    handed.publish(add=[row(40)])
    start_service(handed, monkeypatch)
    assert handed.hits(40)
    names = {path.name for path in (handed.base / "etc-keys").iterdir()}
    assert names == {f"{one}.pem" for one in ("timestamp", "snapshot", "lists") if one != role} | {f"{role}-1.pem"}
    assert not (handed.base / "rotate").exists()
    assert not list(Path(handed.state.root).rglob("*.pem"))
