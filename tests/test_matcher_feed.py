"""A matcher whose own process follows a feed: event, pull, load, check-in."""

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from event_peer import EventPeer, refusal, serve
from syncd.errors import HttpStatusError, SyncdError, UsageError
from syncd.feed.reproof import InterruptedPass
from syncd.locks import lock
from syncd.matcher import Feed, ListStatus, Matcher, watcher
from syncd.publish import author
from world import IMAGES, Clock, World, row, rows


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a partner with one list of nine rows, pulled straight: copied, not used."""
    world = World(tmp_path_factory.mktemp("pulled"), Clock(datetime.now(UTC)))
    world.publish(full=rows(0, 9))
    world.follow()
    return world.base


@pytest.fixture
def world(pulled: Path, tmp_path: Path) -> World:
    """A partner with one list of nine rows, pulled straight; by the real clock."""
    return World(Path(shutil.copytree(pulled, tmp_path / "world")), Clock(datetime.now(UTC)))


@pytest.fixture
def peer(world: World) -> Iterator[EventPeer]:
    """A syncd that serves the partner's feed, and tells of its versions."""
    with serve(world.partner.root) as found:
        found.versions = {IMAGES: 1}
        yield found


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whoever closes a matcher is rid of it."""
    before = _threads()
    yield
    assert not _threads() - before


def _threads() -> set[threading.Thread]:
    """Return the threads of the package that run now, those that an earlier test has left among them."""
    return {one for one in threading.enumerate() if one.name.startswith("syncd-")}


class Seen:
    """A matcher that follows the feed, and what it told."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self.changes: queue.Queue[int] = queue.Queue()
        self.errors: queue.Queue[SyncdError] = queue.Queue()

    def change(self, status: list[ListStatus]) -> None:
        self.changes.put(status[0].version)

    def until(self, version: int) -> None:
        """Wait until it has told that it loaded a version."""
        while self.changes.get(timeout=20) != version:
            pass


@contextmanager
def following(world: World, peer: EventPeer, **feed: object) -> Iterator[Seen]:
    seen = Seen(Matcher.open(world.mirror))
    settings = Feed(peer.url, **feed)  # type: ignore[arg-type]  # values as a test gives them
    # Looking for what others pulled is for the tests that are about it.
    seen.matcher.watch(3600.0, feed=settings, on_change=seen.change, on_error=seen.errors.put)
    try:
        yield seen
    finally:
        seen.matcher.close()


def publish(world: World, peer: EventPeer, number: int) -> None:
    """Take a row away, and tell it."""
    version = world.publish(remove=[row(number)]).version
    assert version is not None
    peer.tell(IMAGES, version)


def test_an_event_is_loaded_at_once_and_checked_in(world: World, peer: EventPeer) -> None:
    """Nobody waits for a look or a poll; the operator hears which version this process answers from."""
    with following(world, peer, instance="web-3") as seen:
        first = peer.check_ins.get(timeout=20)
        assert (first["instance"], first["lists"]) == (f"web-3.{os.getpid()}", {"images": 1})
        seen.until(1)
        publish(world, peer, 4)
        seen.until(2)
        assert seen.matcher.lookup("sha256", row(4)[1]) == []
        assert peer.check_ins.get(timeout=20)["lists"] == {"images": 2}
        assert seen.errors.empty()


def test_a_correction_is_loaded_while_the_copy_is_folded(
    world: World, peer: EventPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fold goes on in a thread of its own, and ends with the matcher."""
    began = threading.Event()

    def rest(stop: threading.Event) -> object:
        def wait(_size: int) -> None:
            began.set()
            if stop.wait(60):
                raise InterruptedPass

        return wait

    monkeypatch.setattr("syncd.feed.follow._LARGE", 0)
    monkeypatch.setattr("syncd.matcher.folding.LowPriority", rest)
    with following(world, peer) as seen:
        publish(world, peer, 4)
        seen.until(2)
        author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
        peer.tell(IMAGES, 3)
        seen.until(3)
        assert began.wait(20)
        publish(world, peer, 5)
        seen.until(4)
        assert [bool(seen.matcher.lookup("sha256", row(number)[1])) for number in (3, 4, 5)] == [True, False, False]
        assert seen.errors.empty()


def test_what_was_published_before_the_stream_opened_is_not_lost(world: World, peer: EventPeer) -> None:
    """The state at the stream's beginning is compared with what is loaded."""
    peer.feed_lock.clear()
    with following(world, peer) as seen:
        peer.pulls.get(timeout=20)  # has begun, and will get the old timestamp or the new one
        publish(world, peer, 4)
        peer.feed_lock.set()
        seen.until(2)


def test_a_burst_costs_few_pulls(world: World, peer: EventPeer) -> None:
    """What is told while a pull is under way, and is brought by it, is not pulled again."""
    with following(world, peer) as seen:
        seen.until(1)
        peer.feed_lock.clear()
        publish(world, peer, 4)
        peer.pulls.get(timeout=20)
        for _ in range(50):
            peer.send(peer.event(IMAGES, 2))
        peer.pulls.get(timeout=20)
        peer.feed_lock.set()
        seen.until(2)
        publish(world, peer, 5)
        seen.until(3)
        assert peer.pulls.qsize() == 1


def test_the_processes_of_a_host_share_one_pull(world: World, peer: EventPeer) -> None:
    """While another is at it there is no error, and what it brought is loaded soon after, by those who were told."""
    with following(world, peer) as first, following(world, peer) as second:
        for one in (first, second):
            one.until(1)
        while not peer.pulls.empty():
            peer.pulls.get()
        before = peer.pull_count
        for version, number in ((2, 4), (3, 5), (4, 6)):
            peer.feed_lock.clear()
            publish(world, peer, number)
            peer.pulls.get(timeout=20)
            peer.feed_lock.set()
            for one in (first, second):
                one.until(version)
        assert peer.pull_count == before + 3
        assert first.errors.empty()
        assert second.errors.empty()


def test_a_lock_that_is_released_with_nothing_new_is_taken(world: World, peer: EventPeer) -> None:
    """A process that waited for another's pull, which failed or was killed, pulls by itself."""
    with following(world, peer) as seen:
        seen.until(1)
        with lock(world.mirror / ".work" / "lock", "a test"):
            publish(world, peer, 4)
            with pytest.raises(queue.Empty):
                seen.changes.get(timeout=0.1)
        seen.until(2)
        assert seen.errors.empty()


def test_a_pull_that_fails_is_told_and_the_old_version_answers(world: World, peer: EventPeer) -> None:
    """Recovery comes with the next pull: soon, as the stream shows that the peer is up."""
    with following(world, peer) as seen:
        seen.until(1)
        newest = world.partner.path("metadata/timestamp.json")
        good = newest.read_bytes()
        newest.unlink()
        peer.tell(IMAGES, 2)
        assert isinstance(seen.errors.get(timeout=20), HttpStatusError)
        assert seen.matcher.lookup("sha256", row(4)[1])
        newest.write_bytes(good)
        publish(world, peer, 4)
        seen.until(2)


def test_a_fault_nobody_foresaw_is_told_and_the_feed_left_alone(
    world: World, peer: EventPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in pulling is an error without its words, and is met again at the next poll, not at once."""
    pulls: list[object] = []

    def fail(*arguments: object, **_: object) -> None:
        pulls.append(arguments)
        raise ZeroDivisionError(row(4)[1])

    monkeypatch.setattr(watcher, "pull_if_free", fail)
    with following(world, peer) as seen:
        assert seen.errors.get(timeout=20).message == "internal error (ZeroDivisionError)"
        assert seen.matcher.lookup("sha256", row(4)[1])
        with pytest.raises(queue.Empty):
            seen.errors.get(timeout=0.2)
    assert len(pulls) == 1


def test_a_refused_token_is_told(world: World, peer: EventPeer) -> None:
    """It is an error, unlike a stream that is lost."""
    peer.behave(refusal(401))
    with following(world, peer) as seen:
        error = seen.errors.get(timeout=20)
        assert isinstance(error, HttpStatusError)
        assert error.status == 401


def test_a_feed_without_events_is_polled(world: World) -> None:
    """A folder, or any server that is no syncd."""
    with following(world, EventPeer(world.partner.root, world.partner.root.as_uri()), interval=0.01) as seen:
        seen.until(1)
        world.publish(remove=[row(4)])
        seen.until(2)


def test_closing_ends_a_pull_that_hangs(world: World, peer: EventPeer) -> None:
    """At once, however long its deadline; nothing is told of it."""
    peer.feed_lock.clear()
    with following(world, peer, deadline=3600.0) as seen:
        peer.pulls.get(timeout=20)
        begin = time.monotonic()
        seen.matcher.close()
        assert time.monotonic() - begin < 2
        assert seen.errors.empty()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_follows_by_itself(world: World, peer: EventPeer) -> None:
    """Its own connection, its own name at the operator's; the parent's stream goes on, and so does its lock."""
    with following(world, peer, instance="web") as seen:
        seen.until(1)
        peer.asked.get(timeout=20)
        peer.check_ins.get(timeout=20)
        told = os.pipe()
        child = os.fork()
        if child == 0:
            os._exit(_in_child(seen, told[1]))
        peer.asked.get(timeout=20)
        assert peer.check_ins.get(timeout=20)["instance"] == f"web.{child}"
        publish(world, peer, 4)
        seen.until(2)
        assert os.read(told[0], 1) == b"2"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publish(world, peer, 5)
        seen.until(3)
        for end in told:
            os.close(end)


def _in_child(seen: Seen, told: int) -> int:
    try:
        seen.until(2)
        os.write(told, b"2")
        seen.matcher.close()
    except BaseException:  # noqa: BLE001 - a child of a test must end, not go on as pytest
        return 2
    return 0 if seen.matcher.lookup("sha256", row(4)[1]) == [] else 1


IMPORTS = """
import sys, threading
from syncd.matcher import Feed, Matcher

url, copy = sys.argv[1:]
feed = Feed(url, deadline=5)
with Matcher.open(copy) as matcher:
    before, done = set(sys.modules), threading.Event()
    matcher.watch(feed=feed, on_change=lambda _: done.set(), on_error=lambda _: done.set())
    done.wait(60)
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("reachable", [True, False])
def test_watching_imports_nothing(world: World, peer: EventPeer, reachable: bool) -> None:
    """A child forked while a thread imports a module would wait for that module for ever, and never follow."""
    world.publish(add=[row(10)])
    url = peer.url if reachable else "http://127.0.0.1:1/feed/"
    program = [sys.executable, "-c", IMPORTS, url, str(world.mirror)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_forked_during_a_pull_does_not_keep_its_lock(world: World) -> None:
    """Else nobody could pull for as long as that child lives."""
    release, wait = os.pipe()
    path = world.mirror / ".work" / "lock"
    with lock(path, "a pull"):
        child = os.fork()
        if child == 0:
            os.close(wait)
            os.read(release, 1)
            os._exit(0)
    try:
        with lock(path, "another pull"):
            pass
    finally:
        os.close(wait)
        os.close(release)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_lock_dies_with_its_process_and_not_with_its_children(world: World) -> None:
    """A process killed during a pull keeps nobody from pulling, though one that it forked lives on."""
    path = world.mirror / ".work" / "lock"
    forked, child_is_there = os.pipe()
    wait, release = os.pipe()
    parent = os.fork()
    if parent == 0:
        with lock(path, "a pull"):
            if os.fork() == 0:
                os.close(release)
                os.write(child_is_there, b"1")
                os.read(wait, 1)
            else:
                os.read(forked, 1)
            os._exit(0)
    os.waitpid(parent, 0)
    with lock(path, "another pull"):
        pass
    for end in (forked, child_is_there, wait, release):
        os.close(end)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lists": ["Images"]}, "'Images' is not a list name"),
        ({"lists": "images"}, "lists must be a sequence of names, not one string"),
        ({"interval": "1m"}, "an interval or deadline of 1m seconds"),
        ({"instance": "a b"}, "'a b' is not a valid instance name"),
        ({"interval": 0}, "an interval or deadline of 0 seconds"),
        ({"token_file": "/absent"}, "the token: cannot read /absent"),
        ({"ca": "/absent"}, "the certificate authority: cannot read /absent"),
        ({"url": "http://example.org/feed/"}, "would send everything unencrypted"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(world: World, settings: dict[str, object], message: str) -> None:
    """A typing error is not something to find in a log."""
    before = _threads()
    matcher = Matcher.open(world.mirror)
    with pytest.raises(UsageError, match=message):
        matcher.watch(feed=Feed(**{"url": "https://example.org/feed/", **settings}))  # type: ignore[arg-type]  # as above
    assert not _threads() - before


SERVICE = """
import signal, sys, time
from syncd.matcher import Feed, Matcher

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
matcher = Matcher.open(sys.argv[1])
matcher.watch(3600.0, feed=Feed(sys.argv[2], instance="web"))
print("it watches", flush=True)
while True:
    time.sleep(1)  # a signal in the instant before does not end it
"""


def test_a_process_that_ends_checks_out(world: World, peer: EventPeer) -> None:
    """Without a call of its own: at the end of a worker that a restart replaces, say."""
    command = [sys.executable, "-c", SERVICE, str(world.mirror), peer.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, ExitStack() as stack:
        stack.callback(process.kill)
        name = f"web.{process.pid}"
        assert process.stdout
        assert process.stdout.readline() == b"it watches\n"
        first = peer.check_ins.get(timeout=20)
        assert (first["instance"], first["lists"]) == (name, {"images": 1})
        process.terminate()
        last = peer.check_ins.get(timeout=20)
        assert (last["instance"], last["lists"]) == (name, {})
        assert process.wait(20) == 0


def test_a_matcher_that_closes_checks_out(world: World, peer: EventPeer) -> None:
    """It no longer follows the feed, even if its process continues."""
    with following(world, peer) as seen:
        assert peer.check_ins.get(timeout=20)["lists"] == {"images": 1}
        seen.matcher.close()
        assert peer.check_ins.get(timeout=20)["lists"] == {}
