"""Rollback and unpin, as stories: an older content as a new version, and the way back."""

from collections.abc import Callable
from typing import Any

import pytest

from standing import prove_feed, served, sync_list
from syncd.catalog.decisions import HoldState
from syncd.errors import CodeNeeded, RefusedError, UsageError
from syncd.model import Digest, ListName
from syncd.operate import rollback as operate
from syncd.operate import suppressions
from syncd.operate.holds import end_hold
from syncd.operate.rollback import Rollback
from syncd.operate.suppression_ends import unsuppress
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.outcomes import HoldReason, Outcome
from world import World, row, rows

LIST = ListName("iwf.images")
ALL = frozenset(range(30))


def rollback(world: World, version: int, **more: Any) -> Rollback:
    """Roll the list back."""
    with world.publisher() as publisher:
        return operate.rollback(
            publisher, more.pop("name", LIST), version, reason="bad", actor="alice", now=world.clock(), **more
        )


def unpin(world: World) -> Rollback:
    """Let the list follow its source again."""
    with world.publisher() as publisher:
        return operate.unpin(publisher, LIST, reason="mended", actor="bob", now=world.clock())


def length(world: World) -> int:
    """The entries of the published list."""
    with world.publisher() as publisher:
        return publisher.catalog.head_rows()[LIST]


def pin(world: World, *, exact: bool) -> None:
    """Roll the list back to version 1, with the code that --exact needs."""
    code = None
    if exact:
        with pytest.raises(CodeNeeded) as needed:
            rollback(world, 1, exact=True)
        code = needed.value.code
    rollback(world, 1, exact=exact, accepted=code)


@pytest.fixture
def moved(standing: World) -> World:
    """Version 1 has 0 to 29; version 2 adds 40; version 3 removes 0; version 4 adds 41."""
    for change in ({"add": [row(40)]}, {"remove": [row(0)]}, {"add": [row(41)]}):
        assert sync_list(standing, **change).outcome is Outcome.PUBLISHED
    return standing


def test_a_rollback_brings_back_the_content_without_what_the_partner_removed_since(moved: World) -> None:
    """As a new version, whose manifest says that it is pinned."""
    done = rollback(moved, 2)
    assert (done.version, done.pinned, done.counts.removed, done.counts.added) == (5, 2, 1, 0)
    assert served(moved) == (ALL | {40}) - {0}
    with moved.publisher() as publisher:
        head = publisher.list_state("iwf", ListName("images")).head
        assert head is not None
        assert head.pinned
    prove_feed(moved)


def test_exactly_that_content_needs_a_code_of_exactly_that(moved: World) -> None:
    """A code for another version, or from before the list moved, is none."""
    with pytest.raises(CodeNeeded) as needed:
        rollback(moved, 1, exact=True)
    assert needed.value.exit_code == 3
    assert needed.value.code in needed.value.hint
    with pytest.raises(CodeNeeded):
        rollback(moved, 2, exact=True, accepted=needed.value.code)
    assert rollback(moved, 1, exact=True, accepted=needed.value.code).version == 5
    assert served(moved) == ALL
    prove_feed(moved)


def test_while_it_is_pinned_only_removals_flow(moved: World) -> None:
    """Additions wait for the end of the pin, without being held."""
    rollback(moved, 1)
    assert served(moved) == ALL - {0}
    assert sync_list(moved, add=[row(50)], remove=[row(1)]).outcome is Outcome.PUBLISHED
    assert served(moved) == ALL - {0, 1}
    assert sync_list(moved, add=[row(1)]).outcome is Outcome.PUBLISHED, (
        "the pinned version has it, and the partner again"
    )
    assert served(moved) == ALL - {0}
    assert sync_list(moved, add=[row(51)]).outcome is Outcome.UP_TO_DATE
    prove_feed(moved)
    done = unpin(moved)
    assert (done.pinned, done.held) == (None, ())
    assert served(moved) == (ALL - {0}) | {40, 41, 50, 51}
    prove_feed(moved)


def test_a_suppression_wins_over_a_rollback(moved: World) -> None:
    """Also if it ends while the list is pinned: then only rows return that both have."""
    with moved.publisher() as publisher:
        for number in (3, 41):
            algorithm, text, *_ = row(number)
            correction = Correction(Digest.parse(f"{algorithm}:{text}"))
            asked = SuppressionOrder((correction,), "wrong")
            suppressions.suppress(publisher, asked, actor="alice", now=moved.clock())
    rollback(moved, 1)
    assert served(moved) == ALL - {0, 3}
    with moved.publisher() as publisher:
        unsuppress(publisher, [1, 2], actor="alice", reason="right", now=moved.clock())
    assert served(moved) == ALL - {0}
    prove_feed(moved)
    unpin(moved)
    assert served(moved) == (ALL - {0}) | {40, 41}
    prove_feed(moved)


@pytest.mark.parametrize(("exact", "after"), [(False, ALL - {0, 5}), (True, ALL)])
def test_a_later_removal_reaches_a_pinned_list_unless_the_pin_is_exact(
    moved: World, exact: bool, after: frozenset[int]
) -> None:
    """With --exact it waits for the end of the pin."""
    pin(moved, exact=exact)
    wanted = Outcome.UP_TO_DATE if exact else Outcome.PUBLISHED
    assert sync_list(moved, remove=[row(5)]).outcome is wanted
    assert served(moved) == after
    prove_feed(moved)
    assert unpin(moved).held == ()
    assert served(moved) == (ALL - {0, 5}) | {40, 41}
    prove_feed(moved)


@pytest.mark.parametrize("exact", [False, True])
def test_a_suppression_that_ends_on_a_pinned_list_returns_only_what_the_partner_still_lists(
    moved: World, exact: bool
) -> None:
    """A row that the partner removed meanwhile stays off, also under --exact."""
    with moved.publisher() as publisher:
        for number in (3, 4):
            asked = SuppressionOrder((Correction(Digest.parse(f"{row(number)[0]}:{row(number)[1]}")),), "wrong")
            suppressions.suppress(publisher, asked, actor="alice", now=moved.clock())
    pin(moved, exact=exact)
    pinned = ALL if exact else ALL - {0}
    sync_list(moved, remove=[row(3)])
    assert served(moved) == pinned - {3, 4}
    with moved.publisher() as publisher:
        done = unsuppress(publisher, [1, 2], actor="alice", reason="right", now=moved.clock())
    assert (done.rows, served(moved)) == (1, pinned - {3})
    prove_feed(moved)
    unpin(moved)
    assert served(moved) == (ALL - {0, 3}) | {40, 41}


def test_what_returns_after_the_pin_is_judged(standing: World) -> None:
    """The partner's mass removal waits for an operator, as it would have without the pin."""
    sync_list(standing, add=rows(100, 1000))
    sync_list(standing, add=[row(50)])
    rollback(standing, 2)
    sync_list(standing, remove=rows(100, 1000))
    with standing.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
        assert hold.reasons == (HoldReason.SHRUNK,)
    done = unpin(standing)
    assert done.held == (HoldReason.SHRUNK,)
    assert 50 in served(standing)
    with standing.publisher() as publisher:
        waiting = [hold for hold in publisher.catalog.holds() if hold.state is HoldState.OPEN]
        assert [hold.rows for hold in waiting] == [900]
        end_hold(publisher, waiting[0].id, release=True, actor="bob", reason="asked", now=standing.clock())
    assert served(standing) == ALL | {50}
    prove_feed(standing)


@pytest.mark.parametrize("discarded", [False, True])
def test_a_rollback_carries_out_no_removal_that_a_hold_keeps_back(standing: World, discarded: bool) -> None:
    """Otherwise a rollback would publish removals that the gate holds. With --exact the rows stay."""
    sync_list(standing, add=rows(100, 1000))
    sync_list(standing, add=[row(50)])
    sync_list(standing, remove=rows(100, 1000))
    with standing.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
        if discarded:
            end_hold(publisher, hold.id, release=False, actor="bob", reason="wrong", now=standing.clock())
    with pytest.raises(
        RefusedError, match=rf"would remove 900 rows that hold {hold.id} keeps on iwf\.images"
    ) as caught:
        rollback(standing, 2)
    assert "`syncd rollback iwf.images 2 --exact --reason R`" in caught.value.hint
    assert length(standing) == 931
    with pytest.raises(CodeNeeded) as needed:
        rollback(standing, 2, exact=True)
    rollback(standing, 2, exact=True, accepted=needed.value.code)
    assert length(standing) == 930
    assert served(standing) == ALL
    prove_feed(standing)


def test_a_rollback_after_a_release_leaves_out_what_was_removed(standing: World) -> None:
    """The cure that the refusal names."""
    sync_list(standing, add=rows(100, 1000))
    sync_list(standing, add=[row(50)])
    sync_list(standing, remove=rows(100, 1000))
    with standing.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
        end_hold(publisher, hold.id, release=True, actor="bob", reason="asked", now=standing.clock())
    rollback(standing, 2)
    assert length(standing) == 30
    assert served(standing) == ALL
    prove_feed(standing)


def test_a_pinned_version_outlives_compaction_and_garbage_collection(moved: World) -> None:
    """Its files are kept as long as it is pinned."""
    rollback(moved, 1)
    with moved.publisher() as publisher:
        publisher.compact(LIST, moved.clock(), everything=True)
    for number in range(20):
        moved.clock.forward(hours=20)
        sync_list(moved, add=[row(200 + number)])
        with moved.publisher() as publisher:
            publisher.collect_garbage("iwf", moved.clock())
    assert sync_list(moved, remove=[row(5)]).outcome is Outcome.PUBLISHED
    assert served(moved) == ALL - {0, 5}
    unpin(moved)
    assert served(moved) == (ALL - {0, 5}) | {40, 41}
    prove_feed(moved)


def test_a_rollback_over_a_rollback_moves_the_pin(moved: World) -> None:
    """To yet another version, and its own place is refused."""
    rollback(moved, 1)
    with pytest.raises(RefusedError, match="pinned to version 1 already"):
        rollback(moved, 1)
    rollback(moved, 4)
    assert served(moved) == (ALL - {0}) | {40, 41}
    prove_feed(moved)


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda world: rollback(world, 4), UsageError, "version 4 of iwf.images is the version in force"),
        (lambda world: rollback(world, 9), UsageError, "version 9 of iwf.images is not kept"),
        (lambda world: rollback(world, 1, name=ListName("iwf.image")), UsageError, "there is no list iwf.image"),
        (unpin, RefusedError, "iwf.images is not pinned"),
    ],
)
def test_what_cannot_be_done_is_said(
    moved: World, act: Callable[[World], object], error: type[Exception], words: str
) -> None:
    """And changes nothing."""
    before = served(moved)
    with pytest.raises(error, match=words):
        act(moved)
    assert served(moved) == before
