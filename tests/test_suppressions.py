"""Suppressions, as stories: a wrong hash stops matching, and stays away whatever the partner does."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from standing import prove_feed, served, sync_list
from syncd.acts import Suppressed
from syncd.catalog.decisions import HoldState, Suppression, SuppressionState
from syncd.errors import RefusedError, UsageError
from syncd.limits import ListLimits, allowed_alone
from syncd.locks import lock
from syncd.model import Digest, ListName
from syncd.operate import suppression_ends as ends
from syncd.operate import suppressions
from syncd.operate.holds import end_hold
from syncd.operate.suppressed_lists import Corrected
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.outcomes import HoldReason, Lane, Outcome
from world import World, row, rows

LIST = ListName("iwf.images")
ALL = frozenset(range(30))
FEW = ListLimits(max_added_rows=5, max_added_percent=0, max_added_week_percent=0)


def digest(number: int) -> Digest:
    """The digest of a number."""
    algorithm, text, *_ = row(number)
    return Digest.parse(f"{algorithm}:{text}")


def order(*numbers: int, entry: str | None = None, **more: Any) -> SuppressionOrder:
    """An order to suppress the digests of these numbers."""
    wanted = tuple(Correction(digest(number), entry) for number in numbers)
    return SuppressionOrder(wanted, more.pop("reason", "innocent file"), **more)


def suppress(world: World, *numbers: int, actor: str = "alice", second_operator: bool = True, **more: Any) -> Corrected:
    """Suppress the digests of these numbers."""
    world.clock.forward(minutes=1)
    with world.publisher() as publisher:
        return suppressions.suppress(
            publisher, order(*numbers, **more), actor=actor, now=world.clock(), second_operator=second_operator
        )


def unsuppress(world: World, *numbers: int) -> Corrected:
    """End suppressions."""
    with world.publisher() as publisher:
        return ends.unsuppress(publisher, numbers, actor="bob", reason="it was right", now=world.clock())


def listed(world: World) -> tuple[Suppression, ...]:
    """The suppressions in force."""
    with world.publisher() as publisher:
        return publisher.catalog.suppressions(SuppressionState.ACTIVE)


def end(world: World, number: int, *, actor: str, release: bool = True, second_operator: bool = True) -> None:
    """Release or discard a hold."""
    with world.publisher() as publisher:
        end_hold(
            publisher,
            number,
            release=release,
            actor=actor,
            reason="seen",
            now=world.clock(),
            second_operator=second_operator,
        )


@pytest.mark.on_both
def test_a_suppressed_digest_matches_no_more_and_its_manifest_says_so(standing: World) -> None:
    """The next version is without it, the number of suppressed entries is signed, and both states can be proved."""
    done = suppress(standing, 3)
    assert (done.rows, done.versions) == (1, {LIST: 2})
    assert served(standing) == ALL - {3}
    with standing.publisher() as publisher:
        head = publisher.list_state("iwf", ListName("images")).head
        assert head is not None
        assert sum(one.suppressed for one in (head.withheld or {}).values()) == 1
    prove_feed(standing)


@pytest.mark.on_both
def test_it_survives_what_the_partner_does(standing: World) -> None:
    """Removed and added again, relabelled, and beside other changes."""
    suppress(standing, 3)
    algorithm, text, entry, _ = row(3)
    for change in ({"remove": [row(3)]}, {"add": [row(3), row(40)]}, {"add": [(algorithm, text, entry, "other")]}):
        standing.publish(**change)  # type: ignore[arg-type]  # rows
        sync_list(standing)
        assert 3 not in served(standing)
    assert served(standing) == (ALL - {3}) | {40}
    unsuppress(standing, 1)
    assert served(standing) == ALL | {40}
    prove_feed(standing)


def test_an_act_beside_a_sync_leaves_folding_to_it(standing: World) -> None:
    """The operator does not wait for it, and it is not done twice."""
    for number in range(40, 47):
        standing.publish(add=[row(number)])
        sync_list(standing)
    with lock(standing.state.source("iwf").lock, "sync"):
        suppress(standing, 3)
    assert segments(standing) == 9
    suppress(standing, 4)
    assert segments(standing) == 1
    assert served(standing) == (ALL | set(range(40, 47))) - {3, 4}
    prove_feed(standing)


def segments(world: World) -> int:
    """The segments of the published stack."""
    with world.publisher() as publisher:
        head = publisher.list_state("iwf", ListName("images")).head
        assert head is not None
        return len(head.stack)


def test_it_survives_compaction(standing: World) -> None:
    """Folding carries what is owed; an end of the suppression still finds it."""
    suppress(standing, 3)
    with standing.publisher() as publisher:
        publisher.compact(LIST, standing.clock(), everything=True)
    assert served(standing) == ALL - {3}
    unsuppress(standing, 1)
    assert served(standing) == ALL


@pytest.mark.parametrize("lost", ["sources", "everything"])
def test_it_survives_the_loss_of_files(standing: World, lost: str) -> None:
    """Suppressions are applied again from the catalog, also if the whole list is fetched anew."""
    suppress(standing, 3)
    for path in standing.state.source("iwf").root.glob("v1/images/segments/*"):
        path.unlink()
    if lost == "everything":
        for path in standing.state.feed.root.glob("v1/iwf.images/segments/*"):
            path.unlink()
    sync_list(standing)
    assert 3 not in served(standing)
    unsuppress(standing, 1)
    standing.publish(add=[row(50)])
    sync_list(standing)
    assert served(standing) == ALL | {50}
    prove_feed(standing)


def test_a_digest_can_be_suppressed_ahead(world: World) -> None:
    """Also before the first version: it never goes live."""
    world.publish(full=rows(0, 30))
    with pytest.raises(UsageError, match="no list has this sha256 digest") as refused:
        suppress(world, 3)
    assert "--ahead" in refused.value.hint
    suppress(world, 3, 55, ahead=True)
    assert sync_list(world).outcome is Outcome.PUBLISHED
    assert served(world) == ALL - {3}
    world.publish(add=rows(54, 57))
    sync_list(world)
    assert served(world) == (ALL - {3}) | {54, 56}
    prove_feed(world)
    unsuppress(world, 1, 2)
    assert served(world) == ALL | {54, 55, 56}
    prove_feed(world)


@pytest.mark.on_both
def test_one_entry_is_suppressed_and_the_others_go_on(standing: World) -> None:
    """Another entry of the digest is noticed once."""
    algorithm, text, entry, label = row(3)
    suppress(standing, 3, entry=entry)
    assert 3 not in served(standing)
    with standing.publisher() as publisher:
        assert ends.gained(publisher, standing.clock()) == ()
    standing.publish(add=[(algorithm, text, "another", label)])
    sync_list(standing)
    assert 3 in served(standing)
    with standing.publisher() as publisher:
        assert [one.id for one in ends.gained(publisher, standing.clock())] == [1]
        assert ends.gained(publisher, standing.clock()) == ()
    prove_feed(standing)


@pytest.mark.on_both
def test_it_expires_and_says_so_before(standing: World) -> None:
    """Three days before, once; then the entry is listed again, in the audit log under syncd's own name."""
    suppress(standing, 3, expires_at=standing.clock() + timedelta(days=30))
    suppress(standing, 4)
    with standing.publisher() as publisher:
        assert ends.announce(publisher, standing.clock()) == ()
        assert ends.expire(publisher, standing.clock()) is None
    standing.clock.forward(days=28)
    with standing.publisher() as publisher:
        assert [one.id for one in ends.announce(publisher, standing.clock())] == [1]
        assert ends.announce(publisher, standing.clock()) == ()
    standing.clock.forward(days=3)
    with standing.publisher() as publisher:
        done = ends.expire(publisher, standing.clock())
        assert done is not None
        assert (done.rows, done.versions) == (1, {LIST: 4})
        assert "automatic" in {one.actor for one in publisher.catalog.audit_entries(1)}
    assert served(standing) == ALL - {4}


@pytest.mark.on_both
def test_many_rows_wait_for_a_second_operator(standing: World) -> None:
    """Nothing changes until another one confirms; the author cannot."""
    done = suppress(standing, *range(11))
    assert (done.versions, done.hold and (done.hold.lane, done.hold.reasons)) == (
        {},
        (Lane.SUPPRESSIONS, (HoldReason.SECOND_OPERATOR,)),
    )
    assert served(standing) == ALL
    standing.publish(add=[row(60)])
    assert sync_list(standing).outcome is Outcome.PUBLISHED
    with pytest.raises(RefusedError, match="alice asked for the suppressions of hold 1"):
        end(standing, 1, actor="alice")
    with pytest.raises(RefusedError, match="covers this sha256 digest already and waits"):
        suppress(standing, 5)
    end(standing, 1, actor="bob")
    assert served(standing) == (ALL | {60}) - set(range(11))
    assert {one.second for one in listed(standing)} == {"bob"}
    prove_feed(standing)


@pytest.mark.parametrize(
    ("listed", "allowed"),
    [
        (0, 10),
        (30, 10),
        (10_000, 10),
        (11_000, 11),
        (50_000, 50),
        (99_999, 99),
        (100_000, 100),
        (100_001, 100),
        (10_000_000, 100),
    ],
)
def test_one_operator_may_take_off_a_thousandth_of_a_list_and_at_most_100_rows(listed: int, allowed: int) -> None:
    """But 10 of any list, however small."""
    assert allowed_alone(listed) == allowed


@pytest.mark.on_both
def test_small_steps_of_one_day_add_up(standing: World) -> None:
    """Ten rows a day; the next day begins anew."""
    for number in range(10):
        assert suppress(standing, number).hold is None
    assert suppress(standing, 10).hold is not None
    end(standing, 1, actor="bob", release=False)
    assert served(standing) == ALL - set(range(10))
    standing.clock.forward(days=1)
    assert suppress(standing, 10).hold is None


def test_rows_of_other_lists_do_not_count(standing: World) -> None:
    """Suppressions for all lists count on each list by its own rows: the bound is of a list."""
    standing.publish(full=rows(0, 40), name=ListName("videos"))
    standing.clock.forward(minutes=5)
    standing.sync()
    for number in range(5):
        assert suppress(standing, number).rows == 2
    for number in range(31, 35):  # on the other list only
        assert suppress(standing, number).rows == 1
    assert suppress(standing, *range(10, 15), list=LIST).hold is None
    assert suppress(standing, 35, list=ListName("iwf.videos")).hold is None
    held = suppress(standing, 15, list=LIST).hold
    assert held is not None
    (finding,) = held.findings
    assert (finding.before, finding.rows, finding.allowed) == (10, 1, 10)


def test_a_team_of_one_can_switch_the_second_operator_off(standing: World) -> None:
    """The audit log says so."""
    suppress(standing, *range(11), second_operator=False)
    assert served(standing) == ALL - set(range(11))
    with standing.publisher() as publisher:
        acts = [one.act for one in publisher.catalog.audit_entries()]
    assert {one.second for one in acts if isinstance(one, Suppressed)} == {"switched off"}


@pytest.mark.on_both
def test_all_lists_change_together(standing: World) -> None:
    """One signed state, one version a list."""
    standing.publish(full=rows(0, 10), name=ListName("videos"))
    standing.clock.forward(minutes=5)
    standing.sync()
    with standing.publisher() as publisher:
        before = publisher.core.feed.metadata("timestamp.json")
        assert before is not None
    done = suppress(standing, 3)
    assert (done.rows, done.versions) == (2, {LIST: 2, ListName("iwf.videos"): 2})
    assert suppress(standing, 4, list=LIST).versions == {LIST: 3}
    prove_feed(standing)


def test_a_held_row_does_not_come_back_with_the_end_of_a_suppression(standing: World) -> None:
    """The hold decides about it."""
    standing.publish(remove=rows(0, 30))
    sync_list(standing)
    suppress(standing, 3)
    assert served(standing) == ALL - {3}
    unsuppress(standing, 1)
    assert served(standing) == ALL - {3}, "the partner removed it, so nothing of the origin returns"
    end(standing, 1, actor="bob")
    assert served(standing) == frozenset()
    with standing.publisher() as publisher:
        hold = publisher.catalog.hold(1)
        assert hold is not None
        assert hold.state is HoldState.RELEASED


def test_a_hold_whose_rows_are_suppressed_still_decides_about_them(standing: World) -> None:
    """The partner has not withdrawn them: they would return with the end of the suppression, unjudged."""
    many = range(40, 60)
    standing.limits = FEW
    standing.publish(add=[row(number) for number in many])
    assert sync_list(standing).outcome is Outcome.HELD
    suppress(standing, *many, second_operator=False)
    sync_list(standing)
    with standing.publisher() as publisher:
        (hold,) = publisher.catalog.holds()
        assert hold.state is HoldState.OPEN
    unsuppress(standing, *range(1, 21))
    assert served(standing) == ALL
    end(standing, hold.id, actor="bob")
    assert served(standing) == ALL | set(many)
    prove_feed(standing)


def test_a_hold_whose_suppressed_rows_the_partner_removes_ends(standing: World) -> None:
    """Nothing of it can return."""
    standing.limits = FEW
    standing.publish(add=[row(number) for number in range(40, 50)])
    sync_list(standing)
    suppress(standing, *range(40, 50), second_operator=False)
    standing.publish(remove=[row(number) for number in range(40, 50)])
    sync_list(standing)
    with standing.publisher() as publisher:
        hold = publisher.catalog.hold(1)
        assert hold is not None
        assert hold.state is HoldState.WITHDRAWN
        assert publisher.catalog.holds() == ()


@pytest.mark.on_both
def test_what_returns_at_the_end_of_suppressions_is_judged(standing: World) -> None:
    """Rows that the partner added while they were suppressed were never judged: many at once wait for an operator."""
    many = range(40, 60)
    standing.limits = FEW
    suppress(standing, *many, second_operator=False, ahead=True)
    standing.publish(add=[row(number) for number in many])
    sync_list(standing)
    done = unsuppress(standing, 1, 2, 3)
    assert (done.rows, done.opened) == (3, ())
    done = unsuppress(standing, *range(4, 21))
    assert served(standing) == ALL | {40, 41, 42}
    (hold,) = done.opened
    assert (hold.rows, hold.lane, hold.reasons, done.rows) == (17, Lane.ADDITIONS, (HoldReason.GROWN,), 0)
    end(standing, hold.id, actor="bob")
    assert served(standing) == ALL | set(many)
    prove_feed(standing)


def test_one_act_opens_a_hold_for_each_list(standing: World) -> None:
    """Each is released by itself."""
    standing.limits = FEW
    standing.publish(full=rows(0, 30), name=ListName("videos"))
    standing.sync()
    many = range(40, 60)
    suppress(standing, *many, second_operator=False, ahead=True)
    for name in ("images", "videos"):
        standing.publish(add=[row(number) for number in many], name=ListName(name))
    standing.clock.forward(minutes=5)
    standing.sync()
    first, second = unsuppress(standing, *range(1, 21)).opened
    assert {first.list, second.list} == {LIST, "iwf.videos"}
    end(standing, first.id, actor="bob")
    end(standing, second.id, actor="bob")
    assert served(standing) == ALL | set(many)
    prove_feed(standing)


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda world: suppress(world, 3, reason=" "), UsageError, "a reason is needed"),
        (lambda world: suppress(world, 3, expires_at=world.clock()), UsageError, "which is in the past"),
        (lambda world: suppress(world, 3, list=ListName("iwf.image")), UsageError, "there is no list iwf.image"),
        (suppress, UsageError, "no digest was given"),
        (lambda world: suppress(world, 88), UsageError, "no list has this sha256 digest"),
        (lambda world: unsuppress(world, 7), UsageError, "there is no suppression 7"),
        (lambda world: (suppress(world, 3), suppress(world, 3)), RefusedError, "suppression 1 covers this"),
        (
            lambda world: (suppress(world, 3), unsuppress(world, 1), unsuppress(world, 1)),
            RefusedError,
            "already by bob",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    standing: World, act: Callable[[World], object], error: type[Exception], words: str
) -> None:
    """With what to do."""
    with pytest.raises(error, match=words) as refused:
        act(standing)
    assert getattr(refused.value, "hint", "") or "there is no list" in words
