"""Compaction: stacks stay short, and what they say stays the same."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import StoreError
from syncd.feed.signed import load_repository
from syncd.files import sha256_file
from syncd.format.manifest import Fold, Manifest, SegmentRef
from syncd.format.writer import fold
from syncd.model import Algorithm
from syncd.outcomes import Outcome
from syncd.publish import author
from syncd.publish import compact as compaction
from syncd.publish.change import _useful_folds
from syncd.publish.compact import run_to_fold
from world import IMAGES, World, row, rows


def ref(number: int, size: int, kind: Literal["base", "delta"] = "delta") -> SegmentRef:
    return SegmentRef(
        sha256=f"{number:064x}",
        length=size,
        algorithm=Algorithm.MD5,
        kind=kind,
        rows=size,
        removals=0,
    )


def stack(*sizes: int, base: int = 1_000_000) -> list[SegmentRef]:
    return [ref(0, base, "base"), *(ref(number, size) for number, size in enumerate(sizes, 1))]


def test_few_deltas_are_left_alone() -> None:
    """Folding costs reading and writing: seven deltas are not worth it."""
    assert run_to_fold(stack(*[10] * 7)) == ()


def test_eight_deltas_of_a_size_are_folded_together() -> None:
    """Young deltas become one; the base is not touched."""
    assert run_to_fold(stack(*[10] * 8)) == tuple(stack(*[10] * 8)[1:])


def test_a_large_old_delta_stays_out_of_the_run() -> None:
    """A row is rewritten a logarithmic number of times, not at each fold."""
    assert run_to_fold(stack(100_000, *[10] * 8)) == tuple(stack(100_000, *[10] * 8)[2:])


def test_deltas_of_an_eighth_of_the_base_make_a_new_base() -> None:
    """The overlay that look-ups consult stays small beside the list."""
    refs = stack(*[10] * 8, base=640)
    assert run_to_fold(refs) == tuple(refs)


@settings(max_examples=200)
@given(sizes=st.lists(st.integers(1, 1000), max_size=300))
def test_stacks_stay_short_and_rows_are_seldom_rewritten(sizes: list[int]) -> None:
    """However deltas come, a stack keeps under 24 segments, and each row is written a few times."""
    refs = stack(base=10_000_000)
    written = 0
    for number, size in enumerate(sizes, 1):
        refs.append(ref(number, size))
        run = run_to_fold(refs)
        if run:
            rows_in_run = sum(one.rows for one in run)
            written += rows_in_run
            refs = [*refs[: len(refs) - len(run)], ref(1000 + number, rows_in_run)]
        assert len(refs) <= 24
    assert written <= 8 * sum(sizes)


def current(world: World) -> Manifest:
    repository = load_repository(world.partner)
    found = author.open_list(world.partner, repository, IMAGES)
    assert found is not None
    return found.manifest


def test_a_row_that_comes_and_goes_survives_folding(world: World) -> None:
    """The same delta twice is the same file twice in a stack; folding goes by place, not by name."""
    world.publish(full=rows(0, 2000))
    world.publish(add=[row(5000)])
    world.publish(add=rows(3000, 3200), remove=[row(5000)])
    world.publish(add=[row(5000)])
    for number in range(7000, 7008):
        world.publish(add=[row(number)])
    world.sync()
    world.pull()
    assert current(world).rows == 2000 + 1 + 200 + 8
    assert all(world.hits(number) for number in (0, 3000, 5000, 7000, 7007))
    world.publish(remove=[row(5000)])
    manifest = author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    assert manifest is not None
    assert [one.kind for one in manifest.stack] == ["base"]
    world.sync()
    world.pull()
    assert [bool(world.hits(number)) for number in (5000, 7007)] == [False, True]


def test_folding_back_to_the_same_bytes_is_no_fault(world: World) -> None:
    """A list that came back to what it was folds to the base it had."""
    world.publish(full=rows(0, 50))
    before = current(world).stack
    world.publish(add=[row(99)])
    world.publish(remove=[row(99)])
    author.compact(world.partner, IMAGES, world.partner_signers(), world.clock(), everything=True)
    assert current(world).stack == before
    assert current(world).folds == ()
    assert world.sync().exit_code == 0


def test_a_segment_that_the_disk_damaged_is_not_the_partners_fault(world: World) -> None:
    """The sync that meets it repairs it from the partner's feed, and rejects nothing."""
    world.publish(full=rows(0, 40))
    for number in range(100, 108):
        assert world.sync().exit_code == 0
        world.publish(add=[row(number)])
    base = max(world.state.feed.path("v1/iwf.images/segments").iterdir(), key=lambda path: path.stat().st_size)
    content = base.read_bytes()
    base.chmod(0o600)
    with base.open("r+b") as stream:
        stream.seek(content.index(b"e1e2"))  # entries lie one after the other
        stream.write(b"x")
    outcome = world.sync()
    assert (outcome.exit_code, outcome.outcome, outcome.lists[0].error) == (0, Outcome.PUBLISHED, None)
    assert all(sha256_file(path) == path.stem for path in base.parent.glob("*.arrow"))


def test_recipes_never_go_in_circles() -> None:
    """A fold whose output is made of itself is of no use to anybody."""
    there = Fold(output="b" * 64, inputs=("a" * 64, "c" * 64))
    back = Fold(output="a" * 64, inputs=("b" * 64, "d" * 64))
    assert _useful_folds([there, back], [ref(0xA, 1).model_copy(update={"sha256": "a" * 64})]) == (there,)


def test_a_damaged_delta_is_not_folded_into_a_sound_one(world: World) -> None:
    """A row that the disk changed must not go out under a new hash: it would accuse whoever has that digest."""
    world.publish(full=rows(0, 400))
    for number in range(1000, 1007):
        world.publish(add=[row(number)])
    path = world.partner.segment_path(IMAGES, current(world).stack[3])
    digest = bytes.fromhex(row(1002)[1])
    content = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(content.replace(digest, digest[:-1] + bytes([digest[-1] ^ 1])))
    with pytest.raises(StoreError, match="does not give its end state"):
        world.publish(add=[row(1007)])
    assert [one.kind for one in current(world).stack] == ["base", *["delta"] * 8]


def test_a_fold_that_loses_a_row_is_found_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fold left out is looked for as well: nobody else would miss it."""
    world.publish(full=rows(0, 400))
    for number in range(1000, 1007):
        world.publish(add=[row(number)])
    monkeypatch.setattr(compaction, "fold", lambda inputs, kind, path: fold(inputs[:-1], kind, path))
    with pytest.raises(StoreError, match="does not give its end state"):
        world.publish(add=[row(1007)])
