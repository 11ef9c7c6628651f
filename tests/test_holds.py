"""Holds, as stories: what waits, what goes live beside it, and how a hold ends.

Each step opens the state anew, as after a restart.
"""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from standing import open_holds, prove_feed, served, sync_list
from syncd.catalog.decisions import HoldState
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.feed.layout import target_name
from syncd.feed.signed import load_repository
from syncd.operate.backup import backup
from syncd.operate.holds import end_hold
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.result import Settled
from syncd.publish import author
from syncd.publish.publication import Proposal
from syncd.verify.state import prove_state
from world import HEAD, World, row, rows

RESIGN = Proposal[None]("resign")
ALL = frozenset(range(30))
"""The numbers on the list that stands."""
EMPTIED, FORKED = (HoldReason.EMPTIED,), (HoldReason.FORKED,)


def state_of(world: World, number: int) -> HoldState:
    """How a hold stands."""
    with world.publisher() as publisher:
        hold = publisher.catalog.hold(number)
        assert hold is not None
        return hold.state


def end(world: World, number: int, *, release: bool) -> Settled:
    """Release or discard a hold some minutes later."""
    world.clock.forward(minutes=5)
    with world.publisher() as publisher:
        return end_hold(publisher, number, release=release, actor="alice", reason="asked them", now=world.clock())


def pass_days(world: World, days: int) -> None:
    """Let time pass; the partner goes on signing."""
    world.clock.forward(days=days)
    author.publisher(world.partner, world.partner_signers()).publish_fixed("signing", RESIGN, world.clock())


def segments(world: World) -> list[Path]:
    """The files of the list in the folder of its source."""
    return sorted(world.state.source("iwf").root.glob("v1/images/segments/*"))


def private(world: World) -> list[Path]:
    """Those of them that the feed does not have: what waits, is owed or was refused."""
    public = {path.name for path in world.state.feed.root.glob("v1/iwf.images/segments/*")}
    return [path for path in segments(world) if path.name not in public]


def release(world: World, number: int) -> Settled:
    """Release a hold."""
    return end(world, number, release=True)


def discard(world: World, number: int) -> Settled:
    """Discard a hold."""
    return end(world, number, release=False)


def covered(world: World) -> tuple[int, int]:
    """What the published manifest says: the serial that it was made from, and the newest that is in force wholly."""
    target = load_repository(world.state.feed).targets()[target_name(HEAD)]
    origin = world.state.feed.manifest(HEAD, target.sha256).origin
    assert origin is not None
    return origin.serial, origin.serial if origin.whole is None else origin.whole


@pytest.fixture
def emptied(standing: World) -> World:
    """The partner removed all 30 entries, and that is held."""
    standing.publish(remove=rows(0, 30))
    listed = sync_list(standing)
    assert (listed.outcome, listed.reasons, [one.lane for one in listed.opened]) == (
        Outcome.HELD,
        EMPTIED,
        [Lane.REMOVALS],
    )
    return standing


def fork_of(world: World, base: Path) -> World:
    """The partner as it goes on from here in another history."""
    base.mkdir()
    shutil.copytree(world.partner.root, base / "partner")
    for folder in (world.partner_keys, world.partner_offline):
        shutil.copytree(folder, base / folder.name)
    return World(base, world.clock)


def show(world: World, other: World) -> None:
    """Let the operator see the feed of another partner from now on."""
    shutil.rmtree(world.partner.root)
    shutil.copytree(other.partner.root, world.partner.root)


@pytest.fixture
def forked(standing: World, tmp_path: Path) -> tuple[World, World]:
    """The operator follows version 2, with number 40; the partner went on from version 1 to 3, with 50 and 51.

    Beside it lies the line that the operator follows.
    """
    fork = fork_of(standing, tmp_path / "fork")
    standing.publish(add=[row(40)])
    assert sync_list(standing).outcome is Outcome.PUBLISHED
    fork_of(standing, tmp_path / "line")
    fork.publish(add=[row(50)])
    fork.publish(add=[row(51)])
    show(standing, fork)
    return standing, fork


# emptied


@pytest.mark.on_both
def test_additions_flow_while_an_emptied_list_is_held(emptied: World) -> None:
    """They are served; the removals wait; a release removes exactly those that waited."""
    assert [(one.lane, one.rows, one.reasons) for one in open_holds(emptied)] == [(Lane.REMOVALS, 30, EMPTIED)]
    assert served(emptied) == ALL
    emptied.publish(add=[row(40), row(41)])
    listed = sync_list(emptied)
    assert (listed.outcome, listed.version, listed.opened) == (Outcome.HELD, 2, ())
    assert served(emptied) == ALL | {40, 41}
    settled = release(emptied, 1)
    assert (settled.changes_head, settled.released, settled.reasons) == (True, 30, ())
    assert [(one.id, one.state, one.ended_by, one.ended_reason) for one in settled.ended] == [
        (1, HoldState.RELEASED, "alice", "asked them")
    ]
    assert served(emptied) == {40, 41}
    assert sync_list(emptied).outcome is Outcome.UP_TO_DATE
    prove_feed(emptied)


def test_the_manifest_says_which_serial_is_in_force_only_in_part_until_the_release(emptied: World) -> None:
    """Over several serials it names the last one before the hold; a release of all that waits makes it whole again."""
    assert covered(emptied) == (1, 1), "nothing of serial 2 is in force, and there is no version of it"
    sync_list(emptied, add=[row(40)])
    assert covered(emptied) == (3, 1)
    sync_list(emptied, add=[row(41)])
    assert covered(emptied) == (4, 1)
    release(emptied, 1)
    assert covered(emptied) == (4, 4)
    sync_list(emptied, add=[row(42)])
    assert covered(emptied) == (5, 5)
    prove_feed(emptied)


def test_a_serial_with_refused_rows_is_in_force_only_in_part(emptied: World) -> None:
    """Until the partner has put them all back: the list differs from the partner's, though nothing waits."""
    discard(emptied, 1)
    assert sync_list(emptied, add=[row(40)]).outcome is Outcome.PUBLISHED
    assert covered(emptied) == (3, 1)
    sync_list(emptied, add=rows(0, 29))
    sync_list(emptied, add=[row(41)])
    assert covered(emptied) == (5, 1), "one row is refused yet"
    sync_list(emptied, add=rows(29, 30))
    sync_list(emptied, add=[row(42)])
    assert covered(emptied) == (7, 7)
    prove_feed(emptied)


def test_a_list_that_was_emptied_goes_on_after_the_release(emptied: World) -> None:
    """As any other."""
    release(emptied, 1)
    assert served(emptied) == frozenset()
    emptied.publish(add=rows(40, 43))
    assert sync_list(emptied).outcome is Outcome.PUBLISHED
    assert served(emptied) == {40, 41, 42}
    emptied.publish(remove=[row(40)])
    assert sync_list(emptied).outcome is Outcome.PUBLISHED
    assert served(emptied) == {41, 42}


@pytest.mark.on_both
def test_a_hold_that_the_partner_takes_back_is_withdrawn(emptied: World) -> None:
    """The list goes on, and the number can be released no more."""
    emptied.publish(add=rows(0, 30))
    listed = sync_list(emptied)
    assert (listed.outcome, [(one.id, one.state) for one in listed.ended]) == (
        Outcome.UP_TO_DATE,
        [(1, HoldState.WITHDRAWN)],
    )
    with pytest.raises(RefusedError, match=r"hold 1 of iwf\.images was withdrawn already"):
        release(emptied, 1)
    emptied.publish(remove=[row(3)])
    assert sync_list(emptied).outcome is Outcome.PUBLISHED
    assert served(emptied) == ALL - {3}


def test_small_later_deltas_release_nothing(emptied: World) -> None:
    """Nor does time: though after them the list would not be emptied any more, what was held waits."""
    for number in range(40, 43):
        emptied.publish(add=[row(number)])
        assert sync_list(emptied).outcome is Outcome.HELD
    emptied.publish(remove=[row(40)])
    listed = sync_list(emptied)
    assert (listed.outcome, [one.lane for one in listed.opened]) == (Outcome.HELD, [Lane.REMOVALS])
    pass_days(emptied, 3)
    assert sync_list(emptied).outcome is Outcome.HELD
    assert served(emptied) == ALL | {40, 41, 42}
    assert [(one.id, one.rows) for one in open_holds(emptied)] == [(1, 30), (2, 1)]


def test_a_release_takes_along_what_passes_without_it(emptied: World) -> None:
    """What joined the lane later is judged on its own; here nothing is suspicious about it."""
    emptied.publish(add=rows(40, 50))
    sync_list(emptied)
    emptied.publish(remove=[row(40)])
    sync_list(emptied)
    settled = release(emptied, 1)
    assert [(one.id, one.state) for one in settled.ended] == [(1, HoldState.RELEASED), (2, HoldState.PASSED)]
    assert served(emptied) == frozenset(range(41, 50))
    assert open_holds(emptied) == ()


@pytest.mark.on_both
def test_a_release_applies_only_what_is_still_wanted(emptied: World) -> None:
    """The partner put some of it back meanwhile."""
    emptied.publish(add=rows(0, 10))
    assert sync_list(emptied).outcome is Outcome.HELD
    settled = release(emptied, 1)
    assert settled.released == 20
    assert served(emptied) == frozenset(range(10))


@pytest.mark.on_both
def test_discarded_rows_stay_and_hold_no_more(emptied: World) -> None:
    """The list goes on without exit code 3; who refused them, and why, is kept."""
    settled = discard(emptied, 1)
    assert (settled.changes_head, settled.released) == (False, 30)
    emptied.publish(add=[row(40)])
    assert sync_list(emptied).outcome is Outcome.PUBLISHED
    assert served(emptied) == ALL | {40}
    with emptied.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
    assert (hold.state, hold.ended_by, hold.ended_reason) == (HoldState.DISCARDED, "alice", "asked them")
    nothing_new = sync_list(emptied)
    assert (nothing_new.outcome, nothing_new.rows) == (Outcome.UP_TO_DATE, 31), "rows of the list that is served"
    prove_feed(emptied)


def test_a_refused_row_is_judged_again_once_the_partner_changes_it(emptied: World) -> None:
    """Put back, it is as everybody has it; removed once more, it goes as any removal."""
    discard(emptied, 1)
    emptied.publish(add=[row(3)])
    assert sync_list(emptied).outcome is Outcome.UP_TO_DATE
    emptied.publish(remove=[row(3)])
    assert sync_list(emptied).outcome is Outcome.PUBLISHED
    assert served(emptied) == ALL - {3}
    assert state_of(emptied, 1) is HoldState.DISCARDED


def test_nothing_is_refused_any_more_once_the_partner_changed_all_of_it(emptied: World) -> None:
    """The hold is no longer listed."""
    discard(emptied, 1)
    emptied.publish(add=rows(0, 30))
    assert [(one.id, one.state) for one in sync_list(emptied).ended] == [(1, HoldState.WITHDRAWN)]


@pytest.mark.on_both
def test_what_was_discarded_can_be_released_after_all(emptied: World) -> None:
    """Exactly that."""
    discard(emptied, 1)
    emptied.publish(add=[row(40)])
    sync_list(emptied)
    assert release(emptied, 1).released == 30
    assert served(emptied) == {40}
    assert state_of(emptied, 1) is HoldState.RELEASED


@pytest.mark.on_both
@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, False)])
def test_a_hold_is_ended_once(emptied: World, first: bool, then: bool) -> None:
    """The second is refused, and changes nothing."""
    end(emptied, 1, release=first)
    before = served(emptied)
    with pytest.raises(RefusedError, match=r"hold 1 of iwf\.images was (released|discarded) already by alice") as told:
        end(emptied, 1, release=then)
    assert told.value.exit_code == 6
    assert served(emptied) == before


@pytest.mark.on_both
def test_the_loser_of_a_race_for_a_hold_learns_who_won(emptied: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two operators end it at once: the second changes nothing, and is shown what the first did."""
    settle = Publisher.settle

    def overtaken(publisher: Publisher, *arguments: Any) -> Settled:
        monkeypatch.setattr(Publisher, "settle", settle)
        release(emptied, 1)
        return settle(publisher, *arguments)

    monkeypatch.setattr(Publisher, "settle", overtaken)
    with pytest.raises(RefusedError, match=r"hold 1 of iwf\.images was released already by alice") as refused:
        discard(emptied, 1)
    assert refused.value.hint.endswith("nothing was changed")


@pytest.mark.parametrize(
    ("number", "reason", "words"), [(7, "why", "there is no hold 7"), (1, " ", "a reason is needed")]
)
def test_a_hold_that_is_none_and_a_reason_that_is_none(emptied: World, number: int, reason: str, words: str) -> None:
    """Are told as such."""
    with emptied.publisher() as publisher, pytest.raises(UsageError, match=words):
        end_hold(publisher, number, release=True, actor="alice", reason=reason, now=emptied.clock())


# forked


def test_a_fork_is_held_once_and_what_follows_it_waits_with_it(forked: tuple[World, World]) -> None:
    """Without being fetched; the release moves to the fork, and its later deltas go on."""
    world, fork = forked
    listed = sync_list(world)
    assert (listed.outcome, listed.reasons, [one.lane for one in listed.opened]) == (Outcome.HELD, FORKED, [Lane.BOTH])
    assert sync_list(world).outcome is Outcome.HELD
    fork.publish(add=[row(52)])
    show(world, fork)
    shutil.rmtree(world.partner.path("v1/images/segments"))  # so that fetching any would fail
    listed = sync_list(world)
    assert (listed.outcome, listed.opened) == (Outcome.HELD, ())
    show(world, fork)
    assert served(world) == ALL | {40}
    assert release(world, 1).changes_head
    assert served(world) == ALL | {50, 51}
    assert sync_list(world).plan == "deltas"
    assert served(world) == ALL | {50, 51, 52}
    assert open_holds(world) == ()
    prove_feed(world)


def test_a_discarded_fork_is_not_held_again_but_a_newer_one_is(forked: tuple[World, World]) -> None:
    """That very version is refused; the next is compared with what was held before the fork."""
    world, fork = forked
    sync_list(world)
    assert not discard(world, 1).changes_head
    assert sync_list(world).outcome is Outcome.UP_TO_DATE
    fork.publish(add=[row(52)])
    show(world, fork)
    listed = sync_list(world)
    assert (listed.outcome, [one.id for one in listed.opened]) == (Outcome.HELD, [2])
    assert served(world) == ALL | {40}
    release(world, 2)
    assert served(world) == ALL | {50, 51, 52}
    assert state_of(world, 1) is HoldState.WITHDRAWN


def test_a_discarded_fork_can_be_released_after_all(forked: tuple[World, World]) -> None:
    """Also when a newer version of it waits, which then goes on as an ordinary update."""
    world, fork = forked
    sync_list(world)
    discard(world, 1)
    fork.publish(add=[row(52)])
    show(world, fork)
    sync_list(world)
    release(world, 1)
    assert served(world) == ALL | {50, 51}
    assert open_holds(world) == ()
    assert sync_list(world).outcome is Outcome.PUBLISHED
    assert served(world) == ALL | {50, 51, 52}


def test_a_fork_does_not_go_live_by_growing(forked: tuple[World, World]) -> None:
    """After more versions than a manifest names steps, which alone no longer shows that it is one."""
    world, fork = forked
    sync_list(world)
    for number in range(70):
        fork.publish(add=[row(1000 + number)])
    show(world, fork)
    listed = sync_list(world)
    assert (listed.outcome, listed.reasons) == (Outcome.HELD, FORKED)
    assert served(world) == ALL | {40}
    (hold,) = open_holds(world)
    assert release(world, hold.id).changes_head
    assert served(world) == ALL | {50, 51}
    assert len(world.hits(1069)) == 1


def test_a_partner_that_returns_to_the_line_withdraws_the_fork(forked: tuple[World, World], tmp_path: Path) -> None:
    """A newer version that descends from the one held is published, and the hold ends."""
    world, _ = forked
    sync_list(world)
    line = World(tmp_path / "line", world.clock)
    for number in (60, 61, 62):
        line.publish(add=[row(number)])
    show(world, line)
    listed = sync_list(world)
    assert (listed.outcome, [(one.id, one.state) for one in listed.ended]) == (
        Outcome.PUBLISHED,
        [(1, HoldState.WITHDRAWN)],
    )
    assert served(world) == ALL | {40, 60, 61, 62}


@pytest.mark.on_both
def test_a_discarded_fork_ends_when_the_partner_goes_on_without_it(forked: tuple[World, World], tmp_path: Path) -> None:
    """It would change another version than the one held now: nobody can release it any more."""
    world, _ = forked
    sync_list(world)
    discard(world, 1)
    line = World(tmp_path / "line", world.clock)
    for number in (60, 61, 62):
        line.publish(add=[row(number)])
    show(world, line)
    assert sync_list(world).outcome is Outcome.PUBLISHED
    with pytest.raises(RefusedError, match="was withdrawn already"):
        release(world, 1)
    assert served(world) == ALL | {40, 60, 61, 62}


# both lanes


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_holds_of_rows_and_of_a_whole_update_are_released_in_either_order(
    emptied: World, tmp_path: Path, order: tuple[int, int]
) -> None:
    """The list ends as the partner states it, and before that nothing of the other hold is live."""
    fork = fork_of(emptied, tmp_path / "fork")
    emptied.publish(add=[row(40)])
    sync_list(emptied)
    for number in (50, 51):
        fork.publish(add=[row(number)])
    show(emptied, fork)
    assert [one.lane for one in sync_list(emptied).opened] == [Lane.BOTH]
    assert served(emptied) == ALL | {40}
    release(emptied, order[0])
    assert served(emptied) in ({40}, ALL | {50, 51})
    assert sync_list(emptied).outcome is Outcome.HELD
    release(emptied, order[1])
    assert served(emptied) == {50, 51}
    assert sync_list(emptied).outcome is Outcome.UP_TO_DATE
    prove_feed(emptied)


# losses, backups, garbage, proofs


def test_lost_private_files_open_no_lane(emptied: World) -> None:
    """The hold cannot be ended without its rows; the next sync holds again what still waits, and that can."""
    emptied.publish(add=[row(40)])
    sync_list(emptied)
    for path in private(emptied):
        path.unlink()
    for release_it in (True, False):
        with pytest.raises(
            StoreError, match=r"files that hold 1 of iwf\.images needs are missing on this disk"
        ) as told:
            end(emptied, 1, release=release_it)
        assert "run `syncd sync iwf`" in told.value.hint
        assert told.value.serving == "iwf.images version 2"
    listed = sync_list(emptied)
    assert (listed.outcome, [(one.lane, one.rows) for one in listed.opened]) == (Outcome.HELD, [(Lane.REMOVALS, 30)])
    assert state_of(emptied, 1) is HoldState.REPLACED
    assert served(emptied) == ALL | {40}
    release(emptied, 2)
    assert served(emptied) == {40}


def test_losing_what_was_refused_lets_nothing_of_it_pass(emptied: World) -> None:
    """It waits again: what an operator kept out never goes live because files were lost."""
    discard(emptied, 1)
    lost = private(emptied)
    assert lost
    for path in lost:
        path.unlink()
    assert sync_list(emptied).outcome is Outcome.HELD
    assert served(emptied) == ALL


def test_losing_everything_of_a_list_opens_no_lane(emptied: World) -> None:
    """Fetched whole, what waited cannot be told apart: the whole of it waits, and can be released."""
    emptied.publish(add=[row(40)])
    sync_list(emptied)
    assert served(emptied) == ALL | {40}
    for path in (*segments(emptied), *emptied.state.feed.root.glob("v1/iwf.images/segments/*")):
        path.unlink()
    listed = sync_list(emptied)
    assert (listed.outcome, [one.lane for one in listed.opened]) == (Outcome.HELD, [Lane.BOTH])
    assert sync_list(emptied).opened == ()
    release(emptied, listed.opened[0].id)
    assert served(emptied) == {40}


def test_a_whole_update_that_was_discarded_after_a_loss_is_not_held_again(emptied: World) -> None:
    """Until the partner publishes another version, or the discarded one is released after all."""
    for path in (*segments(emptied), *emptied.state.feed.root.glob("v1/iwf.images/segments/*")):
        path.unlink()
    (hold,) = sync_list(emptied).opened
    discard(emptied, hold.id)
    again = sync_list(emptied)
    assert again.opened == ()
    assert hold.id not in {one.id for one in open_holds(emptied)}
    release(emptied, hold.id)
    assert served(emptied) == frozenset()


@pytest.mark.catalog_in_a_file
def test_holds_live_in_a_backup(emptied: World) -> None:
    """With their rows: restored, they are released as they were."""
    emptied.publish(add=[row(40)])
    sync_list(emptied)
    with emptied.publisher() as publisher:
        backup(publisher, emptied.base / "b.tar", emptied.clock(), with_keys=True, with_segments=True)
    shutil.rmtree(emptied.state.root)
    emptied.state.root.mkdir()
    with tarfile.open(emptied.base / "b.tar") as tar:
        tar.extractall(emptied.state.root, filter="tar")
    prove_feed(emptied)
    assert [(one.id, one.rows) for one in open_holds(emptied)] == [(1, 30)]
    release(emptied, 1)
    assert served(emptied) == {40}


@pytest.mark.parametrize("discarded", [False, True])
def test_garbage_collection_keeps_what_waits_and_what_was_refused(emptied: World, discarded: bool) -> None:
    """For days, while the list goes on."""
    if discarded:
        discard(emptied, 1)
    for number in range(40, 46):
        pass_days(emptied, 1)
        emptied.publish(add=[row(number)])
        sync_list(emptied)
    prove_feed(emptied)
    release(emptied, 1)
    assert served(emptied) == frozenset(range(40, 46))


@pytest.mark.on_both
def test_garbage_collection_keeps_a_fork_that_waits(forked: tuple[World, World]) -> None:
    """It can be released days later."""
    world, _ = forked
    sync_list(world)
    with world.publisher() as publisher:
        for _ in range(3):
            pass_days(world, 1)
            publisher.collect_garbage("iwf", world.clock())
    sync_list(world)
    release(world, 1)
    assert served(world) == ALL | {50, 51}


def test_verify_proves_what_waits(emptied: World) -> None:
    """Damage to rows of a hold is found."""
    prove_feed(emptied)
    damaged = private(emptied)
    assert damaged
    for path in damaged:
        path.write_bytes(bytes(path.stat().st_size))
    faults = prove_state(emptied.state, None, emptied.clock()).faults
    assert {fault.file.rpartition("/")[2] for fault in faults} >= {path.name for path in damaged}


@pytest.mark.on_both
def test_a_dry_run_opens_and_ends_nothing(standing: World) -> None:
    """It says that it would be held, and leaves no rows behind."""
    standing.publish(remove=rows(0, 30))
    assert standing.sync(dry_run=True).lists[0].outcome is Outcome.HELD
    assert open_holds(standing) == ()
    assert not standing.state.feed.staging.exists()
