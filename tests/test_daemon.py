"""`syncd run` as a real process: what operators, systemd and a second daemon see of it."""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from bad_peer import Send, good, serve
from command_line import configure, syncd
from disks import mounted
from syncd.acts import AddedMatcher, AskedForSync, RevokedMatcher
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.service import client
from world import Clock, World, row, rows

SYNCD = (sys.executable, "-c", "from syncd.cli.main import run; run()")


class Process:
    """A daemon, and what it logs."""

    def __init__(self, config: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*SYNCD, "run", "--config", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.pid = self.process.pid
        self._early: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        """Wait until it is ready. Events of before that, such as those of its first chores, are left to `until`."""
        early: list[dict[str, Any]] = []
        for event in self._events():
            if event["event"] == "daemon_ready":
                self._early = early
                return self
            early.append(event)
        raise AssertionError("ended before it was ready")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, name: str) -> dict[str, Any]:
        """Read the log up to an event."""
        for event in self._events():
            if event["event"] == name:
                return event
        raise AssertionError(f"ended before {name}")

    def _events(self) -> Iterator[dict[str, Any]]:
        while self._early:
            yield self._early.pop(0)
        assert self.process.stderr
        yield from map(json.loads, self.process.stderr)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def stop(self) -> dict[str, Any]:
        """Stop it by SIGTERM; its last event, once it has ended well."""
        self.send(signal.SIGTERM)
        last = self.until("daemon_stopped")
        assert self.process.wait(20) == 0
        return last


@pytest.fixture
def today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world by the clock on the wall, which a daemon lives by, and its configuration."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 3))
    configure(tmp_path / "syncd.toml", text(world), monkeypatch)
    with world.publisher() as publisher:  # so that nothing is synced but what a test asks for
        for name in ("iwf", "other", "new"):
            publisher.catalog.note_schedule(name, world.clock.now + timedelta(hours=2))
    yield world
    while _asked:
        _asked.pop().close()


_asked: list[client.Answers] = []
"""Closed after each test, read to their end or not."""


def text(world: World, url: str = "", more: str = "") -> str:
    """A configuration; the socket's address is short whatever the folder."""
    return (
        f'state_dir = "{world.state.root}"\ncontrol_socket = "{world.base}/c.sock"\n[sources.iwf]\ntype = "feed"\n'
        f'url = "{url or world.url}"\nroot = "{world.root}"\ninterval = "1d"\n{more}'
    )


def daemon(world: World, **environment: str) -> Process:
    """The daemon of a world."""
    return Process(world.base / "syncd.toml", **environment)


def ask(world: World, **order: object) -> Iterator[dict[str, Any]]:
    """Give an order at the socket."""
    answers = client.ask(world.base / "c.sock", {"state_dir": str(world.state.root), **order}, 60)
    assert answers is not None
    _asked.append(answers)
    return answers


@contextmanager
def slow_partner(world: World) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A partner that answers nothing until the second event is set; the first says that it was asked."""
    asked, go_on = threading.Event(), threading.Event()

    def wait(send: Send, body: bytes) -> None:
        asked.set()
        go_on.wait(60)
        good(send, body)

    with serve(world.partner.root) as peer:
        peer.fault("metadata/timestamp.json", wait)
        (world.base / "syncd.toml").write_text(text(world, peer.url))
        try:
            yield asked, go_on
        finally:
            go_on.set()


def test_a_sync_is_done_by_the_running_daemon(today: World) -> None:
    """It returns outcome and exit code as without one; who asked is in the audit log; the log tells it by its ID."""
    with daemon(today) as running:
        document = syncd("sync", "--json").json
        sync = document["syncs"][0]
        assert (sync["outcome"], sync["lists"][0]["version"], document["dry_run"]) == ("published", 1, False)
        assert running.until("sync_started")["asked_by"] == getpass.getuser()
        finished = running.until("sync_finished")
        assert (finished["sync_id"], finished["outcome"], finished["level"]) == (sync["sync_id"], "published", "info")
        today.publish(add=[row(9, "B")])
        dry = syncd("sync", "--dry-run")
        assert dry.code == 0
        assert "would be published" in dry.out
        assert "iwf.images  sha256     B          1        0           0" in dry.out
        table = syncd("sync", "iwf")
        assert (table.code, table.err) == (0, "")
        assert "iwf.images  published        2     4      1" in table.out
        assert running.stop()["unfinished"] == []
    with today.publisher() as publisher:
        entries = [one for one in publisher.catalog.audit_entries() if isinstance(one.act, AskedForSync)]
    assert [(one.actor, type(one.act)) for one in entries] == [(getpass.getuser(), AskedForSync)] * 3
    assert entries[2].act == AskedForSync("iwf", sync["sync_id"], dry_run=False, joined=False)


def test_matchers_are_added_and_revoked_by_the_running_daemon(today: World) -> None:
    """The token goes to who asked, and neither into the log nor into the answer to anybody else."""
    with daemon(today) as running:
        added = syncd("matchers", "add", "web", "--list", "iwf.images", "--json")
        token = added.json["matcher"].pop("token")
        told = running.until("matcher_added")
        assert (told["matcher"], told["lists"], told["asked_by"]) == ("web", ["iwf.images"], getpass.getuser())
        assert token not in json.dumps(told)
        again = syncd("matchers", "add", "web")
        assert (again.code, again.err.splitlines()[0]) == (2, "error: a matcher named web exists already")
        assert [one["name"] for one in syncd("matchers", "--json").json["matchers"]] == ["web"]
        assert syncd("matchers", "revoke", "web").out == "web may no longer pull\n"
        assert running.until("matcher_revoked")["matcher"] == "web"
        assert syncd("matchers", "revoke", "web").code == 2
        running.stop()
    with today.publisher() as publisher:
        entries = publisher.catalog.audit_entries()
    assert [(one.actor, one.act) for one in entries if isinstance(one.act, AddedMatcher | RevokedMatcher)] == [
        (getpass.getuser(), RevokedMatcher("web")),
        (getpass.getuser(), AddedMatcher("web", ("iwf.images",))),
    ]


def test_a_sync_can_be_started_and_asked_for_later(today: World) -> None:
    """By its ID, while it runs, when it has ended, and when the daemon has, from the catalog."""
    with daemon(today) as running:
        started = syncd("sync", "--no-wait", "--json").json["started"][0]
        assert started["joined"] is False
        running.until("sync_finished")
        told = syncd("sync", "--status", started["sync_id"], "--json")
        assert (told.code, told.json["outcome"], told.json["source"]) == (0, "published", "iwf")
        assert syncd("sync", "--status", "nothing").code == 2
        running.stop()
    assert syncd("sync", "--status", started["sync_id"]).out == "iwf: published\n"
    refused = syncd("sync", "--no-wait")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: --no-wait needs a running daemon")


def test_an_error_in_the_daemon_is_the_command_s(today: World) -> None:
    """With its class, words and exit code; an unknown source as well."""
    (today.base / "syncd.toml").write_text(text(today, f"file://{today.base}/nowhere"))
    with daemon(today) as running:
        failed = syncd("sync")
        assert failed.code == 5
        assert failed.err.startswith(f"error: there is no folder {today.base}/nowhere\n  still served: nothing")
        cooled = running.until("cool_down")
        assert (cooled["source"], cooled["failures"]) == ("iwf", 1)
        unknown = syncd("sync", "iwff")
        assert (unknown.code, unknown.err.splitlines()[1]) == (2, "  to do: did you mean iwf?")
        assert running.until("control_refused")["message"] == "no source 'iwff' is configured"
        strange = syncd("sync", "nosuch", "--json")
        assert (strange.code, strange.json["error"]) == (
            2,
            {
                "kind": "UsageError",
                "message": "no source 'nosuch' is configured",
                "still_served": "",
                "to_do": "known sources: iwf",
                "exit_code": 2,
            },
        )


def test_who_asks_twice_waits_for_the_same_sync(today: World) -> None:
    """The second joins; a dry run is not what it asked for and is refused; progress tells the stages."""
    with slow_partner(today) as (asked, go_on), daemon(today):
        first = ask(today, do="sync", source="iwf")
        accepted = next(first)["accepted"]
        assert asked.wait(60)
        second = ask(today, do="sync")
        assert next(second)["accepted"] == {**accepted, "joined": True}
        refused = list(ask(today, do="sync", dry_run=True))[-1]
        assert (refused["end"], refused["error"]["message"]) == (6, "a sync of iwf is already running")
        told = [next(first)]
        while told[-1]["progress"]["stage"] != "verify":  # the worker's word of it may be later than its request
            told.append(next(first))
        status = next(ask(today, do="sync_status", sync_id=accepted["sync_id"]))["status"]
        assert (status["outcome"], status["stage"]) == ("running", "verify")
        go_on.set()
        told, joined = [*told, *first], list(second)
    assert told[-2]["sync"] == joined[-2]["sync"]
    assert told[-2]["sync"]["sync_id"] == accepted["sync_id"]
    assert (told[-1], joined[-1]) == ({"end": 0}, {"end": 0})
    stages = [answer["progress"]["stage"] for answer in told if "progress" in answer]
    assert stages[0] in {"start", "verify"}


def test_one_source_does_not_block_another(today: World) -> None:
    """While a partner says nothing, the other's list is published."""
    with slow_partner(today) as (asked, _):
        config = today.base / "syncd.toml"
        more = f'[sources.other]\ntype = "feed"\nurl = "{today.url}"\nroot = "{today.root}"\ninterval = "1d"\n'
        config.write_text(config.read_text() + more)
        with daemon(today):
            stuck = ask(today, do="sync", source="iwf")
            next(stuck)
            assert asked.wait(60)
            assert syncd("sync", "other").code == 0


def test_a_stop_abandons_what_hangs_and_tells_who_waits(today: World) -> None:
    """Within ten seconds, exit code 0; the sync is interrupted, whoever waited gets exit code 6, nothing is left."""
    with slow_partner(today) as (asked, _), daemon(today) as running:
        waiting = ask(today, do="sync")
        next(waiting)
        assert asked.wait(60)
        began = datetime.now(UTC)
        assert running.stop()["unfinished"] == []
        assert (datetime.now(UTC) - began).total_seconds() < 10
        answers = list(waiting)
    assert answers[-1] == {"end": 6}
    assert answers[-2]["sync"]["error"]["kind"] == "AbandonedError"
    assert not (today.base / "c.sock").exists()
    with today.publisher() as publisher:
        assert publisher.catalog.recent_syncs()[0].outcome is Outcome.INTERRUPTED


def test_a_killed_daemon_takes_its_worker_along_and_the_next_one_goes_on(today: World) -> None:
    """The sync is told as interrupted, the socket left behind is taken over, and the list arrives."""
    with slow_partner(today) as (asked, go_on), daemon(today) as killed:
        next(ask(today, do="sync"))
        assert asked.wait(60)
        children = Path(f"/proc/{killed.pid}/task").glob("*/children")
        workers = [int(pid) for one in children for pid in one.read_text().split()]
        assert len(workers) == 1
        watched = os.pidfd_open(workers[0])
        killed.send(signal.SIGKILL)
        killed.process.wait()
        assert _ended(watched)
        go_on.set()
        running = daemon(today)
        assert running.until("daemon_started")["interrupted_syncs"] == 1
        with running:
            assert syncd("sync").code == 0


def _ended(descriptor: int) -> bool:
    """Wait for the end of a process, which is when its descriptor becomes readable (pidfd_open(2))."""
    import select

    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


def test_a_second_daemon_and_other_writers_are_refused(today: World) -> None:
    """They are told which process holds the state; the first goes on."""
    with daemon(today) as running:
        expected = f"error: {today.state.root} is in use by process {running.pid} (syncd run)\n"
        second = subprocess.run([*SYNCD, "run"], capture_output=True, text=True, timeout=60, check=False)
        assert (second.returncode, second.stderr.startswith(expected)) == (6, True)
        for command in (("recover", "--above", "9"), ("retrust", "iwf", "--root", today.root, "--reason", "r")):
            ran = syncd(*command)
            assert (ran.code, ran.err.startswith(expected)) == (6, True)
        assert syncd("status").code == 0
        assert syncd("sync").code == 0


def test_a_reload_takes_all_of_the_configuration_or_nothing(today: World) -> None:
    """It says what changed, by name; what is wrong leaves everything as it was."""
    config = today.base / "syncd.toml"
    with daemon(today) as running:
        more = f'[sources.new]\ntype = "feed"\nurl = "{today.url}"\nroot = "{today.root}"\ninterval = "1d"\n'
        config.write_text(text(today, more=more).replace('"1d"', '"2d"', 1))
        running.send(signal.SIGHUP)
        told = running.until("config_reloaded")
        assert (told["added"], told["removed"], told["changed"]) == (["new"], [], ["iwf.interval"])
        for wrong, said in _WRONG.items():
            config.write_text(wrong(text(today)))
            running.send(signal.SIGHUP)
            assert said in running.until("config_rejected")["message"]
        assert [
            answer["accepted"]["source"] for answer in ask(today, do="sync", wait=False) if "accepted" in answer
        ] == [
            "iwf",
            "new",
        ]


_WRONG: dict[Callable[[str], str], str] = {
    lambda good: good + "interval = 1": "is not TOML",
    lambda good: good.replace("interval", "intervall"): "unknown key",
    lambda good: good.replace("c.sock", "d.sock"): "control_socket cannot change while the daemon runs",
    lambda good: good.replace("root.json", "lost.json"): "the root of source iwf",
    lambda good: re.sub(r'root = ".*"', 'root = "/etc/passwd"', good): "the root of source iwf: the root is not",
}


def test_systemd_hears_of_start_life_reload_and_stop(today: World) -> None:
    """READY once the socket answers, WATCHDOG while schedule and socket do, RELOADING and READY, STOPPING."""
    with heard_by_systemd(today, 0.3) as (hear, running):
        assert hear("READY=1").splitlines()[1].startswith("STATUS=1 source; next sync ")
        hear("WATCHDOG=1")
        running.send(signal.SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")
        running.send(signal.SIGTERM)
        hear("STOPPING=1")
        assert running.process.wait(20) == 0


@contextmanager
def heard_by_systemd(world: World, watchdog: float) -> Iterator[tuple[Callable[[str], str], Process]]:
    """What waits for the daemon to say something, and the daemon; ``watchdog`` in seconds."""
    surroundings = {"NOTIFY_SOCKET": str(world.base / "n"), "WATCHDOG_USEC": str(round(watchdog * 1e6))}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(60)
        systemd.bind(surroundings["NOTIFY_SOCKET"])
        heard: list[str] = []

        def hear(what: str) -> str:
            while not (heard and what in heard[-1]):
                heard.append(systemd.recv(4096).decode())
            return heard[-1]

        with daemon(world, **surroundings) as running:
            yield hear, running


def test_a_daemon_that_is_told_to_reload_again_and_again_shows_life(today: World) -> None:
    """After each time, or it would be ended by the watchdog."""
    with heard_by_systemd(today, 600) as (hear, running):
        for _ in range(2):
            running.send(signal.SIGHUP)
            hear("RELOADING=1")
            hear("WATCHDOG=1")


def test_many_who_ask_do_not_look_like_a_daemon_that_hangs(today: World) -> None:
    """One that refuses an order because it is busy is alive, and feeds the watchdog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, ExitStack() as silent:
        systemd.settimeout(60)
        systemd.bind(str(today.base / "n"))
        with daemon(today, NOTIFY_SOCKET=str(today.base / "n"), WATCHDOG_USEC="300000"):
            for _ in range(40):  # eight more than are answered; each keeps its place for ten seconds
                one = silent.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(str(today.base / "c.sock"))
            assert "busy with too many requests" in next(ask(today, do="ping"))["error"]["message"]
            systemd.setblocking(False)
            with suppress(BlockingIOError):  # what was said before
                while systemd.recv(4096):
                    pass
            systemd.settimeout(5)
            while b"WATCHDOG=1" not in systemd.recv(4096):
                pass


def test_a_daemon_of_another_state_does_nothing_for_us(today: World, tmp_path: Path) -> None:
    """A socket that belongs to another state is passed by: the sync is done here."""
    with daemon(today):
        (tmp_path / "other").mkdir()
        other = World(tmp_path / "other", Clock(datetime.now(UTC)))
        other.publish(full=rows(0, 2))
        config = tmp_path / "other.toml"
        config.write_text(text(other).replace(f"{other.base}/c.sock", f"{today.base}/c.sock"))
        assert syncd("sync", "--config", config, "--json").json["syncs"][0]["lists"][0]["rows"] == 2


def test_a_check_says_what_would_be_scheduled(today: World) -> None:
    """Without starting anything; a file that cannot be read is an error of the configuration."""
    ran = syncd("run", "--check")
    assert (ran.code, ran.err) == (0, "")
    assert "iwf     1 day  10 minutes  in 1 hour (stored)" in ran.out
    (today.base / "syncd.toml").write_text(text(today).replace("root.json", "lost.json"))
    assert syncd("run", "--check").code == 2


def test_the_timestamp_is_signed_whatever_the_partner_does(today: World) -> None:
    """At once where it is an hour old at the start: the partner need not even be there."""
    (today.base / "syncd.toml").write_text(text(today, f"file://{today.base}/nowhere"))
    timestamp = today.state.feed.path("metadata/timestamp.json")
    with today.publisher() as publisher:
        publisher.resign(datetime.now(UTC) - timedelta(hours=2))
    before = json.loads(timestamp.read_text())["signed"]["version"]
    with daemon(today) as running:
        assert running.until("timestamp_signed")["level"] == "info"
        assert json.loads(timestamp.read_text())["signed"]["version"] == before + 1


@contextmanager
def small_disk(world: World) -> Iterator[Callable[[], None]]:
    """The operator's state on a file system of 2 MB; gives what fills it up, or, called again, makes room."""
    before = shutil.copytree(world.state.root, world.base / "before")
    with mounted(world.state.root, "-t", "tmpfs", "-o", "mode=0750,size=2m", "tmpfs"):
        shutil.copytree(before, world.state.root, dirs_exist_ok=True)
        filler = world.state.root / "filler"

        def fill_or_empty() -> None:
            if filler.exists():
                filler.unlink()
                return
            with suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))

        yield fill_or_empty


def test_a_source_that_fills_the_disk_keeps_no_other_from_going_on(today: World) -> None:
    """What does not fit is not fetched, and the state can be written, and taken by the next daemon."""
    today.publish(full=rows(0, 48_000), name=ListName("videos"))
    other = f'[sources.other]\ntype = "feed"\nurl = "{today.url}"\nroot = "{today.root}"\nlists = ["videos"]\n'
    sources = f'lists = ["images"]\n{other}'
    (today.base / "syncd.toml").write_text(text(today, more=sources))
    with small_disk(today):
        with daemon(today) as running:
            failed = syncd("sync", "other")
            assert failed.code == 1
            assert "not enough space at" in failed.err
            assert not today.state.source("other").downloads.exists()
            assert syncd("sync", "iwf").code == 0
            running.stop()
        with daemon(today):
            assert syncd("sync", "iwf").code == 0


def test_a_full_disk_is_reported_until_it_has_space(today: World) -> None:
    """Where a sync cannot even be recorded: by status, by the check, and in the log."""
    with small_disk(today) as fill_or_empty, daemon(today) as running:
        assert syncd("sync").code == 0
        assert syncd("status", "--check").code == 0
        fill_or_empty()
        assert syncd("sync").code == 1
        failed = running.until("storage_failed")
        assert (failed["level"], failed["what"]) == ("error", "sync of iwf")
        assert "free disk space" in failed["to_do"]
        (fault,) = syncd("status", "--json").json["storage_faults"]
        assert (fault["what"], fault["message"], fault["to_do"]) == ("sync of iwf", failed["message"], failed["to_do"])
        assert syncd("status").err.startswith("warning: sync of iwf: cannot use the catalog")
        check = syncd("status", "--check")
        assert (check.code, check.out.startswith("SYNCD CRITICAL - sync of iwf: cannot use the catalog")) == (2, True)
        fill_or_empty()
        assert syncd("sync").code == 0
        assert running.until("storage_recovered")["what"] == "sync of iwf"
        assert syncd("status", "--check").code == 0


def test_a_daemon_starts_on_a_full_disk_and_serves(today: World) -> None:
    """What is published is there for matchers; that nothing new is taken is told, until there is room again."""
    with small_disk(today) as fill_or_empty:
        with daemon(today) as running:
            assert syncd("sync").code == 0
            _until((today.state.root / "ballast").exists)
            running.stop()
        fill_or_empty()
        with daemon(today) as running:
            assert not (today.state.root / "ballast").exists()
            failed = running.until("storage_failed")
            assert (failed["what"], failed["to_do"].split(";")[0]) == ("disk space", "free disk space")
            assert today.pull().errors == []
            assert [one["version"] for one in syncd("status", "--json").json["lists"]] == [1]
            assert syncd("status", "--check").code == 2
            fill_or_empty()
            running.stop()
        with daemon(today):
            _until((today.state.root / "ballast").exists)
            assert syncd("status", "--check").code == 0


def _until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come")
