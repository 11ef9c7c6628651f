"""A copy answers from a newer version before it has folded its own segments, and folds them in the background."""

import threading
from pathlib import Path

import pytest

from syncd import files
from syncd.errors import StoreError, SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import ProofRecord, RecordInMemory
from syncd.feed.reproof import LowPriority, ProofPass
from syncd.feed.unfolded import stack_here
from syncd.fetch import Endpoint
from syncd.files import FreeSpace
from syncd.format.manifest import SegmentRef
from syncd.locks import lock
from syncd.matcher import Matcher, folding
from syncd.matcher.copy import HeldList, read_current
from syncd.matcher.folding import BackgroundFold, _FoldStep
from syncd.matcher.pull import FoldLater, PullResult, pull
from syncd.matcher.reproof import held_versions
from syncd.publish import author
from syncd.verify.copy import prove_copy
from world import IMAGES, World, row, rows


@pytest.fixture(autouse=True)
def _every_fold_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.feed.follow._LARGE", 0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A partner with a base and two deltas, pulled straight."""
    world = World(tmp_path)
    world.publish(full=rows(0, 600))
    world.publish(add=[row(900)], remove=[row(1)])
    world.publish(add=[row(901)])
    world.follow()
    return world


def fold_at_the_partner(world: World) -> None:
    author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)


def follow(world: World, fold_later: FoldLater = lambda _: True) -> PullResult:
    root = world.root.read_bytes()
    pulled = pull(Endpoint(world.url), root, world.mirror, now=world.clock(), deadline=20.0, fold_later=fold_later)
    assert not pulled.errors
    return pulled


def held(world: World) -> HeldList:
    current = read_current(FeedFolder(world.mirror))
    assert current is not None
    return current.lists[IMAGES]


def base_of(world: World) -> SegmentRef:
    return FeedFolder(world.mirror).manifest(IMAGES, held(world).manifest).stack[0]


def is_here(world: World, ref: SegmentRef) -> bool:
    return not FeedFolder(world.mirror).missing(IMAGES, [ref])


def answers(world: World) -> dict[int, bool]:
    matcher = Matcher.open(world.mirror, clock=world.clock)
    return {number: bool(world.hits(number, matcher)) for number in (0, 1, 900, 901, 902)}


def fold_step(world: World, errors: list[SyncdError]) -> _FoldStep:
    return _FoldStep(FeedFolder(world.mirror), errors.extend, lambda: world.clock().timestamp())


@pytest.fixture
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "LowPriority", lambda _stop: lambda _size: None)


def test_a_correction_does_not_wait_for_the_fold(world: World) -> None:
    """The version after a fold is current at once, with all its rows, and downloads nothing but its delta."""
    fold_at_the_partner(world)
    follow(world)
    world.publish(add=[row(902)], remove=[row(900)])
    pulled = follow(world)
    assert not is_here(world, base_of(world))
    assert list(held(world).unfolded) == [base_of(world).sha256]
    assert answers(world) == {0: True, 1: False, 900: False, 901: True, 902: True}
    assert pulled.bytes < base_of(world).length


def test_an_unfolded_copy_is_proved(world: World) -> None:
    """``verify`` and the daily proof read the inputs, whose rows give the signed end state."""
    fold_at_the_partner(world)
    world.publish(add=[row(902)])
    follow(world)
    for deep in (False, True):
        assert prove_copy(world.mirror, None, world.clock(), deep=deep).faults == ()
    copy, records = FeedFolder(world.mirror), RecordInMemory(ProofRecord())
    list(ProofPass(copy, records, lambda _: None, world.clock).run(lambda: held_versions(copy)))
    assert records.read().faults == ()


def test_a_damaged_input_is_found_by_the_daily_proof(world: World) -> None:
    fold_at_the_partner(world)
    follow(world)
    copy = FeedFolder(world.mirror)
    path = copy.segment_path(IMAGES, held(world).unfolded[base_of(world).sha256][0])
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    records = RecordInMemory(ProofRecord())
    list(ProofPass(copy, records, lambda _: None, world.clock).run(lambda: held_versions(copy)))
    assert [fault.segment for fault in records.read().faults] == [path.name.removesuffix(".arrow")]


@pytest.mark.usefixtures("_without_pauses")
def test_the_background_folds_to_the_signed_bytes(world: World) -> None:
    """After it the copy is what it would be without; the old base is removed a day later."""
    fold_at_the_partner(world)
    follow(world)
    inputs = held(world).unfolded[base_of(world).sha256]
    errors: list[SyncdError] = []
    fold_step(world, errors)()
    assert (errors, is_here(world, base_of(world))) == ([], True)
    assert answers(world)[901]
    follow(world)
    assert held(world).unfolded == {}
    world.publish(full=[*rows(2, 600), row(901)])
    world.clock.forward(hours=25)
    author.sign(world.partner, world.partner_signers(), world.clock())
    follow(world)
    world.clock.forward(hours=25)
    author.sign(world.partner, world.partner_signers(), world.clock())
    follow(world)
    assert not is_here(world, inputs[0])


def test_inputs_in_use_are_not_removed(world: World) -> None:
    """A copy that is never folded keeps what it reads, however long."""
    fold_at_the_partner(world)
    for _ in range(3):
        follow(world)
        world.clock.forward(hours=25)
        author.sign(world.partner, world.partner_signers(), world.clock())
    follow(world)
    assert answers(world)[901]


@pytest.mark.usefixtures("_without_pauses")
def test_a_fold_that_gives_other_bytes_is_downloaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fold_at_the_partner(world)
    follow(world)
    monkeypatch.setattr("syncd.feed.follow.fold", lambda *_: None)
    errors: list[SyncdError] = []
    step = fold_step(world, errors)
    step()
    step()
    assert [error.hint for error in errors] == ["the next pull downloads it instead; look-ups answer as before"]
    assert answers(world)[901]
    follow(world, lambda ref: ref.sha256 not in step.refused)
    assert is_here(world, base_of(world))
    assert held(world).unfolded == {}


def test_a_full_disk_is_reported_every_ten_minutes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report hastens a pull, and each pull wakes the thread: it must not go round and round."""
    fold_at_the_partner(world)
    follow(world)
    monkeypatch.setattr(FreeSpace, "at", lambda _folder: FreeSpace(free=0, reserve=0))
    errors: list[SyncdError] = []
    step = fold_step(world, errors)
    assert (step(), step()) == (600, 600)
    assert [type(error) for error in errors] == [StoreError]
    assert files.is_full(errors[0])  # type: ignore[arg-type]  # as the line above says
    assert answers(world)[901]
    world.clock.forward(minutes=11)
    step()
    assert len(errors) == 2


def test_one_process_folds(world: World) -> None:
    fold_at_the_partner(world)
    follow(world)
    errors: list[SyncdError] = []
    with lock(FeedFolder(world.mirror).work / "fold.lock", "folding segments"):
        fold_step(world, errors)()
    assert (errors, is_here(world, base_of(world))) == ([], False)


def test_closing_ends_a_fold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no file behind, and the copy answers as before."""
    fold_at_the_partner(world)
    follow(world)
    began = threading.Event()

    def patient(stop: threading.Event) -> object:
        pause = LowPriority(stop)

        def rest(size: int) -> None:
            began.set()
            stop.wait(60)
            pause(size)

        return rest

    monkeypatch.setattr(folding, "LowPriority", patient)
    errors: list[SyncdError] = []
    folds = BackgroundFold(world.mirror, errors.extend)
    folds.wake()
    assert began.wait(60)
    folds.close()
    assert not is_here(world, base_of(world))
    assert [path.name for path in FeedFolder(world.mirror).downloads.iterdir()] == []
    assert (errors, answers(world)[901]) == ([], True)


def test_what_current_json_says_of_inputs_must_be_signed(world: World) -> None:
    """Inputs that the signed manifest does not name for a segment take its place nowhere."""
    fold_at_the_partner(world)
    follow(world)
    copy = FeedFolder(world.mirror)
    manifest = copy.manifest(IMAGES, held(world).manifest)
    inputs = held(world).unfolded[manifest.stack[0].sha256]
    assert stack_here(copy, manifest, held(world).unfolded) == inputs
    assert stack_here(copy, manifest, {manifest.stack[0].sha256: inputs[:-1]}) == manifest.stack


@pytest.mark.usefixtures("_without_pauses")
def test_the_next_fold_needs_no_download(world: World) -> None:
    """A second fold, before the first was made here, is made of the same inputs."""
    fold_at_the_partner(world)
    follow(world)
    world.publish(add=[row(902)])
    follow(world)
    fold_at_the_partner(world)
    pulled = follow(world)
    assert pulled.bytes < base_of(world).length
    assert answers(world) == {0: True, 1: False, 900: True, 901: True, 902: True}
    fold_step(world, [])()
    assert is_here(world, base_of(world))
