"""When a follower pulls next: at once for news, patiently from a peer in trouble."""

import pytest

from syncd.errors import DeadlineExceeded, HttpStatusError, SyncdError, TrustError
from syncd.matcher.pace import Pacer
from syncd.model import ListName
from world import IMAGES

VIDEOS = ListName("videos")
SLOW = DeadlineExceeded("not finished")
BUSY = HttpStatusError("answered 503", 503, retry_after=30.0)
REJECTED = TrustError("not signed")


def pacer(*lists: ListName, chance: float = 0.5, interval: float = 60.0) -> Pacer:
    """One that has pulled version 7 at second 0."""
    made = Pacer(interval, lists, rng=lambda: chance)
    assert made.left(0.0) == 0.0
    made.pulled({IMAGES: 7}, (), 0.0)
    return made


def test_news_is_pulled_at_once_and_what_is_held_is_no_news() -> None:
    """The state at the beginning of a stream costs no pull where it tells nothing new."""
    one = pacer()
    one.announced({IMAGES: 7}, 5.0)
    assert one.left(5.0) == 55.0
    one.announced({IMAGES: 8}, 6.0)
    assert one.left(6.0) == 0.0


def test_a_new_list_is_news_only_where_no_list_was_named() -> None:
    """With --list, what is told of others is none of our business."""
    everything, some = pacer(), pacer(IMAGES)
    everything.announced({VIDEOS: 1}, 5.0)
    some.announced({VIDEOS: 1}, 5.0)
    assert (everything.left(5.0), some.left(5.0)) == (0.0, 55.0)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 480.0), (0.5, 600.0), (1.0, 720.0)])
def test_with_events_it_polls_every_ten_minutes(chance: float, seconds: float) -> None:
    """Give or take a fifth; and at the interval again, at the latest, once the stream is lost."""
    one = pacer(chance=chance)
    one.stream_changed(True, 10.0)
    assert one.left(10.0) == seconds
    assert one.pulled({IMAGES: 7}, (), 20.0) == seconds
    one.stream_changed(False, 20.0)
    assert one.left(20.0) == seconds / 10
    one.stream_changed(False, 30.0)
    assert one.left(30.0) == seconds / 10 - 10


def test_a_longer_interval_stays() -> None:
    """Events do not make it poll more often than it was told to."""
    one = pacer(interval=3600.0)
    one.stream_changed(True, 0.0)
    assert one.left(0.0) == 3600.0


def test_a_stream_opened_before_the_first_pull_does_not_put_it_off() -> None:
    """The first pull is due at once, whatever the stream says."""
    one = Pacer(60.0, rng=lambda: 0.5)
    one.stream_changed(True, 0.0)
    assert one.left(0.0) == 0.0


def test_news_do_not_hurry_a_peer_in_trouble() -> None:
    """Nor do they get lost: the next pull brings them. One whose stream is open is asked again within seconds."""
    one = pacer()
    assert one.pulled({IMAGES: 7}, [SLOW], 0.0) == 60.0
    one.announced({IMAGES: 8}, 1.0)
    assert one.left(1.0) == 59.0
    one.stream_changed(True, 2.0)
    assert one.left(2.0) == 0.5
    assert [one.pulled({IMAGES: 7}, [SLOW], 3.0) for _ in range(3)] == [2.0, 4.0, 8.0]


def test_retry_after_is_kept_also_where_the_stream_comes_back() -> None:
    """A peer that asks for patience gets it."""
    one = pacer()
    seconds = one.pulled({IMAGES: 7}, [BUSY], 0.0)
    assert seconds > 30.0
    one.stream_changed(True, 1.0)
    assert one.left(1.0) == seconds - 1.0


def test_a_mirror_that_lags_behind_its_events_is_asked_less_and_less() -> None:
    """Told of version 8 and still given 7: again soon, with doubling pauses; then it is as if nothing had been."""
    one = pacer()
    one.stream_changed(True, 0.0)
    one.announced({IMAGES: 8}, 0.0)
    assert [one.pulled({IMAGES: 7}, (), 0.0) for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert one.pulled({IMAGES: 8}, (), 0.0) == 600.0


@pytest.mark.parametrize("error", [REJECTED], ids=["rejected"])
def test_a_rejected_version_is_asked_for_at_the_usual_pace(error: SyncdError) -> None:
    """Events or not: the alarm goes on at the interval, and asks for nothing twice at once."""
    one = pacer()
    one.stream_changed(True, 0.0)
    one.announced({IMAGES: 8}, 0.0)
    assert one.pulled({IMAGES: 7}, [error], 0.0) == 60.0
    one.pulled_elsewhere({IMAGES: 7}, 1.0)
    assert one.left(1.0) > 0.0


def test_what_another_process_pulled_counts() -> None:
    """Its pull puts ours off, unless there is newer news by now."""
    one = pacer()
    one.announced({IMAGES: 8}, 10.0)
    one.pulled_elsewhere({IMAGES: 8}, 10.0)
    assert one.left(10.0) == 60.0
    one.announced({IMAGES: 10}, 20.0)
    one.pulled_elsewhere({IMAGES: 9}, 20.0)
    assert one.left(20.0) == 0.0
    one.pulled_elsewhere({IMAGES: 10}, 20.0)
    assert one.left(20.0) == 60.0


def test_a_feed_that_went_back_is_believed() -> None:
    """The last word counts: versions that were told before and are gone keep nobody waiting."""
    one = pacer()
    one.announced({IMAGES: 12}, 0.0)
    one.announced({IMAGES: 7}, 1.0)
    assert one.pulled({IMAGES: 7}, (), 2.0) == 60.0
