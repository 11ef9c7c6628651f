"""The road, from a partner's file to a matcher's answer."""

import json

import pytest

from syncd.errors import FeedError, MismatchError, RefusedError, UsageError
from syncd.feed.signed import load_repository
from syncd.model import Counts, Hit, ListName
from syncd.outcomes import Outcome
from syncd.pipeline import names
from syncd.trust import keys
from syncd.trust.values import Freshness
from world import HEAD, IMAGES, World, row, rows


def test_a_published_list_reaches_a_matcher(world: World) -> None:
    """What a partner publishes is what a matcher answers."""
    world.publish(full=rows(0, 300))
    outcome = world.sync()
    assert (outcome.exit_code, outcome.outcome, outcome.lists[0].plan) == (0, Outcome.PUBLISHED, "full:first")
    world.pull()
    assert world.hits(7) == [Hit(HEAD, 1, "e7", "B")]
    assert world.hits(300) == []


def test_a_delta_travels_as_the_very_segment_that_the_partner_made(world: World) -> None:
    """Where origin and head do not differ, the upstream's segment is published byte for byte."""
    world.publish(full=rows(0, 300))
    world.sync()
    world.publish(add=[row(300), row(7, "C")], remove=[row(5)])
    outcome = world.sync()
    assert outcome.lists[0].plan == "deltas"
    assert outcome.lists[0].counts == {"sha256": Counts(added=1, relabelled=1, removed=1)}
    assert outcome.lists[0].labels == {
        "sha256": {"A": Counts(added=1), "C": Counts(relabelled=1, removed=1)},
    }
    world.pull()
    assert [len(world.hits(number)) for number in (5, 6, 300)] == [0, 1, 1]
    assert world.hits(7)[0].label == "C"
    theirs = {path.name for path in world.partner.path("v1/images/segments").iterdir()}
    ours = {path.name for path in world.state.feed.path("v1/iwf.images/segments").iterdir()}
    assert ours == theirs


def test_nothing_new_makes_no_version(world: World) -> None:
    """A sync without news publishes nothing, and the same file again makes no version."""
    world.publish(full=rows(0, 30))
    world.sync()
    assert world.publish(full=rows(0, 30)).changed is False
    outcome = world.sync()
    assert (outcome.outcome, outcome.lists[0].version) == (Outcome.UP_TO_DATE, 1)


def test_the_same_content_again_signs_that_it_still_holds(world: World) -> None:
    """A partner without news keeps its feed from expiring by publishing the same file."""
    world.publish(full=rows(0, 3))
    world.clock.forward(hours=40)
    world.publish(full=rows(0, 3))
    world.clock.forward(hours=40)
    assert world.sync().exit_code == 0


def test_several_versions_at_once_become_one_step(world: World) -> None:
    """An operator who was away applies all deltas in order."""
    world.publish(full=rows(0, 30))
    world.sync()
    for number in range(30, 35):
        world.publish(add=[row(number)], remove=[row(number - 30)])
    outcome = world.sync()
    assert (outcome.lists[0].plan, outcome.lists[0].serial, outcome.lists[0].version) == ("deltas", 6, 2)
    world.pull()
    assert [bool(world.hits(number)) for number in (4, 5, 34)] == [False, True, True]


def test_a_gap_in_the_chain_is_closed_by_a_full_that_travels_as_a_delta(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the recent deltas the list is fetched whole, and matchers still receive only the difference."""
    world.publish(full=rows(0, 30))
    world.sync()
    monkeypatch.setattr("syncd.publish.change.RECENT", 4)  # 64 in life
    for number in range(30, 36):
        world.publish(add=[row(number)])
    outcome = world.sync()
    assert outcome.lists[0].plan == "full:chain_gap"
    assert outcome.lists[0].counts == {"sha256": Counts(added=6)}
    with world.publisher() as publisher:
        current = publisher.list_state("iwf", IMAGES).head
    assert current is not None
    assert [ref.rows for ref in current.recent[-1].segments] == [6]


def test_deltas_are_folded_and_a_matcher_folds_them_itself(world: World) -> None:
    """Stacks stay short; a follower that holds the inputs makes the folded segment without downloading it."""
    world.publish(full=rows(0, 3000))
    world.sync()
    world.pull()
    for number in range(3000, 3008):
        world.publish(add=[row(number)])
        world.sync()
        if number < 3007:
            world.pull()
    with world.publisher() as publisher:
        current = publisher.list_state("iwf", IMAGES).head
    assert current is not None
    assert [ref.rows for ref in current.stack] == [3000, 8]
    assert [len(fold.inputs) for fold in current.folds] == [8]
    folded = current.stack[-1]
    world.state.feed.segment_path(HEAD, folded).unlink()  # so that nobody can download it
    assert world.pull().errors == []
    assert all(world.hits(number) for number in (0, 2999, 3000, 3007))


def test_a_head_says_when_its_upstream_was_last_verified(world: World) -> None:
    """Freshness moves with each verification, is signed hourly, and tells "no news" from "dead"."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.clock.forward(hours=5)
    world.publish(full=rows(0, 3))
    world.sync()
    world.pull()
    world.clock.forward(hours=1)
    status = world.matcher().status()[0]
    assert status.age is not None
    assert status.age.total_seconds() == 3600
    assert status.expired == ()
    world.clock.forward(hours=72)
    assert world.matcher().status()[0].expired == ("timestamp",)
    assert world.hits(1), "an expired copy goes on answering"


def test_rejected_documents_are_kept_as_evidence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the partner about a rejected version can show what was signed; the newest few are kept."""
    world.publish(full=rows(0, 30))
    world.sync()

    def refuse(*_: object) -> None:
        raise MismatchError("not what was signed")

    monkeypatch.setattr("syncd.pipeline.stage.stage_deltas", refuse)
    for number in range(20):
        world.publish(add=[row(100 + number)])
        assert world.sync().exit_code == 4
    kept = list((world.state.source("iwf").work / "rejected").iterdir())
    assert len(kept) == 16
    document = json.loads(max(kept, key=lambda path: path.stat().st_mtime_ns).read_text())
    assert document["error"] == "MismatchError"
    assert json.loads(document["manifest"])["list"] == IMAGES
    assert "1.root.json" in document["metadata"]


def test_a_list_whose_name_is_too_long_keeps_no_other_back(world: World) -> None:
    """One list that cannot be published is named; the others, and other sources, go on."""
    world.publish(full=rows(0, 3), name=ListName("a" * 64))
    world.publish(full=rows(0, 30))
    outcome = world.sync()
    bad, good = outcome.lists
    assert (outcome.exit_code, bad.error.__class__, good.outcome) == (4, FeedError, Outcome.PUBLISHED)


def test_a_fault_of_ours_in_one_list_keeps_no_other_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a bug ends in an outcome, in the catalog as well, and shows nothing of the data."""
    world.publish(full=rows(0, 3))
    monkeypatch.setattr("syncd.pipeline.gate.judge", lambda *_: 1 / 0)
    outcome = world.sync()
    assert (outcome.exit_code, outcome.lists[0].outcome) == (1, Outcome.FAILED)
    assert str(outcome.lists[0].error) == "internal error (ZeroDivisionError)"
    with world.publisher() as publisher:
        assert publisher.catalog.recent_syncs()[0].outcome is Outcome.FAILED


def test_the_same_delta_twice_between_two_syncs(world: World) -> None:
    """Rows that were added, withdrawn and added again are one file, named twice, fetched once."""
    world.publish(full=rows(0, 30))
    world.publish(add=[row(99)])
    world.publish(remove=[row(99)])
    world.publish(add=[row(99)])
    assert world.sync().exit_code == 0
    world.pull()
    assert len(world.hits(99)) == 1


def test_a_dead_partner_does_not_make_the_operator_look_dead(world: World) -> None:
    """The operator's timestamp is signed hourly whatever the upstream does; how old the upstream is stays told."""
    world.publish(full=rows(0, 30))
    world.sync()
    for _ in range(3):
        world.clock.forward(hours=30)
        assert world.sync(url=(world.base / "gone").as_uri()).exit_code == 5
    assert world.pull().errors == []
    status = world.matcher().status()[0]
    assert status.expired == ()
    assert status.age is not None
    assert status.age.total_seconds() == 90 * 3600


def test_a_copy_is_made_only_where_it_harms_nothing(world: World) -> None:
    """A pull into a feed, or among other files, would one day collect them as garbage: it is refused."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.copy = world.state.feed.root
    with pytest.raises(UsageError, match="is a published feed"):
        world.pull()
    world.copy = world.base / "home"
    (world.copy / "metadata").mkdir(parents=True)
    with pytest.raises(UsageError, match="is neither empty nor a copy of a feed"):
        world.pull()
    (world.copy / "metadata").rmdir()
    world.copy.chmod(0o777)
    with pytest.raises(RefusedError, match="users other than its owner may write"):
        world.pull()
    assert list(world.copy.iterdir()) == []
    world.copy.chmod(0o755)
    assert world.pull().errors == []


@pytest.mark.parametrize(
    ("limit", "outcome", "said"),
    [
        ("MOST_OF_A_SOURCE", Outcome.REJECTED, "iwf has more than 2 lists, the maximum for a source"),
        ("MOST", Outcome.REFUSED, "2 lists are published already, which is the maximum"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_source_with_lists_without_end_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: str, outcome: Outcome, said: str, *, at_once: bool
) -> None:
    """A timestamp that is full could be signed no more, for any source. The lists there are go on."""
    monkeypatch.setattr(names, limit, 2)
    for number, name in enumerate("abc"):
        world.publish(full=rows(number, number + 1), name=ListName(name))
        if not at_once:
            world.sync()
    first = world.sync()
    assert (first.lists[2].outcome, str(first.lists[2].error)) == (outcome, said)
    assert not world.state.source("iwf").path("v1/c").exists()
    world.publish(add=[row(7)], name=ListName("b"))
    assert [one.outcome for one in world.sync().lists] == [Outcome.UP_TO_DATE, Outcome.PUBLISHED, outcome]
    assert not world.pull().errors
    assert len(world.hits(7)) == 1


def test_the_lists_of_all_sources_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second source gets what the first has left; what was published before goes on."""
    monkeypatch.setattr(names, "MOST", 3)
    for name in "ab":
        world.publish(full=rows(0, 3), name=ListName(name))
    assert world.sync().exit_code == 0
    second = world.sync(name="second")
    assert [one.outcome for one in second.lists] == [Outcome.PUBLISHED, Outcome.REFUSED]
    assert str(second.lists[1].error) == "3 lists are published already, which is the maximum"
    world.publish(add=[row(7)], name=ListName("b"))
    assert world.sync().lists[1].outcome is Outcome.PUBLISHED


def test_as_many_lists_as_may_be_fit_into_a_timestamp(world: World) -> None:
    """With names as long as they may be, and numbers as high."""
    told = {f"{number:03}".ljust(64, "x"): Freshness(world.clock(), (1 << 53) - 1) for number in range(names.MOST)}
    signers = keys.load_signers(world.state.keys, keys.ONLINE_ROLES)
    update = load_repository(world.state.feed).resign(told, signers, world.clock())
    assert 50_000 < len(dict(update.files)["timestamp.json"]) < 64_000
