"""Files that were proved once are proved again: damage that keeps the length is found, reported and repaired."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import syncd, use_clock
from straight import pulled, world
from syncd.errors import SegmentError, SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import ProofRecord, RecordInMemory
from syncd.feed.reproof import InterruptedPass, LowPriority, ProofPass
from syncd.matcher import Feed, Matcher
from syncd.matcher.reproof import distrust_damaged, held_versions, record_of
from world import IMAGES, START, World, row

__all__ = ["pulled", "world"]  # fixtures

A_DAY = timedelta(hours=25)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("v1/*/segments/*.arrow"))


def damage(path: Path, number: int) -> None:
    """Flip one bit of a digest in place, as a disk does: the length stays, and whoever has mapped the file sees it."""
    content = path.read_bytes()
    at = content.index(bytes.fromhex(row(number)[1]))
    with path.open("r+b") as stream:
        stream.seek(at + 1)
        stream.write(bytes([content[at + 1] ^ 1]))


def hits(matcher: Matcher, number: int) -> list[str]:
    return [hit.entry for hit in matcher.lookup("sha256", row(number)[1])]


# --- a pulled copy


class Told:
    """The callbacks of a watching matcher."""

    def __init__(self) -> None:
        self.errors: queue.Queue[SyncdError] = queue.Queue()
        self.loaded: queue.Queue[int] = queue.Queue()


@contextmanager
def watched(world: World, feed: Feed | None) -> Iterator[tuple[Matcher, Told]]:
    told, matcher = Told(), Matcher.open(world.mirror, clock=world.clock)
    matcher.watch(
        3600.0, feed=feed, on_error=told.errors.put, on_change=lambda status: told.loaded.put(status[0].version)
    )
    try:
        yield matcher, told
    finally:
        matcher.close()


def test_a_matcher_finds_damage_fetches_the_file_again_and_drops_the_old_map(world: World) -> None:
    """One flipped bit hid a listed digest; a day later it is found without a restart, and nobody had to ask."""
    (path,) = segments(world.mirror)
    before = path.stat().st_ino
    damage(path, 4)
    world.clock.forward(hours=25)
    with watched(world, Feed(world.url)) as (matcher, told):
        error = told.errors.get(timeout=20)
        assert (type(error), str(error)) == (
            SegmentError,
            f"images: segment {path.name}: its content no longer matches the SHA-256 in its name",
        )
        while hits(matcher, 4) != ["e4"]:
            told.loaded.get(timeout=20)
        assert path.stat().st_ino != before
        (status,) = matcher.status()
        assert (status.version, status.damage) == (1, None)
    assert Matcher.open(world.mirror, clock=world.clock).status()[0].proved_at == world.clock()
    assert syncd("verify", world.mirror).code == 0


def test_a_matcher_that_does_not_pull_names_the_cure_and_loads_repaired_files(world: World) -> None:
    """The error goes to its owner once, and stays in its status until a pull has fetched the file."""
    (path,) = segments(world.mirror)
    damage(path, 4)
    world.clock.forward(hours=25)
    with watched(world, None) as (matcher, told):
        assert "the next pull or sync fetches it again" in told.errors.get(timeout=20).hint
        assert hits(matcher, 4) == []
        (status,) = matcher.status()
        assert isinstance(status.damage, SegmentError)
        assert world.follow().errors == []
        matcher.reload()
        assert hits(matcher, 4) == ["e4"]
        assert matcher.status()[0].damage is None


def test_damage_that_is_found_during_a_pull_is_left_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that did not know of it must not take it for repaired."""
    copy = FeedFolder(world.mirror)
    (path,) = segments(world.mirror)
    damage(path, 4)

    def found_meanwhile(folder: FeedFolder) -> Sequence[object]:
        known = distrust_damaged(folder)
        list(ProofPass(copy, record_of(copy), lambda _: None, world.clock).run(lambda: held_versions(copy)))
        return known

    with monkeypatch.context() as patched:
        patched.setattr("syncd.matcher.pull.distrust_damaged", found_meanwhile)
        world.follow()
    assert [fault.part for fault in record_of(copy).read().faults] == ["segment"]
    world.follow()
    assert record_of(copy).read().faults == ()
    assert syncd("verify", world.mirror).code == 0


def test_a_pass_is_made_once_a_day(world: World) -> None:
    """A fresh copy was proved by its pull; a time in the future, of a clock that was wrong, does not put a pass off."""
    record = record_of(FeedFolder(world.mirror)).read()
    assert record.finished == START
    assert [record.is_due(START + timedelta(hours=hours)) for hours in (0, 23, 24, -1)] == [False, False, True, True]
    watched_only = ProofRecord().watched(START)
    assert [watched_only.is_due(START + timedelta(hours=hours)) for hours in (23, 24)] == [False, True]
    assert ProofRecord().is_due(START)


def test_a_pass_that_was_stopped_continues(world: World) -> None:
    """Segments that it has read are not read again after a restart, and the pass counts only once it is whole."""
    for number in (20, 21):
        world.publish(add=[row(number)])
    world.follow()
    copy, records = FeedFolder(world.mirror), RecordInMemory(ProofRecord())
    sizes: list[int] = []

    def stop_at_the_second(size: int) -> None:
        if sizes:
            raise InterruptedPass
        sizes.append(size)

    with pytest.raises(InterruptedPass):
        list(ProofPass(copy, records, stop_at_the_second, world.clock).run(lambda: held_versions(copy)))
    assert (len(records.record.proved), records.record.finished) == (1, None)
    assert records.record.is_due(world.clock())
    rest: list[int] = []
    list(ProofPass(copy, records, rest.append, world.clock).run(lambda: held_versions(copy)))
    lengths = [path.stat().st_size for path in segments(world.mirror)]
    assert sum(sizes) + sum(size for size in rest if size in lengths) == sum(lengths)
    assert (records.record.finished, records.record.proved) == (START, ())


def test_a_file_that_went_with_its_version_is_no_fault(world: World) -> None:
    """A publication may replace the version that is being read; the new one is read instead."""
    world.publish(add=[row(20)])
    copy = FeedFolder(world.mirror)
    old = held_versions(copy)
    world.follow()
    for path in segments(world.mirror):
        path.unlink()
    world.follow()
    answers = iter([old, held_versions(copy), held_versions(copy), []])
    (world.mirror / f"v1/{IMAGES}/{old[0].manifest}.manifest.json").unlink()
    found = list(ProofPass(copy, RecordInMemory(ProofRecord()), lambda _: None, world.clock).run(lambda: next(answers)))
    assert found == [[]]


def test_the_background_rests_nine_times_as_long_as_it_works() -> None:
    """Whatever the speed of the disk, and it stops at once when it is told to."""
    rests: list[float] = []
    times = iter([0.0, 0.02, 0.02, 5.0])

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            rests.append(round(timeout, 6))
            return len(rests) == 2

    pause = LowPriority(Stop(), lambda: next(times))
    pause(1)
    with pytest.raises(InterruptedPass):
        pause(1)
    assert rests == [0.18, 1.0]


def test_a_copy_that_this_process_may_not_write_is_proved_in_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The age of the pass is then this process's own, and nothing is written."""
    monkeypatch.setattr("syncd.matcher.reproof.os.access", lambda *_: False)
    world.clock.forward(hours=25)
    recorded = (world.mirror / "proof.json").read_bytes()
    (path,) = segments(world.mirror)
    damage(path, 4)
    with watched(world, None) as (matcher, told):
        told.errors.get(timeout=20)
        while matcher.status()[0].proved_at != world.clock():
            pass
    assert (world.mirror / "proof.json").read_bytes() == recorded


# --- syncd pull


@pytest.fixture
def at_its_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    use_clock(world.clock, monkeypatch)
    return world


def test_a_pull_with_check_mends_a_flipped_bit_before_it_says_up_to_date(at_its_clock: World) -> None:
    """Without --check only lengths are compared, and the help says so."""
    world = at_its_clock
    (path,) = segments(world.mirror)
    damage(path, 4)
    line = ("pull", world.url, "--root", world.root, "--dir", world.mirror)
    assert syncd(*line).out == "images is up to date: version 1\n"
    assert syncd("verify", world.mirror).code == 4
    assert syncd(*line, "--check").out == "images is up to date: version 1\n"
    assert syncd("verify", world.mirror).code == 0


def test_a_damaged_file_stays_until_its_replacement_is_here(at_its_clock: World) -> None:
    """The copy goes on answering for every other digest while the feed cannot be reached."""
    world = at_its_clock
    (path,) = segments(world.mirror)
    damage(path, 4)
    for held in segments(world.partner.root):
        held.unlink()
    ran = syncd("pull", world.url, "--root", world.root, "--dir", world.mirror, "--check")
    assert (ran.code, ran.out) == (5, "")
    matcher = Matcher.open(world.mirror, clock=world.clock)
    assert (hits(matcher, 4), hits(matcher, 5)) == ([], ["e5"])
    status = syncd("status", world.mirror)
    assert f"segment {path.name}: its content no longer matches the SHA-256 in its name" in status.err
    assert syncd("status", world.mirror, "--check").code == 2


def test_the_status_of_a_copy_says_when_its_files_were_proved(at_its_clock: World) -> None:
    """Its age is a warning from the ninth day, for those who run no --watch."""
    world = at_its_clock
    world.clock.forward(hours=5)
    assert "its files were all proved 5 hours ago\n" in syncd("status", world.mirror).out
    document = syncd("status", world.mirror, "--json").json["lists"][0]
    assert (document["proved_at"], document["damage"]) == ("2026-01-01T12:00:00Z", None)
    world.clock.forward(days=9)
    assert "its files were last proved 9 days ago" in syncd("status", world.mirror, "--check").out


def test_check_and_watch_exclude_each_other(at_its_clock: World) -> None:
    """A watching pull checks the copy itself."""
    world = at_its_clock
    ran = syncd("pull", world.url, "--root", world.root, "--dir", world.mirror, "--check", "--watch")
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: --check and --watch exclude each other")
