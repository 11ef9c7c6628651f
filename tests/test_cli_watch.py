"""``syncd pull --watch`` as a host runs it, and ``syncd feed compact``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from command_line import syncd
from event_peer import following, refusal, serve
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import ProofRecord
from syncd.matcher.reproof import record_of
from world import HEAD, Clock, World, row, rows


@contextmanager
def watching(world: World, *more: str, url: str = "") -> Iterator[subprocess.Popen[str]]:
    """A real process that pulls about every second."""
    url = url or world.state.feed.root.as_uri()
    command = ["pull", url, "--root", str(world.operator_root), "--dir", str(world.copy)]
    with subprocess.Popen(
        [sys.executable, "-m", "syncd.cli", *command, "--watch", "--interval", "1s", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line, without its time."""
    assert process.stdout is not None
    return process.stdout.readline().partition("  ")[2].strip()


def test_a_watched_copy_follows_the_feed(tmp_path: Path) -> None:
    """News arrive by themselves, trouble is told and survived, and SIGTERM ends it cleanly."""
    world = World(tmp_path, Clock(datetime.now(UTC)))  # a real process looks at the real clock
    world.publish(full=rows(0, 30))
    world.sync()
    with watching(world) as process:
        assert said(process) == f"{HEAD} version 1, new here"
        world.publish(add=[row(99)])
        world.sync()
        assert said(process) == f"{HEAD} version 2, was 1"
        assert world.hits(99)
        moved = world.state.root / "gone"
        shutil.move(world.state.feed.root, moved)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("error: ")
        shutil.move(moved, world.state.feed.root)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert world.hits(99), "the copy answers on"


def proved_at(copy: FeedFolder) -> datetime:
    finished = record_of(copy).read().finished
    assert finished is not None
    return finished


def test_a_watched_copy_is_proved_each_day_and_repaired(tmp_path: Path) -> None:
    """A segment that was damaged at its length is found without being asked for, and fetched again."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 30))
    world.sync()
    world.pull()
    copy = FeedFolder(world.copy)
    (path,) = world.copy.glob("v1/*/segments/*.arrow")
    sound = path.read_bytes()
    path.write_bytes(sound.replace(bytes.fromhex(row(4)[1]), bytes(32)))
    record_of(copy).write(ProofRecord().ended(world.clock() - timedelta(hours=25)))
    with watching(world) as process:
        assert process.stderr is not None
        assert "no longer matches the SHA-256 in its name" in process.stderr.readline()
        while path.read_bytes() != sound or proved_at(copy) < world.clock() - timedelta(hours=1):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert world.hits(4)


def test_a_watched_copy_follows_events(tmp_path: Path) -> None:
    """What is published is here at once, and the operator is told; a lost stream is told once, and so is its return."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 30))
    world.sync()
    with serve(world.state.feed.root) as peer:
        peer.versions = {HEAD: 1}
        with watching(world, "--interval", "1h", "--instance", "web-3", url=peer.url) as process:
            assert process.stderr is not None
            assert said(process) == f"{HEAD} version 1, new here"
            check_in = peer.check_ins.get(timeout=30)
            assert (check_in["instance"], check_in["lists"]) == ("web-3", {HEAD: 1})
            world.publish(add=[row(99)])
            world.sync()
            peer.tell(HEAD, 2)
            assert said(process) == f"{HEAD} version 2, was 1"
            assert peer.check_ins.get(timeout=30)["lists"] == {HEAD: 2}
            peer.behave(refusal(503))
            peer.drop()
            lost = process.stderr.readline()
            assert lost.endswith(" answered 503 to events: polling every 3,600 seconds instead\n")
            peer.behave(following)
            assert process.stderr.readline() == "note: following events again\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
            assert process.stderr.read() == ""


def test_a_refused_token_is_an_error_line(tmp_path: Path) -> None:
    """As for a pull, with what to do."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 3))
    world.sync()
    with serve(world.state.feed.root) as peer:
        peer.behave(refusal(401))
        with watching(world, url=peer.url) as process:
            assert process.stderr is not None
            assert process.stderr.readline().endswith(" answered 401 to events\n")
            assert process.stderr.readline().startswith("  to do: give a valid token (--token-file)")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0


def test_a_name_that_cannot_be_is_told(world: World) -> None:
    """Before anything is fetched."""
    ran = syncd("pull", "https://a/feed/", "--root", world.root, "--dir", world.copy, "--watch", "--instance", "a b")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: 'a b' is not a valid instance name")
    assert not world.copy.exists()


def test_news_in_json_arrive_at_once(tmp_path: Path) -> None:
    """A document a line, not kept back until the next pull."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 3))
    world.sync()
    with watching(world, "--json", "--interval", "10m") as process:
        assert process.stdout is not None
        news = json.loads(process.stdout.readline())
    assert (news["changed"], news["lists"][0]["after"], news["errors"]) == (True, 1, [])


def test_a_list_is_folded_on_request(world: World) -> None:
    """`feed compact --all` leaves one base a list, and nothing to do the second time."""
    world.publish(full=rows(0, 30))
    world.publish(add=[row(99)])
    feed = str(world.partner.root)
    assert syncd("feed", "compact", feed).out == "images: nothing to fold\n"
    assert syncd("feed", "compact", feed, "--all").out == "images version 3: folded\n"
    assert syncd("feed", "compact", feed, "--all").out == "images: nothing to fold\n"
    assert syncd("feed", "compact", feed, "--json").json == {"lists": [{"list": "images", "folded": None}]}
    assert syncd("feed", "compact", feed, "--list", "other").code == 2
