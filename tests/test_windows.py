"""The windows of the gate, as stories: what an operator decides is their new reference, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from standing import sync_list
from syncd.model import ListName
from syncd.operate.holds import end_hold
from syncd.operate.retire import retire
from syncd.operate.rollback import rollback, unpin
from syncd.outcomes import HoldReason, Outcome
from syncd.pipeline.values import Period, Window
from syncd.publish import author
from test_holds import fork_of, show
from world import HEAD, IMAGES, Row, World, row, rows

BEGUN = {"sha256": Window(1_002, 0, 15)}
"""The windows of `stepped`."""


@pytest.fixture
def stepped(world: World) -> World:
    """A list of 1,002 entries that lost 15 an hour ago."""
    world.publish(full=rows(0, 1_002))
    sync_list(world)
    world.clock.forward(hours=1)
    sync_list(world, remove=rows(0, 15))
    world.clock.forward(hours=1)
    assert windows(world) == BEGUN
    return world


def windows(world: World) -> dict[str, Window]:
    """The past changes that the gate looks at, which are the same in both windows here."""
    with world.publisher() as publisher:
        found = publisher.list_state("iwf", IMAGES, world.clock()).windows
    assert found[Period.DAY] == found[Period.WEEK]
    return dict(found[Period.DAY])


def decide(world: World, *, release: bool = True) -> None:
    """The operator ends the newest hold."""
    with world.publisher() as publisher:
        number = publisher.catalog.holds()[-1].id
        end_hold(publisher, number, release=release, actor="alice", reason="asked", now=world.clock())


def _release(world: World, _: Path) -> None:
    """Release of a removal that the limits hold."""
    assert sync_list(world, remove=rows(15, 115)).outcome is Outcome.HELD
    decide(world)


def _accept_emptying(world: World, _: Path) -> None:
    """Release of an emptied list."""
    assert sync_list(world, remove=rows(15, 1_002)).outcome is Outcome.HELD
    decide(world)


def _accept_retirement(world: World, _: Path) -> None:
    """Release of the partner's retirement."""
    author.retire(world.partner, IMAGES, world.partner_signers(), world.clock())
    assert HoldReason.RETIRED in sync_list(world).reasons
    decide(world)


def _roll_back(world: World, _: Path) -> None:
    """Rollback to the first version."""
    with world.publisher() as publisher:
        rollback(publisher, HEAD, 1, reason="wrong", actor="alice", now=world.clock())


def _accept_fork(world: World, scratch: Path) -> None:
    """Release of another history, with a hundred entries less."""
    fork = fork_of(world, scratch / "fork")
    sync_list(world, add=[row(2_000)])
    fork.publish(remove=rows(15, 115))
    fork.publish(add=[row(2_001)])
    show(world, fork)
    assert HoldReason.FORKED in sync_list(world).reasons
    decide(world)


@pytest.mark.parametrize(
    ("act", "left"),
    [(_release, 887), (_accept_emptying, 0), (_accept_retirement, 0), (_roll_back, 987), (_accept_fork, 888)],
)
def test_an_operators_decision_is_the_new_reference(
    stepped: World, tmp_path: Path, act: Callable[[World, Path], None], left: int
) -> None:
    """Its version is the largest, and nothing before it counts; a day's small step passes again."""
    act(stepped, tmp_path)
    assert windows(stepped) == {"sha256": Window(left, 0, 0)}
    if left:
        assert sync_list(stepped, remove=rows(200, 249)).outcome is Outcome.PUBLISHED, "49 and 15 were too many"
        assert windows(stepped) == {"sha256": Window(left, 0, 49)}


@pytest.mark.on_both
@pytest.mark.parametrize("act", ["discard", "discard a fork", "unpin"])
def test_what_publishes_no_decision_is_no_reference(stepped: World, tmp_path: Path, act: str) -> None:
    """A discard leaves the list as it was. The end of a pin lets changes through that the gate judges."""
    if act == "discard":
        sync_list(stepped, remove=rows(15, 115))
        decide(stepped, release=False)
        assert windows(stepped) == BEGUN
        assert sync_list(stepped, remove=rows(200, 249)).outcome is Outcome.HELD, "49 and 15"
    elif act == "discard a fork":
        fork = fork_of(stepped, tmp_path / "fork")
        sync_list(stepped, add=[row(2_000)])
        fork.publish(add=[row(2_001)])
        fork.publish(add=[row(2_002)])
        show(stepped, fork)
        sync_list(stepped)
        decide(stepped, release=False)
        assert windows(stepped) == {"sha256": Window(1_002, 1, 15)}
    else:
        _roll_back(stepped, tmp_path)
        sync_list(stepped, add=rows(2_000, 2_010))
        with stepped.publisher() as publisher:
            unpin(publisher, HEAD, reason="mended", actor="alice", now=stepped.clock())
        assert windows(stepped) == {"sha256": Window(997, 10, 0)}


def lose_every_segment(world: World) -> None:
    """The published list and the partner's copy of it lose all their segments on this disk."""
    for folder in (
        world.state.feed.path("v1/iwf.images/segments"),
        world.state.source("iwf").path("v1/images/segments"),
    ):
        for path in folder.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("more", "change"),
    [
        ({}, Window(1_002, 0, 15)),
        ({"remove": rows(100, 130)}, Window(1_002, 0, 45)),
        ({"add": rows(2_000, 2_008)}, Window(1_002, 8, 15)),
    ],
)
def test_a_change_that_arrives_while_all_segments_are_lost_counts(
    stepped: World, more: dict[str, list[Row]], change: Window
) -> None:
    """By its net effect, all that is known of it. Otherwise losing files would hide removals from the later ones."""
    lose_every_segment(stepped)
    listed = sync_list(stepped, **more)
    assert (listed.outcome, listed.plan.partition(":")[0]) == (Outcome.PUBLISHED, "full")
    assert windows(stepped) == {"sha256": change}
    stepped.clock.forward(minutes=5)
    left = 50 - change.removed  # one in twenty in a day
    assert sync_list(stepped, remove=rows(200, 200 + left + 1)).outcome is Outcome.HELD
    with stepped.publisher() as publisher:
        shown = publisher.catalog.history(ListName(HEAD), 9)[-1]
    assert shown.counts == {}, "which rows changed is not known"


@pytest.mark.on_both
def test_our_own_retirement_is_the_new_reference(stepped: World) -> None:
    """Once a source follows the list again, it is judged like a new one."""
    with stepped.publisher() as publisher:
        retire(publisher, ListName(HEAD), (), actor="alice", reason="ended", now=stepped.clock())
    assert windows(stepped) == {"sha256": Window(0, 0, 0)}
    assert sync_list(stepped).outcome is Outcome.PUBLISHED
