"""A copy that lost its `current.json`, as our own advice has it: no pull makes a list go away from running matchers."""

import shutil
from pathlib import Path

import pytest

from straight import pulled, world
from syncd.errors import RollbackError, SyncdError, UnknownListError, UsageError
from syncd.feed.folder import FeedFolder
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.copy import read_current, write_current
from syncd.matcher.pull import PullResult, pull
from syncd.model import ListName
from world import IMAGES, World, row, rows

__all__ = ["pulled", "world"]  # fixtures

VIDEOS = ListName("videos")


@pytest.fixture
def two(world: World) -> World:
    """A copy of two lists: images with numbers 0 to 8, videos with 20 to 23."""
    world.publish(full=rows(20, 24), name=VIDEOS)
    assert not world.follow().errors
    return world


def opened(world: World) -> Matcher:
    return Matcher.open(world.mirror, clock=world.clock)


def current(world: World) -> Path:
    return world.mirror / "current.json"


def publish_broken(world: World) -> Path:
    """The partner publishes images with number 9, whose segment its mirror has not got whole; returns the mirror's."""
    before = set(world.partner.root.rglob("*.arrow"))
    world.publish(add=[row(9)])
    (segment,) = set(world.partner.root.rglob("*.arrow")) - before
    shutil.copy(segment, world.base / "whole")
    segment.write_bytes(segment.read_bytes()[:-1])
    return segment


def follow_only(world: World, *names: ListName) -> PullResult:
    return pull(Endpoint(world.url), world.root.read_bytes(), world.mirror, now=world.clock(), lists=names)


def refused(world: World) -> SyncdError:
    """What a pull that makes nothing current raises."""
    with pytest.raises(SyncdError) as caught:
        world.follow()
    assert not current(world).exists()
    return caught.value


def test_a_failed_pull_makes_no_generation_current_that_lacks_a_list(two: World) -> None:
    """The running matcher answers on from both lists, and the next pull that succeeds brings both up to date."""
    matcher = opened(two)
    segment = publish_broken(two)
    current(two).unlink()
    error = refused(two)
    assert error.exit_code in {4, 5}
    assert error.serving == "the versions that running matchers have loaded; the copy has no current.json"
    assert error.hint.endswith("correct this and pull again, or name the lists to hold")
    with pytest.raises(UsageError, match="is not a pulled copy"):
        matcher.reload()
    assert [len(two.hits(number, matcher)) for number in (4, 20)] == [1, 1]
    shutil.copy(two.base / "whole", segment)
    assert not two.follow().errors
    assert matcher.reload()
    assert [len(two.hits(number, matcher)) for number in (4, 9, 20)] == [1, 1, 1]


def test_what_a_refused_pull_brought_is_not_fetched_again(two: World) -> None:
    """Only the segment that was broken is still missing."""
    segment = publish_broken(two)
    two.publish(add=[row(24)], name=VIDEOS)
    current(two).unlink()
    refused(two)
    shutil.copy(two.base / "whole", segment)
    two.partner.root.joinpath("v1/videos/segments").rename(two.base / "away")
    assert not two.follow().errors
    assert opened(two).versions == {IMAGES: 2, VIDEOS: 2}


def test_a_list_that_the_feed_no_longer_has_is_not_forgotten(two: World) -> None:
    """It was in the copy: leaving it out is for a person to decide."""
    (two.mirror / "v1/images").rename(two.mirror / "v1/gone")
    current(two).unlink()
    assert isinstance(refused(two), UnknownListError)
    assert not follow_only(two, IMAGES, VIDEOS).errors
    assert opened(two).versions == {IMAGES: 1, VIDEOS: 1}


def test_lists_may_be_left_out_on_purpose(two: World) -> None:
    """A matcher that starts takes the copy as it is; one that runs refuses to lose a list until it is restarted."""
    matcher = opened(two)
    publish_broken(two)
    current(two).unlink()
    assert not follow_only(two, VIDEOS).errors
    assert opened(two).versions == {VIDEOS: 1}
    with pytest.raises(RollbackError, match="the copy no longer holds images") as caught:
        matcher.reload()
    assert caught.value.hint == "pull again; if the lists were removed on purpose, restart this process"
    assert matcher.versions == {IMAGES: 1, VIDEOS: 1}
    assert matcher.last_error is caught.value


def test_a_list_that_is_back_is_loaded(two: World) -> None:
    """Nothing but a pull is needed where a list was missing for a while."""
    matcher = opened(two)
    current(two).unlink()
    follow_only(two, VIDEOS)
    with pytest.raises(RollbackError):
        matcher.reload()
    assert not two.follow().errors
    assert matcher.reload()
    assert (matcher.last_error, matcher.versions) == (None, {IMAGES: 1, VIDEOS: 1})


def test_an_emptied_current_json_empties_no_matcher(two: World) -> None:
    """Whoever wrote it, and however well formed it is."""
    matcher = opened(two)
    folder = FeedFolder(two.mirror)
    found = read_current(folder)
    assert found is not None
    write_current(folder, found.model_copy(update={"lists": {}}))
    with pytest.raises(RollbackError, match="the copy no longer holds images, videos"):
        matcher.reload()
    assert len(two.hits(4, matcher)) == 1


def test_a_first_pull_that_brings_nothing_leaves_no_copy(world: World) -> None:
    """A matcher that starts there is told so, and does not answer from no list."""
    publish_broken(world)
    shutil.rmtree(world.mirror)
    assert len(world.follow().errors) == 1
    with pytest.raises(UsageError, match="is not a pulled copy"):
        opened(world)


def test_a_copy_without_any_state_of_a_pull_is_still_one(two: World) -> None:
    """As the advice for a clock that ran ahead has it: current.json and .work/trust removed, then pulled again."""
    matcher = opened(two)
    current(two).unlink()
    shutil.rmtree(two.mirror / ".work" / "trust")
    assert not two.follow().errors
    assert matcher.reload()
    assert matcher.versions == {IMAGES: 1, VIDEOS: 1}
