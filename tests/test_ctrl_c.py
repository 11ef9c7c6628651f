"""Ctrl-C in the middle of a command, as a real process: it says what was left undone, and what it says is so."""

import os
import signal
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from bad_peer import Send, good, serve
from command_line import syncd
from syncd.model import ListName
from test_daemon import SYNCD, daemon, slow_partner, text, today
from world import World, row, rows

__all__ = ["today"]  # a fixture

VIDEOS: Final = ListName("videos")
SILENCE: Final = 29
"""Seconds, fewer than a fetch waits for a peer that says nothing."""
SYNC: Final = (
    "interrupted: a running daemon continues its syncs, which `syncd status` shows; without a daemon, lists that are "
    "not published yet stay at their versions, and the next sync continues from there\n"
)
PUBLISH: Final = (
    "interrupted: the published versions stay in force; if a publication had begun, which `syncd feed status FEED` "
    "shows, the next command finishes it\n"
)


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start a command, as a shell in the foreground does."""
    command = [*SYNCD[:2], f"import sys; sys.argv[1:] = {[str(one) for one in arguments]}; {SYNCD[2]}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def press_ctrl_c(process: "subprocess.Popen[str]") -> None:
    """Interrupt a command."""
    process.send_signal(signal.SIGINT)


def said(process: "subprocess.Popen[str]") -> str:
    """What an interrupted command says, which is all that it prints. It does not wait for a silent peer.

    Python misses a signal that comes just before a call that waits: then the key is pressed once more.
    """
    try:
        out, err = process.communicate(timeout=SILENCE / 3)
    except subprocess.TimeoutExpired:
        press_ctrl_c(process)
        out, err = process.communicate(timeout=SILENCE / 3)
    assert (process.returncode, out) == (130, "")
    return err


def versions() -> dict[str, int]:
    """The published version of each list, as `syncd status` shows it."""
    return {one["list"]: one["version"] for one in syncd("status", "--json").json["lists"] if one["version"]}


def test_a_sync_without_a_daemon(today: World) -> None:
    """The list that was published stays so; the other is published by the next sync."""
    today.publish(full=rows(20, 25), name=VIDEOS)
    asked, go_on = threading.Event(), threading.Event()

    def wait(send: Send, body: bytes) -> None:
        asked.set()
        go_on.wait(60)
        good(send, body)

    with serve(today.partner.root) as peer:
        peer.fault("v1/videos/segments/*", wait)
        (today.base / "syncd.toml").write_text(text(today, peer.url))
        process = start("sync")
        assert asked.wait(60)
        press_ctrl_c(process)
        assert said(process) == SYNC
        go_on.set()
        assert versions() == {"iwf.images": 1}
        assert syncd("sync").code == 0
    assert versions() == {"iwf.images": 1, "iwf.videos": 1}
    assert syncd("verify").code == 0


def test_a_sync_that_the_daemon_does(today: World) -> None:
    """The daemon goes on with it, and `syncd status` shows the version that it publishes."""
    with slow_partner(today) as (asked, go_on), daemon(today) as running:
        process = start("sync")
        assert asked.wait(60)
        press_ctrl_c(process)
        assert said(process) == SYNC
        go_on.set()
        assert running.until("sync_finished")["outcome"] == "published"
        assert versions() == {"iwf.images": 1}


def publish(world: World, *more: object) -> tuple[object, ...]:
    """The command that publishes a list of a partner."""
    return ("feed", "publish", world.partner.root, "--online-keys", world.partner_keys, "--list", "images", *more)


def test_a_publication_that_had_not_begun(today: World) -> None:
    """While the list is read: nothing was begun, and the version before is in force."""
    full = today.base / "export.csv"
    os.mkfifo(full)
    process = start(*publish(today, "--full", full))
    with full.open("w") as export:  # opened once the command reads it
        export.write("algorithm,digest,entry,label\n")
        export.flush()
        press_ctrl_c(process)
    assert said(process) == PUBLISH
    status = syncd("feed", "status", today.partner.root, "--json").json
    assert (status["interrupted_publication"], [one["version"] for one in status["lists"]]) == (False, [1])
    assert syncd(*publish(today, "--add", today.base / export_of(today, 40))).code == 0


def export_of(world: World, number: int) -> Path:
    """A partner's file of one row."""
    path = world.base / "one.csv"
    path.write_text("\n".join(["algorithm,digest,entry,label", ",".join(row(number)), ""]))
    return path


def test_a_publication_that_had_begun(today: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`syncd feed status` shows it, and the next command finishes it."""

    def interrupt(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as around:
        around.setattr("syncd.publish.publication.install", interrupt)
        ran = syncd(*publish(today, "--add", export_of(today, 40)))
    assert (ran.code, ran.err) == (130, PUBLISH)
    shown = syncd("feed", "status", today.partner.root)
    assert "publishing was interrupted; the next `syncd feed publish` finishes it" in shown.err
    again = syncd(*publish(today, "--add", export_of(today, 40)))
    assert again.code == 0
    status = syncd("feed", "status", today.partner.root, "--json").json
    assert (status["interrupted_publication"], [one["version"] for one in status["lists"]]) == (False, [2])


def test_a_backup(today: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is left, under its name or another, and the next backup is written.

    In this process, since nothing makes the command wait in the middle of its work: it refuses pipes.
    """
    assert syncd("sync").code == 0
    folder, written = today.base / "backups", list[str]()
    folder.mkdir()
    real = tarfile.TarFile.addfile

    def add(tar: tarfile.TarFile, entry: tarfile.TarInfo, *more: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(entry.name)
        real(tar, entry, *more)

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "addfile", add)
        ran = syncd("backup", folder / "FILE")
    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted: FILE was not written\n")
    assert len(written) == 3
    assert list(folder.iterdir()) == []
    assert [path for path in today.state.root.rglob("*") if path.name.startswith(".tmp")] == []
    assert syncd("backup", folder / "FILE").code == 0
