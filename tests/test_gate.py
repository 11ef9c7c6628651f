"""The gate's limits, as a table of real days and as stories."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standing import OLD as ALL
from standing import open_holds, prove_feed, served, sync_list
from syncd.catalog.decisions import HoldState
from syncd.errors import ConfigError
from syncd.limits import DEFAULT_LIMITS, GateTable, ListLimits
from syncd.model import ListName
from syncd.operate.holds import end_hold
from syncd.outcomes import Finding, HoldReason, Lane, Outcome
from syncd.pipeline.gate import judge
from syncd.pipeline.outcome import ListOutcome
from syncd.pipeline.values import Change, Hold, Pending, Period, Verdict, Window
from test_repair import rebuild_partner, retrust_partner
from world import World, row, rows

SHRUNK, GROWN = (HoldReason.SHRUNK,), (HoldReason.GROWN,)


def pending(rows: int, added: int = 0, removed: int = 0, relabelled: int = 0, **more: Any) -> Pending:
    """A pending difference of one algorithm."""
    change = Change(rows, added, removed, relabelled)
    return Pending(rows, change.after, {"sha256": change}, **more)


def lanes(verdict: Verdict) -> tuple[tuple[HoldReason, ...], tuple[HoldReason, ...]]:
    """The reasons of the additions and of the removals."""
    return tuple(lane.reasons if isinstance(lane, Hold) else () for lane in (verdict.additions, verdict.removals))  # type: ignore[return-value]  # of two lanes


@pytest.mark.parametrize(
    ("before", "added", "removed", "expected"),
    [
        (27_971, 2_140, 7, ((), ())),
        (30_104, 1_480, 14, ((), ())),
        (31_698, 2_974, 10_517, ((), SHRUNK)),
        (1_002, 0, 502, ((), SHRUNK)),
        (1_000, 0, 990, ((), SHRUNK)),
        (141_834, 0, 21_834, ((), SHRUNK)),
        (100, 0, 40, ((), ())),
        (100, 0, 51, ((), SHRUNK)),
        (20, 900, 0, ((), ())),
        (30_000, 15_001, 0, (GROWN, ())),
        (30_000, 40_000, 20_000, (GROWN, SHRUNK)),
    ],
)
def test_the_defaults_pass_real_days_and_hold_real_accidents(
    before: int, added: int, removed: int, expected: object
) -> None:
    """Each lane is judged by its own change."""
    assert lanes(judge(pending(before, added, removed))) == expected


def test_a_first_version_is_held_only_for_its_size() -> None:
    """There is nothing to compare it with."""
    assert lanes(judge(Pending(0, 5_000, {"md5": Change(0, 5_000)}, first=True))) == ((), ())
    too_small = (HoldReason.TOO_SMALL,)
    assert lanes(judge(Pending(0, 0, {}, first=True))) == ((), too_small)
    few = Pending(0, 999, {"md5": Change(0, 999)}, first=True)
    assert lanes(judge(few, ListLimits(min_rows=1000))) == ((), too_small)


def test_small_steps_add_up() -> None:
    """What left in the past day or week counts, measured by the largest head of that time."""
    day = {Period.DAY: {"sha256": Window(10_000, 0, 400)}, Period.WEEK: {"sha256": Window(10_000, 0, 400)}}
    assert lanes(judge(pending(9_600, removed=100, windows=day))) == ((), ())
    verdict = judge(pending(9_600, removed=101, windows=day))
    assert verdict.findings == (
        Finding(HoldReason.SHRUNK, "sha256", "", Period.DAY, rows=101, before=400, of=10_000, allowed=500),
    )
    assert verdict.findings[0].words == (
        "more rows would be removed than the limits allow: 501 of 10,000 rows (sha256) in 24 hours, limit 500"
    )
    week = {Period.WEEK: {"sha256": Window(10_000, 0, 900)}}
    assert lanes(judge(pending(9_100, removed=101, windows=week))) == ((), SHRUNK)


def test_relabels_sizes_and_strangers_hold() -> None:
    """Each by its own limit."""
    assert lanes(judge(pending(10_000, relabelled=501))) == ((HoldReason.RELABELLED,), ())
    limits = ListLimits(max_rows=10_100, min_rows=9_990)
    assert lanes(judge(pending(10_000, added=101), limits)) == ((HoldReason.TOO_LARGE,), ())
    assert lanes(judge(pending(10_000, removed=11), limits)) == ((), (HoldReason.TOO_SMALL,))
    assert lanes(judge(pending(9_000, added=11), limits)) == ((), ()), "it was too small before, and grows"
    known = ListLimits(known_algorithms=("md5",), known_labels=("A", "B"))
    labels = {"A": Change(5, 1), "C": Change(0, 1)}
    assert lanes(judge(pending(100, added=2, labels=labels), known)) == (
        (HoldReason.UNKNOWN_ALGORITHM, HoldReason.UNKNOWN_LABEL),
        (),
    )
    jump = (HoldReason.SERIAL_JUMP,)
    assert lanes(judge(pending(10, added=1, serial_jump=10_001))) == (jump, jump)


def test_a_label_has_limits_if_it_is_named() -> None:
    """A list as a whole may hardly change while one label of it goes."""
    labels = {"A1": Change(500, removed=100), "B": Change(20_000, removed=100)}
    change = pending(20_500, removed=200, labels=labels)
    assert lanes(judge(change)) == ((), ())
    limits = GateTable.model_validate({"labels": {"A1": {"max_removed_percent": 10}}}).of_list("images")
    verdict = judge(change, limits)
    assert [(found.label, found.allowed) for found in verdict.findings] == [("A1", 50)]


def test_a_closed_lane_stays_closed_until_its_rows_are_few() -> None:
    """Neither time, which empties the windows, nor a small delta opens it."""
    held = Finding(HoldReason.SHRUNK, "sha256", "", Period.DAY, rows=101, before=400, of=10_000, allowed=500)
    closed = {Lane.REMOVALS: (held,)}
    assert lanes(judge(pending(9_600, removed=101), closed=closed)) == ((), SHRUNK)
    assert lanes(judge(pending(9_600, removed=100), closed=closed)) == ((), ())
    more = ListLimits(max_removed_percent=6)
    assert lanes(judge(pending(9_600, removed=101), more, closed)) == ((), ()), "the limit was raised"


def test_a_jump_of_the_serial_waits_until_the_limit_permits_it() -> None:
    """It is judged again with the number that it had; an update without a jump does not end the hold."""
    held = Finding(HoldReason.SERIAL_JUMP, rows=6, allowed=3)
    closed, jump = {Lane.ADDITIONS: (held,)}, (HoldReason.SERIAL_JUMP,)
    assert lanes(judge(pending(10, added=1), ListLimits(max_serial_jump=5), closed)) == (jump, ())
    assert lanes(judge(pending(10, added=1), ListLimits(max_serial_jump=6), closed)) == ((), ())
    assert held.words.endswith("`max_serial_jump`: 6, limit 3"), "a serial is not a number of rows"


def test_an_emptied_list_is_not_released_by_a_few_new_rows() -> None:
    """Though a small list may lose as many rows unseen."""
    closed = {Lane.REMOVALS: (Finding(HoldReason.EMPTIED),)}
    assert lanes(judge(pending(30, added=1, removed=30), closed=closed)) == ((), (HoldReason.EMPTIED,))
    assert lanes(judge(pending(30, removed=1), closed=closed)) == ((), ())


@given(
    before=st.integers(0, 10_000),
    added=st.integers(0, 10_000),
    removed=st.integers(0, 10_000),
    more=st.integers(0, 1_000),
)
def test_more_rows_never_pass_what_fewer_did_not(before: int, added: int, removed: int, more: int) -> None:
    """Judgement is monotonous in each lane."""
    removed = min(removed, before)
    few, many = judge(pending(before, added, removed)), judge(pending(before, added + more, removed))
    assert isinstance(many.additions, Hold) or not isinstance(few.additions, Hold)
    fewer = judge(pending(before, added, max(0, removed - more)))
    assert isinstance(few.removals, Hold) or not isinstance(fewer.removals, Hold)


def test_tables_inherit_what_they_do_not_name() -> None:
    """From the algorithm to the list to the source to the defaults."""
    gate = GateTable.model_validate(
        {
            "max_removed_percent": 3,
            "min_rows": 100,
            "algorithms": {"pdq": {"max_added_rows": 7}},
            "lists": {"images": {"max_removed_percent": 4, "algorithms": {"pdq": {"max_removed_rows": 8}}}},
        }
    )
    images, other = gate.of_list("images"), gate.of_list("videos")
    assert (images.max_removed_percent, images.min_rows, other.max_removed_percent) == (4, 100, 3)
    pdq = images.of_algorithm("pdq")
    assert (pdq.max_removed_percent, pdq.max_added_rows, pdq.max_removed_rows, pdq.min_rows) == (4, 7, 8, 0)
    assert images.of_algorithm("md5").max_added_rows == DEFAULT_LIMITS.max_added_rows


# stories


def end(world: World, number: int, *, release: bool = True) -> None:
    """Release or discard a hold."""
    with world.publisher() as publisher:
        end_hold(publisher, number, release=release, actor="alice", reason="asked", now=world.clock())


def count(world: World) -> int:
    """Entries that a matcher has after a pull."""
    with world.publisher() as publisher:
        return publisher.catalog.head_rows()[ListName("iwf.images")]


@pytest.fixture
def large(world: World) -> World:
    """A list of 1,002 entries, synced."""
    world.publish(full=rows(0, 1002))
    assert sync_list(world).outcome is Outcome.PUBLISHED
    return world


def test_a_list_that_halves_overnight_waits_and_its_additions_do_not(large: World) -> None:
    """The hold says how many of how many; a release removes them."""
    large.publish(remove=rows(0, 502), add=rows(2000, 2003))
    listed = sync_list(large)
    assert (listed.outcome, listed.reasons, count(large)) == (Outcome.HELD, SHRUNK, 1005)
    (hold,) = open_holds(large)
    assert (hold.lane, hold.rows) == (Lane.REMOVALS, 502)
    assert hold.message.endswith("502 of 1,002 rows (sha256), limit 50")
    end(large, hold.id)
    assert count(large) == 503
    assert not large.pull().errors
    prove_feed(large)


def test_additions_held_for_volume_do_not_delay_ordinary_removals(standing: World) -> None:
    """Neither those of the same update nor later ones; a release publishes what is still wanted."""
    standing.limits = ListLimits(max_added_percent=0, max_added_week_percent=0, max_added_rows=5)
    listed = sync_list(standing, add=rows(40, 50), remove=[row(1)])
    assert (listed.outcome, listed.reasons, served(standing)) == (Outcome.HELD, GROWN, ALL - {1})
    (hold,) = open_holds(standing)
    assert (hold.lane, hold.rows) == (Lane.ADDITIONS, 10)
    listed = sync_list(standing, remove=[row(2), row(40)])
    assert (listed.reasons, listed.opened, served(standing)) == (GROWN, (), ALL - {1, 2})
    end(standing, hold.id)
    assert served(standing) == (ALL - {1, 2}) | set(range(41, 50))
    assert sync_list(standing).outcome is Outcome.UP_TO_DATE
    prove_feed(standing)


def test_a_serial_that_jumps_too_far_waits_with_all_that_came_since(standing: World) -> None:
    """The versions between two syncs count; as many as the limit allows pass. A later small step does not end it."""
    standing.limits = ListLimits(max_serial_jump=3)
    assert jump(standing, range(40, 43)).outcome is Outcome.PUBLISHED, "from serial 1 to 4"
    standing.publish(remove=[row(1)])
    listed = jump(standing, range(50, 53))
    assert (listed.outcome, listed.reasons) == (Outcome.HELD, (HoldReason.SERIAL_JUMP,)), "from serial 4 to 8"
    holds = open_holds(standing)
    assert [(one.lane, one.rows) for one in holds] == [(Lane.ADDITIONS, 3), (Lane.REMOVALS, 1)]
    assert [(one.rows, one.allowed) for hold in holds for one in hold.findings] == [(4, 3), (4, 3)]
    assert jump(standing, [60]).reasons == (HoldReason.SERIAL_JUMP,)
    assert served(standing) == ALL | {40, 41, 42}
    for hold in open_holds(standing):
        end(standing, hold.id)
    assert served(standing) == (ALL | {40, 41, 42, 50, 51, 52, 60}) - {1}
    assert jump(standing, [61]).outcome is Outcome.PUBLISHED
    prove_feed(standing)


def test_the_first_serial_under_another_trust_root_is_no_jump(standing: World) -> None:
    """Whatever its number, as the operator accepted it; the next is judged by it."""
    standing.limits = ListLimits(max_serial_jump=3)
    rebuild_partner(standing)
    for number in range(40, 46):
        standing.publish(add=[row(number)])
    retrust_partner(standing)
    assert sync_list(standing).outcome is Outcome.PUBLISHED, "from serial 1 to 7"
    assert served(standing) == (ALL | {30, 31} | set(range(40, 46))) - {0}
    assert jump(standing, range(50, 54)).reasons == (HoldReason.SERIAL_JUMP,), "from serial 7 to 11"


def jump(world: World, numbers: Iterable[int]) -> ListOutcome:
    """The partner publishes a version for each number; then the operator syncs."""
    for number in numbers:
        world.publish(add=[row(number)])
    return sync_list(world)


@pytest.mark.on_both
def test_steps_that_add_up_are_held_and_a_release_is_the_new_reference(large: World) -> None:
    """Four steps of 1.5 % pass three times; after a release the count begins again."""
    for step in range(3):
        large.publish(remove=rows(step * 15, step * 15 + 15))
        assert sync_list(large).outcome is Outcome.PUBLISHED
    large.publish(remove=rows(45, 60))
    assert sync_list(large).reasons == SHRUNK
    (hold,) = open_holds(large)
    assert [(found.window, found.before) for found in hold.findings] == [(Period.DAY, 45)]
    end(large, hold.id)
    large.publish(remove=rows(60, 75))
    assert sync_list(large).outcome is Outcome.PUBLISHED


@pytest.mark.on_both
def test_steps_of_one_label_add_up(large: World) -> None:
    """Also if other labels grow meanwhile; what an operator accepted or suppressed does not count."""
    large.publish(add=[row(number, "X") for number in range(2000, 2100)])
    sync_list(large)
    large.limits = GateTable.model_validate(
        {"labels": {"X": {"max_removed_percent": 6, "max_removed_week_percent": 8.5, "max_removed_rows": 4}}}
    ).of_list("images")
    assert sync_label(large, [], range(2000, 2004)) is Outcome.PUBLISHED
    assert sync_label(large, range(3000, 3020), [2004]) is Outcome.PUBLISHED
    large.clock.forward(hours=25)
    assert sync_label(large, [], range(2005, 2008)) is Outcome.PUBLISHED, "3 in 24 hours, 8 in 7 days"
    assert sync_label(large, [], [2008]) is Outcome.HELD
    (hold,) = open_holds(large)
    (found,) = hold.findings
    assert (found.label, found.window, found.rows, found.before, found.of) == ("X", Period.WEEK, 1, 8, 96)
    end(large, hold.id)
    assert sync_label(large, [], range(2009, 2013)) is Outcome.PUBLISHED
    assert not large.pull().errors
    prove_feed(large)


def sync_label(world: World, added: Iterable[int], removed: Iterable[int]) -> Outcome:
    """The partner adds entries with label A, and removes some with label X."""
    world.clock.forward(minutes=5)
    world.publish(add=[row(number) for number in added], remove=[row(number, "X") for number in removed])
    return sync_list(world).outcome


@pytest.mark.on_both
def test_time_alone_releases_nothing(large: World) -> None:
    """When the window has moved on, a small delta is published beside the rows that wait."""
    for step in range(4):
        large.publish(remove=rows(step * 15, step * 15 + 15))
        listed = sync_list(large)
    assert listed.reasons == SHRUNK
    large.clock.forward(days=9)
    large.publish(add=[row(3000)])
    assert sync_list(large).reasons == SHRUNK
    assert count(large) == 1002 - 45 + 1
    assert len(open_holds(large)) == 1


def test_what_the_partner_takes_back_in_part_passes(large: World) -> None:
    """The hold ends by itself once the rest is small enough, and the rest goes live."""
    large.publish(remove=rows(0, 60))
    assert sync_list(large).reasons == SHRUNK
    large.publish(add=rows(0, 20))
    listed = sync_list(large)
    assert (listed.outcome, [ended.state for ended in listed.ended]) == (Outcome.PUBLISHED, [HoldState.PASSED])
    assert count(large) == 962
    assert open_holds(large) == ()
    assert not large.pull().errors
    prove_feed(large)


def test_other_limits_judge_again_what_waits(large: World) -> None:
    """A sync that finds nothing new does, and says what it published."""
    large.publish(remove=rows(0, 60))
    assert sync_list(large).reasons == SHRUNK
    listed = sync_list(large, ListLimits(max_removed_percent=10, max_removed_week_percent=10))
    assert (listed.outcome, [ended.state for ended in listed.ended]) == (Outcome.PUBLISHED, [HoldState.PASSED])
    assert count(large) == 942
    assert sync_list(large).outcome is Outcome.UP_TO_DATE


def test_a_first_version_that_is_too_small_waits_whole(world: World) -> None:
    """Its files are kept; other limits or a release publish it."""
    world.publish(full=rows(0, 5))
    strict = ListLimits(min_rows=10)
    assert sync_list(world, strict).reasons == (HoldReason.TOO_SMALL,)
    assert sync_list(world, strict).reasons == (HoldReason.TOO_SMALL,)
    (hold,) = open_holds(world)
    world.clock.forward(days=3)
    with world.publisher() as publisher:
        publisher.collect_garbage("iwf", world.clock())
        publisher.collector.leftovers(world.clock() + timedelta(days=3))
    end(world, hold.id)
    assert count(world) == 5


def test_a_label_that_nobody_knows_waits(world: World) -> None:
    """Its rows alone decide; a release of something else does not let them pass."""
    world.publish(full=rows(0, 100))
    known = ListLimits(known_labels=("A", "B", "C"))
    assert sync_list(world, known).outcome is Outcome.PUBLISHED
    algorithm, digest, entry, _ = row(200)
    world.publish(add=[(algorithm, digest, entry, "novel")])
    assert sync_list(world, known).reasons == (HoldReason.UNKNOWN_LABEL,)
    world.publish(add=[row(201)])
    assert sync_list(world, known).reasons == (HoldReason.UNKNOWN_LABEL,)
    assert count(world) == 100
    end(world, 1)
    assert count(world) == 101
    assert len(open_holds(world)) == 1


@pytest.mark.parametrize("key", ["max_removed_percent = -1", "max_removed_rows = 1.5", "max_remove = 3"])
def test_a_limit_that_is_none_is_named(world: World, key: str) -> None:
    """With its place in the file."""
    from syncd.config_file import load

    path = world.base / "config.toml"
    path.write_text(
        f'state_dir = "{world.base}/state"\n[sources.iwf]\nurl = "https://a.example/"\nroot = "/r.json"\n'
        f"[sources.iwf.gate]\n{key}\n"
    )
    with pytest.raises(ConfigError, match=r"sources\.iwf\.gate\.max_remove"):
        load(path)
