"""Near matches in a copy: what a comparison of all rows finds, whether or not there is an index."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from command_line import syncd
from syncd.errors import AlgorithmNotHeld, RefusedError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.format import hamming, near, near_index
from syncd.format.derived import index_path
from syncd.matcher import Matcher, NearHit, VideoRule
from syncd.matcher.indexing import make_indexes, segments_of
from syncd.matcher.near import NearMatching
from syncd.matcher.reproof import prove_now
from syncd.model import Digest
from syncd.operate import suppressions
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.publish import author
from world import IMAGES, Clock, World

BASE = int.from_bytes(np.random.default_rng(7).bytes(32), "big")


def pdq(*bits: int) -> bytes:
    """Return a digest that differs in some bits from the first one."""
    value = BASE
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(32, "big")


def row(digest: bytes, entry: str, label: str = "A1") -> tuple[str, str, str, str]:
    """Return a row of a list file."""
    return "pdq", digest.hex(), entry, label


@pytest.fixture(autouse=True)
def _index_short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else only lists of 32,768 rows have one."""
    monkeypatch.setattr(near_index, "_WORTH_AN_INDEX", 1)
    monkeypatch.setattr("syncd.format.hamming.probe_count", lambda _count, _distance: 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A list of five images near each other and three that are not."""
    world = World(tmp_path, Clock(datetime.now(UTC)))
    far = [np.random.default_rng(number).bytes(32) for number in range(3)]
    world.publish(
        full=[
            row(pdq(), "same"),
            row(pdq(), "same too", "B2"),
            row(pdq(1), "one"),
            row(pdq(*range(31)), "thirty-one"),
            row(pdq(*range(100, 132)), "thirty-two"),
            *(row(digest, f"far {number}") for number, digest in enumerate(far)),
        ]
    )
    world.follow()
    return world


@pytest.fixture(params=["index", "no index"])
def matcher(world: World, request: pytest.FixtureRequest) -> Iterator[Matcher]:
    """A matcher with an index, or none."""
    if request.param == "index":
        assert make_indexes(FeedFolder(world.mirror)) == 1
    with Matcher.open(world.mirror) as matcher:
        matcher._matching._missing = lambda: None
        assert matcher.status()[0].near_indexed is (request.param == "index")
        yield matcher


def entries(hits: list[NearHit]) -> list[tuple[str, int]]:
    """Return entry and distance of each hit."""
    return [(hit.entry, hit.distance) for hit in hits]


def test_all_within_the_distance_are_found_nearest_first(matcher: Matcher) -> None:
    """31 bits by default; the listed digest is told, and not shown."""
    hits = matcher.near("pdq", pdq())
    assert entries(hits) == [("same", 0), ("same too", 0), ("one", 1), ("thirty-one", 31)]
    assert hits[2] == NearHit(IMAGES, 1, "one", "A1", 1, pdq(1))
    assert pdq(1).hex() not in repr(hits)
    assert "\\x" not in repr(hits)
    assert entries(matcher.near("pdq", pdq().hex(), 32))[-1] == ("thirty-two", 32)
    assert entries(matcher.near("pdq", pdq(), 0)) == [("same", 0), ("same too", 0)]
    assert matcher.near("pdq", pdq(*range(200, 240)), 31) == []


def test_a_batch_gives_the_answers_of_its_digests(matcher: Matcher) -> None:
    """In any of the shapes of `lookup_many`."""
    asked = [pdq(), pdq(*range(200, 240)), pdq(1)]
    expected = [matcher.near("pdq", one) for one in asked]
    assert matcher.near_many("pdq", asked) == expected
    array = np.frombuffer(b"".join(asked), np.uint8).reshape(3, 32)
    assert matcher.near_many("pdq", array) == expected
    assert matcher.near_many("pdq", []) == []


def test_what_deltas_add_and_remove_counts_at_once(world: World, matcher: Matcher) -> None:
    """Added rows are found without an index, removed ones are not; other entries of a digest stay."""
    world.publish(add=[row(pdq(2), "two")], remove=[row(pdq(), "same"), row(pdq(1), "one")])
    world.follow()
    assert matcher.reload()
    assert entries(matcher.near("pdq", pdq())) == [("same too", 0), ("two", 1), ("thirty-one", 31)]


def test_a_suppressed_digest_is_not_found_from_the_next_pull_on(world: World) -> None:
    """However near it is, and although its row is still in the indexed base."""
    world.sync()
    world.pull()
    assert make_indexes(FeedFolder(world.copy)) == 1
    with Matcher.open(world.copy) as matcher:
        order = SuppressionOrder((Correction(Digest.parse(f"pdq:{pdq(1).hex()}")),), "innocent file")
        with world.publisher() as publisher:
            suppressions.suppress(publisher, order, actor="alice", now=world.clock())
        world.pull()
        matcher.reload()
        assert entries(matcher.near("pdq", pdq())) == [("same", 0), ("same too", 0), ("thirty-one", 31)]
        assert matcher.status()[0].near_indexed


def test_many_added_rows_are_found_by_a_table_in_memory(
    world: World, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing all of them would take too long."""
    monkeypatch.setattr(near, "_WORTH_A_TABLE", 1)
    world.publish(add=[row(pdq(2), "two"), row(pdq(1), "one again")])
    world.follow()
    matcher.reload()
    found = [("same", 0), ("same too", 0), ("one", 1), ("one again", 1), ("two", 1), ("thirty-one", 31)]
    assert entries(matcher.near("pdq", pdq())) == found


def test_each_list_may_have_a_largest_distance(world: World) -> None:
    """A call does not exceed it."""
    some: tuple[dict[str, int] | int, ...] = (0, {str(IMAGES): 0}, {"": 0})
    for farthest in some:
        with Matcher.open(world.mirror, farthest=farthest) as matcher:
            assert entries(matcher.near("pdq", pdq())) == [("same", 0), ("same too", 0)]
    with Matcher.open(world.mirror, farthest={"other": 0}) as matcher:
        assert len(matcher.near("pdq", pdq())) == 4
    with pytest.raises(UsageError, match="a distance of 64 is not possible"):
        Matcher.open(world.mirror, farthest=64)


@pytest.mark.parametrize("distance", [-1, 64, 3.0, "31", True])
def test_a_distance_is_a_number_of_bits(matcher: Matcher, distance: object) -> None:
    """From 0 to 63."""
    with pytest.raises(UsageError, match="is not possible"):
        matcher.near("pdq", pdq(), distance)  # type: ignore[arg-type]


def test_wrong_look_ups_are_refused_without_a_digest(matcher: Matcher) -> None:
    """Other algorithms, algorithms that no list holds, wrong widths and names, swapped arguments."""
    text = pdq().hex()
    for call in (
        lambda: matcher.near("sha256", pdq()),
        lambda: matcher.near(text, "pdq"),
        lambda: matcher.near("pdq", pdq()[:31]),
        lambda: matcher.near("pdq", pdq(), lists=["absent"]),
        lambda: matcher.near_many("pdq", [b"x"]),
        lambda: matcher.near(["pdq"], pdq()),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert text not in str(raised.value) + raised.value.hint
    with pytest.raises(AlgorithmNotHeld):
        matcher.near("vpdq", bytes(33))


def test_a_damaged_index_is_thrown_away_and_made_again(world: World) -> None:
    """No match is missing meanwhile."""
    copy = FeedFolder(world.mirror)
    make_indexes(copy)
    (path,) = (world.mirror / "indexes").iterdir()
    sound = path.read_bytes()
    damaged = bytearray(sound)
    for at in range(4096, 4 << 20, 512):
        damaged[at] ^= 255
    path.unlink()
    path.write_bytes(damaged)
    started: list[None] = []
    with Matcher.open(world.mirror) as matcher:
        matcher._matching = NearMatching(world.mirror, missing=lambda: started.append(None))
        assert len(matcher.near("pdq", pdq())) == 4
        assert started
        assert not path.exists()
        assert make_indexes(copy) == 1
        assert path.read_bytes() == sound
        matcher._matching._looked.clear()
        assert len(matcher.near("pdq", pdq())) == 4
        assert matcher.status()[0].near_indexed


def test_the_first_look_up_has_the_index_made_in_the_background(world: World) -> None:
    """By a process that may write; a look-up does not wait for it."""
    with Matcher.open(world.mirror) as matcher:
        assert len(matcher.near("pdq", pdq())) == 4
        thread = matcher._indexing._thread
        assert thread is not None
        thread.join(60)
        assert matcher.status()[0].near_indexed
        matcher._matching._looked.clear()
        assert len(matcher.near("pdq", pdq())) == 4
        assert matcher._matching._tables


def test_one_process_makes_the_index_and_nobody_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile near look-ups compare all rows, exact ones answer, and another process does not make it too."""
    begun, go_on = threading.Event(), threading.Event()

    def pause(_stop: threading.Event) -> Callable[[int], None]:
        def wait(_size: int) -> None:
            begun.set()
            assert go_on.wait(60)

        return wait

    monkeypatch.setattr("syncd.matcher.indexing.LowPriority", pause)
    with Matcher.open(world.mirror) as first, Matcher.open(world.mirror) as second:
        try:
            assert len(first.near("pdq", pdq())) == 4
            assert begun.wait(60)
            assert len(second.near("pdq", pdq())) == 4
            assert second._indexing._thread is not None
            second._indexing._thread.join(60)
            assert isinstance(second._indexing.last_error, RefusedError)
            for matcher in (first, second):
                assert len(matcher.near("pdq", pdq())) == 4
                assert len(matcher.lookup("pdq", pdq())) == 2
                assert matcher.status()[0].near_indexed is False
        finally:
            go_on.set()
        assert first._indexing._thread is not None
        first._indexing._thread.join(60)
        for matcher in (first, second):
            matcher._matching._looked.clear()
            assert len(matcher.near("pdq", pdq())) == 4
            assert matcher.status()[0].near_indexed
            assert matcher._matching._tables


def test_a_damaged_index_that_may_not_be_removed_is_not_used_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process that only reads: its status says that all rows are compared, until there is another file."""
    make_indexes(FeedFolder(world.mirror))
    (path,) = (world.mirror / "indexes").iterdir()
    sound = path.read_bytes()
    path.unlink()
    path.write_bytes(sound[:4096] + bytes(len(sound) - 4096 - 8192) + sound[-8192:])
    with Matcher.open(world.mirror, make_indexes=False) as matcher:
        assert matcher.status()[0].near_indexed
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", _refuse)
            assert len(matcher.near("pdq", pdq())) == 4
        matcher._matching._looked.clear()
        assert matcher.status()[0].near_indexed is False
        assert len(matcher.near("pdq", pdq())) == 4
        assert path.exists()
        path.unlink()
        path.write_bytes(sound)
        matcher._matching._looked.clear()
        assert matcher.status()[0].near_indexed
        assert len(matcher.near("pdq", pdq())) == 4


def _refuse(path: Path, **_: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_an_index_is_named_after_its_segment(world: World) -> None:
    """Below ``indexes``; making it twice makes nothing."""
    copy = FeedFolder(world.mirror)
    assert make_indexes(copy) == 1
    assert make_indexes(copy) == 0
    ((_, ref),) = segments_of(copy)
    length = index_path(world.mirror, ref.sha256, "near").stat().st_size
    assert 0 <= near_index.index_length(ref) - length < 1 << 14  # the room that is checked before


def test_a_pull_makes_the_index_and_removes_those_of_segments_that_are_gone(world: World) -> None:
    """By default; a fault of the disk costs only speed."""
    arguments = ["pull", world.url, "--root", str(world.root), "--dir", str(world.mirror)]
    assert syncd(*arguments, "--no-near-indexes").code == 0
    assert not (world.mirror / "indexes").exists()
    (world.mirror / "indexes").write_text("in the way")
    assert "near look-ups compare all rows" in syncd(*arguments).err
    (world.mirror / "indexes").unlink()
    assert syncd(*arguments).code == 0
    ((_, sha256),) = _segments(world)
    assert [path.name for path in (world.mirror / "indexes").iterdir()] == [f"{sha256}.near"]
    stray = world.mirror / "indexes" / f"{'0' * 64}.near"
    stray.write_bytes(b"")
    world.follow()
    assert not stray.exists()


def test_a_fold_of_an_indexed_list_is_indexed_before_it_is_read(world: World) -> None:
    """So near look-ups never go back to comparing all rows."""
    make_indexes(FeedFolder(world.mirror))
    world.publish(add=[row(pdq(2), "two")])
    author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    world.follow()
    folded = [sha256 for _, sha256 in _segments(world) if (world.mirror / "indexes" / f"{sha256}.near").exists()]
    assert len(folded) == 2
    with Matcher.open(world.mirror) as matcher:
        assert matcher.status()[0].near_indexed
        assert ("two", 1) in entries(matcher.near("pdq", pdq()))


def test_a_damaged_index_is_found_by_the_daily_proof_and_by_verify(world: World) -> None:
    """The former removes it; it is made again."""
    copy = FeedFolder(world.mirror)
    make_indexes(copy)
    ran = syncd("verify", world.mirror)
    assert ran.code == 0
    assert "unknown file" not in ran.out + ran.err
    (path,) = (world.mirror / "indexes").iterdir()
    sound = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(sound[:5000] + bytes([sound[5000] ^ 1]) + sound[5001:])
    ran = syncd("verify", world.mirror)
    assert ran.code == 4
    assert "is not the index that its segment gives" in ran.out + ran.err
    prove_now(copy, lambda _: None, world.clock)
    assert not path.exists()
    assert syncd("verify", world.mirror).code == 0


def test_verify_finds_an_index_whose_checksums_are_sound_and_whose_rows_are_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made by another program, or by a bug: `verify` derives it again."""
    with monkeypatch.context() as patched:
        right = hamming.table_parts
        patched.setattr(
            near_index,
            "table_parts",
            lambda *given: ((directory, np.roll(some, 1)) for directory, some in right(*given)),
        )
        assert make_indexes(FeedFolder(world.mirror)) == 1
    ran = syncd("verify", world.mirror)
    assert (ran.code, "is not the index that its segment gives" in ran.out + ran.err) == (4, True)
    (path,) = (world.mirror / "indexes").iterdir()
    path.unlink()
    assert make_indexes(FeedFolder(world.mirror)) == 1
    assert syncd("verify", world.mirror).code == 0


def test_the_command_makes_no_index_and_says_that_it_compared_all_rows(world: World) -> None:
    """It would end before the index is made."""
    before = set(threading.enumerate())
    ran = syncd("near", world.mirror, f"pdq:{pdq().hex()}")
    assert ran.code == 0
    assert f"{IMAGES} has no index for near look-ups: all rows were compared" in ran.err
    assert "syncd pull makes it" in ran.err
    assert not (world.mirror / "indexes").exists()
    assert set(threading.enumerate()) <= before
    make_indexes(FeedFolder(world.mirror))
    assert "compared" not in syncd("near", world.mirror, f"pdq:{pdq().hex()}").err


def test_the_command_finds_what_the_matcher_finds(world: World) -> None:
    """It shows the listed digest only if it is asked to."""
    make_indexes(FeedFolder(world.mirror))
    asked = f"pdq:{pdq().hex()}"
    out = syncd("near", world.mirror, asked, "--distance", "1").out
    assert out.splitlines()[-1] == f"{asked}  NEAR {IMAGES} version 1  distance 1  label A1  entry one"
    assert pdq(1).hex() not in out
    (answer,) = syncd("near", world.mirror, asked, "--json", "--show-listed").json["digests"]
    assert [(hit["entry"], hit["distance"]) for hit in answer["hits"]][-1] == ("thirty-one", 31)
    assert answer["hits"][2]["digest"] == pdq(1).hex()
    assert syncd("near", world.mirror, f"pdq:{pdq(*range(200, 240)).hex()}").code == 10
    assert syncd("near", world.mirror, asked, "--distance", "64").code == 2
    assert syncd("near", world.mirror, f"md5:{'0' * 32}").code == 2


def test_a_video_matches_by_its_frames(world: World) -> None:
    """Enough frames of both, of enough quality; the best first."""
    other = [np.random.default_rng(number).bytes(32) for number in range(20, 30)]
    frames = [pdq(number) for number in range(5)]
    listed = [(digest, 90, "video 1") for digest in frames] + [(digest, 90, "video 1") for digest in other[:5]]
    listed += [(digest, 90, "video 2") for digest in frames[:4]] + [(frames[4], 10, "video 2")]
    world.publish(add=[("vpdq", (digest + bytes([quality])).hex(), entry, "B") for digest, quality, entry in listed])
    world.follow()
    with Matcher.open(world.mirror) as matcher:
        asked = [(pdq(number, 200), 80) for number in range(5)] + [(other[9], 20)]
        hits = matcher.match_video(asked)
        assert [(hit.entry, hit.asked_share, hit.listed_share) for hit in hits] == [
            ("video 2", 1.0, 1.0),
            ("video 1", 1.0, 0.5),
        ]
        assert [hit.entry for hit in matcher.match_video(asked, VideoRule(listed_share=0.6))] == ["video 2"]
        assert matcher.match_video([(other[9], 90)]) == []
        assert matcher.match_video([(frames[0], 49)]) == []
        for wrong in ([(b"x", 90)], [pdq()], [(pdq(), 101)]):
            with pytest.raises(UsageError, match="frame 1 is not a pair"):
                matcher.match_video(wrong)  # type: ignore[arg-type]
        for rule in ({"quality": 101}, {"asked_share": 2.0}, {"distance": 64}):
            with pytest.raises(UsageError, match="is not possible"):
                VideoRule(**rule)


def _segments(world: World) -> list[tuple[str, str]]:
    paths = (world.mirror / "v1" / IMAGES / "segments").iterdir()
    return [(IMAGES, path.stem) for path in paths]
