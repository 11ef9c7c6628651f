"""Staying up to date: the loop of ``pull --watch``, and a matcher that watches its copy."""

import gc
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from straight import pulled, world
from syncd.errors import DeadlineExceeded, HttpStatusError, MismatchError, RefusedError, SyncdError, TrustError
from syncd.feed.folder import FeedFolder
from syncd.fetch.backoff import backoff, vary
from syncd.matcher import Feed, Hit, ListStatus, Matcher
from syncd.matcher.copy import CurrentFile, read_current
from syncd.matcher.pull import ListPull, PullResult
from syncd.matcher.threads import Poller
from syncd.matcher.watch import PullAttempt, follow
from syncd.model import ListName
from world import IMAGES, World, row

__all__ = ["pulled", "world"]  # fixtures

UNREACHABLE = DeadlineExceeded("not finished within the deadline of 5 s")
REJECTED = TrustError("timestamp.json is not signed by enough of the keys trusted for it")
LOCKED = RefusedError("copy is in use by process 7 (a pull)")
GOOD = PullResult((ListPull(IMAGES, 1, 2),))


def run(
    *outcomes: PullResult | Exception, interval: float = 60, chance: float = 0.75
) -> tuple[list[PullAttempt], list[float]]:
    """Follow through these outcomes; returns what was reported and how long was waited."""
    left = list(outcomes)
    attempts: list[PullAttempt] = []
    waits: list[float] = []
    now = 0.0

    def pull_once() -> PullResult:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def wait(_: threading.Event, seconds: float) -> bool:
        nonlocal now
        waits.append(seconds)
        now += seconds
        return not left

    follow(
        pull_once,
        interval=interval,
        stop=threading.Event(),
        on_event=attempts.append,
        wait=wait,
        rng=lambda: chance,
        clock=lambda: now,
    )
    return attempts, waits


def test_each_pull_is_reported_and_the_next_is_jittered() -> None:
    """Good pulls come at the interval, give or take a fifth."""
    attempts, waits = run(GOOD, GOOD)
    assert waits == [66.0, 66.0]
    assert attempts == [PullAttempt(GOOD, None, 66.0)] * 2
    assert [vary(60, 0.2, chance) for chance in (0, 0.5, 1)] == [48.0, 60.0, 72.0]


def test_a_bug_does_not_end_the_following() -> None:
    """It is told without its words, which may hold a digest; the next pull comes as after any fault."""
    attempts, _ = run(ZeroDivisionError(row(1)[1]), GOOD)
    assert [str(one) for one in attempts[0].errors] == ["internal error (ZeroDivisionError)"]
    assert attempts[1].pulled == GOOD


def test_a_bug_in_one_list_keeps_no_other_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are pulled, and what was held of that list stays."""
    world.publish(full=[row(9)], name=ListName("videos"))
    world.publish(add=[row(8)])

    monkeypatch.setattr("syncd.matcher.pull.check_fresh", lambda _, name, __: 1 / (name != IMAGES))
    pulled = world.follow()
    assert [str(one.error) for one in pulled.lists] == ["internal error (ZeroDivisionError)", "None"]
    assert pulled.versions == {IMAGES: 1, "videos": 1}


def test_an_unreachable_peer_is_left_alone_longer_and_longer() -> None:
    """Waits double up to ten minutes, with full jitter, and are short again after a success."""
    assert run(*[UNREACHABLE] * 6, GOOD, UNREACHABLE)[1] == [90.0, 180.0, 360.0, 450.0, 450.0, 450.0, 66.0, 90.0]
    assert run(UNREACHABLE, chance=0.0)[1] == [1.0]
    assert run(*[UNREACHABLE] * 2, interval=3600, chance=1.0)[1] == [3600.0, 3600.0]


def test_a_list_that_cannot_be_fetched_counts_as_unreachable() -> None:
    """One list's `SourceError` slows the pace too: it is the same peer."""
    partly = PullResult((ListPull(IMAGES, 1, 2), ListPull(ListName("videos"), 1, 1, error=UNREACHABLE)))
    attempts, waits = run(partly)
    assert waits == [90.0]
    assert attempts[0].errors == [UNREACHABLE]


@pytest.mark.parametrize(("asked", "chance", "seconds"), [(30.0, 0.0, 30.2), (30.0, 1.0, 56.0), (1e9, 0.0, 3600.2)])
def test_retry_after_is_honoured(asked: float, chance: float, seconds: float) -> None:
    """Never earlier than the peer asks for, spread behind it; but nobody can send a follower to sleep for ever."""
    error = HttpStatusError("answered 503", 503, retry_after=asked)
    assert backoff(error, 1, 60, chance) == pytest.approx(seconds)


def test_a_rejected_feed_is_reported_each_time_at_the_usual_pace() -> None:
    """Rejection and refusal do not end the loop and do not slow it: an alarm that stops is no alarm."""
    attempts, waits = run(REJECTED, REJECTED, LOCKED, GOOD)
    assert [attempt.error for attempt in attempts] == [REJECTED, REJECTED, LOCKED, None]
    assert waits == [66.0] * 4


def test_a_stopped_loop_pulls_no_more() -> None:
    """Set before the start, the event lets nothing happen; set during a wait, it ends that wait."""
    stop = threading.Event()
    attempts: list[PullAttempt] = []

    def report(attempt: PullAttempt) -> None:
        attempts.append(attempt)
        stop.set()

    follow(lambda: GOOD, interval=3600, stop=stop, on_event=report)
    follow(lambda: GOOD, interval=3600, stop=stop, on_event=report)
    assert len(attempts) == 1


class Ticks:
    """Lets a watching thread take one look at a time, and tells how long it would have waited."""

    def __init__(self) -> None:
        self._asked: queue.Queue[float] = queue.Queue()
        self._go: queue.Queue[bool] = queue.Queue()

    def __call__(self, stop: threading.Event, seconds: float) -> bool:
        self._asked.put(seconds)
        return self._go.get() or stop.is_set()

    def look(self) -> float:
        """Let the thread look once; returns the seconds it wants to wait next."""
        self._go.put(False)
        return self._asked.get(timeout=30)

    def start(self) -> float:
        """Wait until the thread is there."""
        return self._asked.get(timeout=30)

    def end(self) -> None:
        """Let the thread see that it is to stop."""
        self._go.put(True)


@contextmanager
def watching(world: World) -> Iterator[tuple[Matcher, Ticks, list[list[ListStatus]], list[SyncdError]]]:
    matcher = Matcher.open(world.mirror, clock=world.clock)
    ticks = Ticks()
    changes: list[list[ListStatus]] = []
    errors: list[SyncdError] = []
    matcher.watch(1.0, jitter=0.0, on_change=changes.append, on_error=errors.append, wait=ticks)
    assert ticks.start() == 1.0
    try:
        yield matcher, ticks, changes, errors
    finally:
        ticks.end()
        matcher.close()


def hits(matcher: Matcher, number: int) -> list[Hit]:
    return matcher.lookup("sha256", row(number)[1])


def test_a_watching_matcher_takes_what_a_pull_brings(world: World) -> None:
    """The look after a pull loads the new version and tells so, once."""
    with watching(world) as (matcher, ticks, changes, errors):
        assert ticks.look() == 1.0
        world.publish(remove=[row(4)])
        world.follow()
        assert hits(matcher, 4)
        ticks.look()
        ticks.look()
        assert hits(matcher, 4) == []
        assert [[(one.list, one.version) for one in change] for change in changes] == [[(IMAGES, 2)]]
        assert errors == []


def test_a_fault_is_told_and_tried_again_less_and_less_often(world: World) -> None:
    """A generation that cannot be proved is retried with longer pauses, the old one answers, and recovery is told."""
    with watching(world) as (matcher, ticks, changes, errors):
        world.publish(remove=[row(4)])
        world.follow()
        current = world.mirror / "current.json"
        good = current.read_bytes()
        current.write_bytes(good.replace(b'"version":2', b'"version":3').replace(b'"manifest":"', b'"manifest":"0', 1))
        assert [ticks.look() for _ in range(7)] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        assert len(errors) == 7
        assert matcher.last_error is errors[-1]
        assert hits(matcher, 4) == [Hit(IMAGES, 1, "e4", "B")]
        current.write_bytes(good)
        assert ticks.look() == 1.0
        assert hits(matcher, 4) == []
        assert matcher.status()[0].error is None
        assert len(changes) == 1


def test_a_callback_that_fails_does_not_end_the_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of a callback is shown as threads show theirs, and the thread goes on watching."""
    shown: list[object] = []

    def fail(_: list[ListStatus]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    matcher, ticks = Matcher.open(world.mirror, clock=world.clock), Ticks()
    matcher.watch(on_change=fail, wait=ticks)
    ticks.start()
    for number in (4, 5):
        world.publish(remove=[row(number)])
        world.follow()
        ticks.look()
        assert hits(matcher, number) == []
    assert shown == [ZeroDivisionError, ZeroDivisionError]
    assert matcher.last_error is None
    ticks.end()
    matcher.close()


def test_a_step_that_always_fails_is_not_repeated_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it fails before it could say when to come again."""

    def fail() -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    ticks = Ticks()
    poller = Poller(fail, 0.0, ticks).start()
    assert [ticks.start(), ticks.look(), ticks.look()] == [0.0, 1.0, 1.0]
    ticks.end()
    poller.stop()


def test_a_fault_nobody_foresaw_becomes_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a load raises, the old generation answers, the error is typed, and the watch goes on."""
    with watching(world) as (matcher, ticks, _, errors):
        world.publish(remove=[row(4)])
        world.follow()
        with monkeypatch.context() as patched:
            patched.setattr("syncd.matcher.matcher.load", lambda *_: 1 // 0)
            ticks.look()
        assert [error.message for error in errors] == ["cannot load a new generation: ZeroDivisionError"]
        assert hits(matcher, 4)
        ticks.look()
        assert hits(matcher, 4) == []


def test_a_pull_during_a_load_is_loaded_instead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a pull takes away while they are read are no fault: the newer generation is read in their place."""
    matcher = Matcher.open(world.mirror, clock=world.clock)
    world.publish(remove=[row(4)])
    world.follow()

    def overtaken(folder: FeedFolder) -> CurrentFile | None:
        found = read_current(folder)
        if found and found.lists[IMAGES].version == 2:
            world.publish(remove=[row(5)])
            world.follow()
            raise MismatchError("the manifest of images is missing")
        return found

    monkeypatch.setattr("syncd.matcher.load.read_current", overtaken)
    assert matcher.reload()
    assert matcher.generation.snapshots[IMAGES].manifest.version == 3
    assert matcher.last_error is None


def test_closing_ends_the_thread_and_keeps_answering(world: World) -> None:
    """`close` may be called twice, and look-ups work after it."""
    matcher = Matcher.open(world.mirror, clock=world.clock)
    matcher.watch(3600)
    matcher.watch(3600)
    assert [thread.name for thread in threading.enumerate()].count("syncd-watch") == 1
    matcher.close()
    matcher.close()
    assert "syncd-watch" not in [thread.name for thread in threading.enumerate()]
    assert hits(matcher, 4)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_watches_for_itself(world: World) -> None:
    """The watching thread stays behind in the parent; the child starts its own, which loads what comes later."""
    matcher = Matcher.open(world.mirror, clock=world.clock)
    loaded = threading.Event()
    matcher.watch(0.01, on_change=lambda _: loaded.set())
    try:
        child = os.fork()
        if child == 0:
            os._exit(_watch_in_child(matcher, world, loaded))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        matcher.close()


def _watch_in_child(matcher: Matcher, world: World, loaded: threading.Event) -> int:
    try:
        world.publish(remove=[row(4)])
        world.follow()
        return 0 if loaded.wait(30) and hits(matcher, 4) == [] else 1
    except BaseException:  # noqa: BLE001 - a child of a test must end, not go on as pytest
        return 2


@pytest.mark.parametrize("followed", [False, True])
def test_the_map_goes_with_the_last_reference(world: World, followed: bool) -> None:
    """Also after a watch, and without waiting for a collection of garbage: a copy may be some gigabytes."""
    matcher = Matcher.open(world.mirror, clock=world.clock)
    matcher.watch(feed=Feed(world.url) if followed else None)
    matcher.close()
    gone = weakref.ref(matcher)
    gc.collect()
    gc.disable()
    try:
        del matcher
        assert gone() is None
    finally:
        gc.enable()
