"""Freshness as a promise: signed limits, and what a matcher makes of them when nobody else is alive."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Ran, configure, operate, settings, syncd
from syncd.errors import StaleList, UsageError
from syncd.feed.layout import target_name
from syncd.feed.signed import load_repository
from syncd.format.freshness import UNSTATED, AgeVerdict, MaxAge, SourceAges, judge_age, usual_limits
from syncd.format.manifest import Manifest
from syncd.matcher import Matcher
from syncd.matcher.age import stale_list
from syncd.model import ListName
from syncd.operate.retire import retire
from syncd.outcomes import Outcome
from syncd.pipeline.timestamp import sign_if_due
from world import HEAD, IMAGES, World, row, rows

LIMITS = MaxAge(warn=7200, critical=36000)
AGES = SourceAges(LIMITS)
VIDEOS = ListName("iwf.videos")


@dataclass
class Timer:
    """A monotonic clock that stands still until it is moved."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def timer() -> Timer:
    """The process's own clock."""
    return Timer()


@pytest.fixture
def pulled(world: World) -> World:
    """A matcher's host with a fresh copy of one list; from here on nobody syncs or pulls unless a test does."""
    world.publish(full=rows(0, 9))
    world.sync(ages=AGES)
    world.pull()
    return world


def opened(world: World, timer: Timer, **options: Any) -> Matcher:
    return Matcher.open(world.copy, clock=world.clock, timer=timer, **options)


def go_on(world: World, timer: Timer, **kinds: float) -> None:
    """Let time pass, for the host and its processes alike."""
    world.clock.forward(**kinds)
    timer.seconds += timedelta(**kinds).total_seconds()


def digest(number: int) -> bytes:
    return bytes.fromhex(row(number)[1])


def head(world: World, name: ListName = HEAD) -> Manifest:
    """The version that is published."""
    target = load_repository(world.state.feed).targets()[target_name(name)]
    return world.state.feed.manifest(name, target.sha256)


# the judgement


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (0, "fresh"),
        (7199, "fresh"),
        (7200, "warn"),
        (35999, "warn"),
        (36000, "stale"),
        (-300, "fresh"),
        (-301, "stale"),
    ],
)
def test_an_age_is_judged_from_the_limits_on(age: int, verdict: str) -> None:
    """A list that was verified in the future has no known age; a few minutes between clocks are nothing."""
    assert judge_age(timedelta(seconds=age), LIMITS) == verdict


def test_an_age_that_nobody_states_is_stale() -> None:
    """Nobody vouches for it."""
    assert judge_age(None, LIMITS) is AgeVerdict.STALE


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_list_never_looks_better_as_it_grows_older(age: int, older: int, warn: int, more: int) -> None:
    """Whatever its limits are."""
    order, limits = list(AgeVerdict), MaxAge(warn=warn, critical=warn + more)
    judged = [judge_age(timedelta(seconds=seconds), limits) for seconds in (age, age + older)]
    assert order.index(judged[0]) <= order.index(judged[1])


@pytest.mark.parametrize(("interval", "warn"), [(60, 3600), (600, 3600), (3600, 10800), (86400, 259200)])
def test_limits_follow_from_the_interval(interval: float, warn: int) -> None:
    """Three intervals, at least an hour; six hours more."""
    assert usual_limits(interval) == MaxAge(warn=warn, critical=warn + 21600)


# the signed limits


def test_the_first_version_states_the_limits(pulled: World) -> None:
    """And every later one."""
    assert (head(pulled).version, head(pulled).max_age) == (1, LIMITS)
    pulled.publish(add=[row(20)])
    pulled.sync(ages=AGES)
    assert (head(pulled).version, head(pulled).max_age) == (2, LIMITS)


@pytest.mark.parametrize("reachable", [True, False])
def test_new_limits_are_a_version_with_the_same_rows(pulled: World, reachable: bool) -> None:
    """At the next sync, even if the source is down: that may be why they were raised. Once; then nothing is to do."""
    before, raised = head(pulled), SourceAges(MaxAge(warn=7200, critical=864000))
    if not reachable:
        pulled.partner.path("metadata/timestamp.json").unlink()
    for _ in range(2):
        outcome = pulled.sync(ages=raised).outcome
        assert outcome is (Outcome.UP_TO_DATE if reachable else Outcome.UNREACHABLE)
        after = head(pulled)
        assert (after.version, after.max_age) == (2, raised.usual)
        assert (after.end_state, after.stack, after.origin) == (before.end_state, before.stack, before.origin)
    assert pulled.pull().errors == []
    (status,) = pulled.matcher().status()
    assert (status.version, status.max_age) == (2, raised.usual)
    assert pulled.hits(4) != []


def test_a_dry_run_publishes_no_limits(pulled: World) -> None:
    """It changes nothing."""
    pulled.sync(ages=SourceAges(MaxAge(warn=60, critical=90)), dry_run=True)
    assert head(pulled).version == 1


def test_a_list_without_limits_gets_them(world: World) -> None:
    """It was published by an older syncd; until then a reader has limits of its own."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.pull()
    assert head(world).max_age is None
    assert [one.max_age for one in world.matcher().status()] == [UNSTATED]
    world.sync(ages=AGES)
    assert (head(world).version, head(world).max_age) == (2, LIMITS)


def test_a_list_may_have_limits_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the configuration says, to the manifest; the other lists keep those of the source."""
    operate(world, monkeypatch)
    table = '[sources.iwf.ages.videos]\nmax_age_critical = "2d"\n'
    configure(world.base / "syncd.toml", settings(world, f'max_age_warn = "2h"\n{table}'), monkeypatch)
    world.publish(full=rows(0, 3))
    world.publish(full=rows(3, 6), name=ListName("videos"))
    assert syncd("sync").code == 0
    assert head(world).max_age == MaxAge(warn=7200, critical=28800)
    assert head(world, VIDEOS).max_age == MaxAge(warn=7200, critical=172800)
    world.clock.forward(hours=9)
    listed = syncd("status", "--json").json["lists"]
    assert [(one["list"], one["freshness"]) for one in listed] == [("iwf.images", "stale"), ("iwf.videos", "warn")]


def test_a_configuration_that_changes_reaches_the_manifests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next sync; the page of versions says why there is a new one."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    assert syncd("sync").code == 0
    configure(world.base / "syncd.toml", settings(world, 'max_age_warn = "2h"\n'), monkeypatch)
    assert syncd("sync").code == 0
    assert head(world).max_age == MaxAge(warn=7200, critical=28800)
    shown = syncd("snapshots", HEAD, "--json").json["snapshots"]
    assert [(one["version"], one["rows"]) for one in shown] == [(2, 3), (1, 3)]
    assert syncd("verify").code == 0


def test_the_largest_distance_of_near_matches_travels_with_the_limits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the configuration to the manifest, for each list, and back when the key is removed; matchers obey it."""
    listed, asked = b"\x60" * 32, b"\x60" * 31 + b"\x7f"
    operate(world, monkeypatch)
    world.publish(full=[("pdq", listed.hex(), "e", "A")])
    world.publish(full=[("pdq", listed.hex(), "e", "A")], name=ListName("videos"))
    found = []
    for text in ("", "max_distance = 4\ndistances = { videos = 5 }\n", ""):
        configure(world.base / "syncd.toml", settings(world, text), monkeypatch)
        if text:
            world.publish(add=[row(9)])  # with news, one version states both
        assert syncd("sync").code == 0
        world.pull()
        with world.matcher() as matcher:
            found.append([str(hit.list) for hit in matcher.near("pdq", asked)])
            stated = [(one.version, one.max_distance) for one in matcher.status()]
        with Matcher.open(world.copy, farthest={"iwf.videos": 4}) as matcher:
            assert "iwf.videos" not in [str(hit.list) for hit in matcher.near("pdq", asked)]
        assert stated == [(len(found), distance) for distance in ((4, 5) if text else (63, 63))]
    assert found == [["iwf.images", "iwf.videos"], ["iwf.videos"], ["iwf.images", "iwf.videos"]]


def test_compaction_and_retirement_keep_the_limits(pulled: World) -> None:
    """What does not sync knows no configuration."""
    pulled.publish(add=[row(20)])
    pulled.sync(ages=AGES)
    with pulled.publisher() as publisher:
        assert publisher.compact(HEAD, pulled.clock(), everything=True) is not None
        assert (head(pulled).version, head(pulled).max_age) == (3, LIMITS)
        retire(publisher, HEAD, (), actor="me", reason="it ended", now=pulled.clock())
    assert (head(pulled).version, head(pulled).max_age) == (4, LIMITS)


def test_the_timestamp_is_signed_before_matchers_would_warn(pulled: World) -> None:
    """Every hour, or after a quarter of the shortest limit: they learn of a verification from nothing else."""
    with pulled.publisher() as publisher:
        pulled.clock.forward(minutes=29)
        assert not sign_if_due(publisher, pulled.clock(), (AGES, None))
        pulled.clock.forward(minutes=1)
        assert not sign_if_due(publisher, pulled.clock())
        assert sign_if_due(publisher, pulled.clock(), (AGES, None))
        pulled.clock.forward(minutes=60)
        assert sign_if_due(publisher, pulled.clock(), (SourceAges(MaxAge(warn=864000, critical=864000)),))


def test_a_sync_signs_for_its_own_source(pulled: World) -> None:
    """Half an hour later, with nothing new."""
    pulled.clock.forward(minutes=30)
    pulled.sync(ages=AGES)
    pulled.pull()
    assert [one.age for one in pulled.matcher().status()] == [timedelta(0)]


# a matcher with nobody else alive


def test_status_judges_the_copy_alone(pulled: World, timer: Timer) -> None:
    """With the feed gone: age, limits and verdict are in the copy."""
    pulled.state.feed.path("metadata/timestamp.json").unlink()
    matcher, seen = opened(pulled, timer), []
    for hours in (0, 2, 8):
        go_on(pulled, timer, hours=hours)
        (status,) = matcher.status()
        seen.append((status.age, status.freshness, status.max_age))
    assert seen == [
        (timedelta(0), AgeVerdict.FRESH, LIMITS),
        (timedelta(hours=2), AgeVerdict.WARN, LIMITS),
        (timedelta(hours=10), AgeVerdict.STALE, LIMITS),
    ]


def test_a_stale_list_is_served_unless_the_owner_refuses(pulled: World, timer: Timer) -> None:
    """An answer or an error, never "no match" for what is on the list."""
    serving, refusing = opened(pulled, timer), opened(pulled, timer, stale="refuse")
    go_on(pulled, timer, hours=10, seconds=-1)
    assert len(serving.lookup("sha256", digest(4))) == len(refusing.lookup("sha256", digest(4))) == 1
    go_on(pulled, timer, seconds=1)
    assert len(serving.lookup("sha256", digest(4))) == 1
    assert serving.lookup_many("sha256", [digest(4)]).tolist() == [True]
    with pytest.raises(StaleList) as refused:
        refusing.lookup("sha256", digest(4))
    assert refused.value.message == (
        "the list iwf.images is stale: it was last verified 10 hours ago (stale after 10 hours)"
    )
    assert refused.value.hint.startswith("pull again; if that changes nothing, ask the feed's operator")
    found = refused.value
    assert (found.name, found.age, found.limit, found.exit_code) == (HEAD, timedelta(hours=10), timedelta(hours=10), 6)
    with pytest.raises(StaleList):
        refusing.lookup_many("sha256", [digest(99)])
    with pytest.raises(StaleList):
        opened(pulled, timer, stale="refuse").lookup("md5", bytes(16))


def test_other_lists_are_answered_and_retired_ones_skipped(pulled: World, timer: Timer) -> None:
    """A look-up is refused only if it would search a stale list."""
    pulled.publish(full=rows(3, 6), name=ListName("videos"))
    pulled.sync(ages=SourceAges(LIMITS, {ListName("videos"): MaxAge(warn=86400, critical=864000)}))
    pulled.pull()
    matcher = opened(pulled, timer, stale="refuse")
    go_on(pulled, timer, hours=11)
    assert [hit.list for hit in matcher.lookup("sha256", digest(4), lists=[VIDEOS])] == [VIDEOS]
    assert matcher.lookup_many("sha256", [digest(4)], lists=VIDEOS).tolist() == [True]
    for lists in ((), [HEAD], [VIDEOS, HEAD], HEAD):
        with pytest.raises(StaleList):
            matcher.lookup("sha256", digest(4), lists=lists)
    with pulled.publisher() as publisher:
        retire(publisher, HEAD, (), actor="me", reason="it ended", now=pulled.clock())
    pulled.pull()
    matcher.reload()
    assert [hit.list for hit in matcher.lookup("sha256", digest(4))] == [VIDEOS]
    assert [(one.list, one.freshness) for one in matcher.status()] == [(HEAD, None), (VIDEOS, "fresh")]


def test_a_newer_verification_ends_the_refusal_at_once(pulled: World, timer: Timer) -> None:
    """Without a restart, and without a new version."""
    matcher = opened(pulled, timer, stale="refuse")
    go_on(pulled, timer, hours=11)
    with pytest.raises(StaleList):
        matcher.lookup("sha256", digest(4))
    pulled.sync(ages=AGES)
    pulled.pull()
    assert matcher.reload()
    assert [hit.version for hit in matcher.lookup("sha256", digest(4))] == [1]


def test_look_ups_read_the_clock_once_a_second(pulled: World, timer: Timer) -> None:
    """However many there are; those of a matcher that serves never do."""
    read = []

    def clock() -> Any:
        read.append(1)
        return pulled.clock()

    serving = Matcher.open(pulled.copy, clock=clock, timer=timer)
    refusing = Matcher.open(pulled.copy, clock=clock, timer=timer, stale="refuse")
    read.clear()
    counts = []
    for seconds in (0.0, 0.9, 0.1):
        timer.seconds += seconds
        for _ in range(100):
            serving.lookup("sha256", digest(4))
            refusing.lookup("sha256", digest(4))
        counts.append(len(read))
    assert counts == [1, 1, 2]


def test_a_policy_that_does_not_exist_is_a_usage_error(pulled: World, timer: Timer) -> None:
    """A misspelt one must not mean "serve"."""
    with pytest.raises(UsageError, match="stale is neither 'serve' nor 'refuse'"):
        opened(pulled, timer, stale="refused")


def test_a_feed_that_states_no_time_is_named(timer: Timer) -> None:
    """Its operator has to be asked."""
    error = stale_list(IMAGES, None, LIMITS)
    assert error.message == "the list images is stale: its feed does not say when it was last verified"
    assert error.hint.startswith("ask the feed's operator; ")


# wrong clocks


def test_a_clock_that_is_set_back_makes_no_list_younger(pulled: World, timer: Timer) -> None:
    """The process counts on from the load."""
    matcher = opened(pulled, timer, stale="refuse")
    go_on(pulled, timer, hours=1)
    pulled.clock.forward(hours=-4)
    go_on(pulled, timer, hours=8)
    assert len(matcher.lookup("sha256", digest(4))) == 1
    assert [(one.age, one.freshness) for one in matcher.status()] == [(timedelta(hours=9), "warn")]
    go_on(pulled, timer, hours=1)
    with pytest.raises(StaleList, match="last verified 10 hours ago"):
        matcher.lookup("sha256", digest(4))


def test_a_clock_behind_the_signed_time_is_noticed_at_the_start(pulled: World, timer: Timer) -> None:
    """Nobody knows how old the copy is. It is answered again once the clock is right."""
    pulled.clock.forward(minutes=-5)
    assert len(opened(pulled, timer, stale="refuse").lookup("sha256", digest(4))) == 1
    pulled.clock.forward(minutes=-10)
    matcher = opened(pulled, timer, stale="refuse")
    with pytest.raises(StaleList, match="the local clock is 15 minutes behind its last verification") as refused:
        matcher.lookup("sha256", digest(4))
    assert refused.value.hint.startswith("correct the clock; ")
    pulled.clock.forward(minutes=16)
    timer.seconds += 1
    assert len(matcher.lookup("sha256", digest(4))) == 1


def test_a_clock_that_runs_ahead_refuses_until_it_is_right(pulled: World, timer: Timer) -> None:
    """Too early rather than too late."""
    matcher = opened(pulled, timer, stale="refuse")
    pulled.clock.forward(hours=12)
    timer.seconds += 1
    with pytest.raises(StaleList):
        matcher.lookup("sha256", digest(4))
    pulled.clock.forward(hours=-12)
    timer.seconds += 1
    assert len(matcher.lookup("sha256", digest(4))) == 1


# the command line


@pytest.fixture
def host(pulled: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The matcher's host, without any configuration."""
    operate(pulled, monkeypatch)
    monkeypatch.setenv("SYNCD_CONFIG", str(pulled.base / "absent.toml"))
    return pulled


def test_status_of_a_copy_shows_age_and_limits(host: World) -> None:
    """No configuration, no daemon, no network."""
    host.clock.forward(hours=3)
    ran = syncd("status", host.copy)
    assert " ".join(ran.out.splitlines()[1].split()) == "iwf.images 1 9 3 hours ago late 2 hours 10 hours"
    late = "iwf.images is late: it was last verified 3 hours ago (late after 2 hours, stale after 10 hours)"
    assert (ran.code, ran.err) == (0, f"warning: {late}\n")
    (listed,) = syncd("status", host.copy, "--json").json["lists"]
    assert (listed["age_seconds"], listed["max_age"], listed["freshness"]) == (
        10800,
        {"warn": 7200, "critical": 36000},
        "warn",
    )
    assert syncd("status", host.copy, "--check") == Ran(
        1, f"SYNCD WARNING - {late} | 'iwf.images'=10800s;7200;36000\n", ""
    )


def test_check_of_a_copy_speaks_nagios(host: World, timer: Timer) -> None:
    """Fresh, stale, with expired metadata, and no copy at all."""
    data = "'iwf.images'={}s;7200;36000"
    assert syncd("status", host.copy, "--check") == Ran(
        0, f"SYNCD OK - 1 list, the oldest verified 0 seconds ago | {data.format(0)}\n", ""
    )
    host.clock.forward(days=3)
    stale = "iwf.images is stale: it was last verified 3 days ago (stale after 10 hours)"
    assert syncd("status", host.copy, "--check") == Ran(
        2,
        f"SYNCD CRITICAL - {stale}; its timestamp metadata expired; pull again | {data.format(259200)}\n",
        "",
    )
    assert syncd("status", host.base / "nothing", "--check") == Ran(
        3, f"SYNCD UNKNOWN - {host.base}/nothing is not a pulled copy\n", ""
    )
    assert syncd("status", host.base / "nothing").code == 2


def test_a_copy_of_retired_lists_is_well(host: World) -> None:
    """Their age does not matter."""
    with host.publisher() as publisher:
        retire(publisher, HEAD, (), actor="me", reason="it ended", now=host.clock())
    host.pull()
    host.clock.forward(hours=20)
    assert syncd("status", host.copy, "--check") == Ran(0, "SYNCD OK - 1 list, retired\n", "")
    assert "retired on 2026-01-01" in syncd("status", host.copy).out


def test_a_look_up_refuses_a_stale_copy_if_asked(host: World) -> None:
    """An error in place of the answer; by default the answer, with a warning."""
    host.clock.forward(hours=10)
    known = f"sha256:{row(4)[1]}"
    served = syncd("lookup", host.copy, known)
    stale = "iwf.images is stale: it was last verified 10 hours ago (stale after 10 hours)"
    assert (served.code, served.err) == (0, f"warning: {stale}\n")
    refused = syncd("lookup", host.copy, known, "--refuse-stale")
    assert (refused.code, refused.out, refused.err.splitlines()[0]) == (6, "", f"error: the list {stale}")
    assert syncd("lookup", host.copy, known, "--refuse-stale", "--json").json["error"]["kind"] == "StaleList"
    assert syncd("match", host.copy, host.root, "--refuse-stale").code == 6
    host.clock.forward(hours=-9)
    assert syncd("lookup", host.copy, known, "--refuse-stale").code == 0
