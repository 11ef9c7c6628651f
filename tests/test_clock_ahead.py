"""A clock that ran ahead for a moment, and is right again: signing goes on, and no time stays in the future."""

from datetime import datetime, timedelta

import pytest

from syncd.errors import RefusedError
from syncd.feed import layout
from syncd.feed.signed import load_repository
from syncd.format.freshness import MaxAge, SourceAges
from syncd.operate.clock import accept_clock
from syncd.operate.repair import retrust
from syncd.pipeline.timestamp import sign_if_due
from world import HEAD, IMAGES, World, row, rows


@pytest.fixture
def ahead(world: World) -> World:
    """An operator that synced nine hours ahead of time, ten minutes after it had at the right time."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    world.clock.forward(minutes=10)
    sync_ahead(world, hours=9)
    return world


def sync_ahead(world: World, **by: float) -> None:
    """Sync while the clock is ahead; it is right again afterwards."""
    right = world.clock.now
    world.clock.forward(**by)
    assert world.sync().exit_code == 0
    world.clock.now = right


def signed(world: World) -> bool:
    """What the daemon does each minute; returns whether signing was due."""
    with world.publisher() as publisher:
        return sign_if_due(publisher, world.clock())


def accept(world: World) -> None:
    """The operator vouches for the present clock."""
    with world.publisher() as publisher:
        accept_clock(publisher, world.clock(), reason="the clock ran ahead", actor="tester", now=world.clock())


def verified_at(world: World) -> datetime:
    """When the list was last verified, as readers of the feed are told."""
    return load_repository(world.state.feed).freshness()[HEAD].verified_at


def expiries(world: World) -> dict[str, timedelta]:
    """How long each role's metadata is valid from now."""
    return {role: expires - world.clock() for role, expires in load_repository(world.state.feed).expiries().items()}


def test_the_daemon_signs_at_once_and_then_hourly(ahead: World) -> None:
    """It does not wait until the clock has caught up, and does not sign each minute until then."""
    assert verified_at(ahead) - ahead.clock() == timedelta(hours=9)
    assert [signed(ahead), signed(ahead)] == [True, False]
    assert expiries(ahead)["timestamp"] == timedelta(hours=48)
    ahead.clock.forward(minutes=59)
    assert not signed(ahead)
    ahead.clock.forward(minutes=1)
    assert signed(ahead)


def test_a_sync_that_is_refused_signs(ahead: World) -> None:
    """Without a daemon too: the source waits for the clock, what we vouch for does not."""
    outcome = ahead.sync()
    assert isinstance(outcome.error, RefusedError)
    assert verified_at(ahead) == ahead.clock()
    assert expiries(ahead)["timestamp"] == timedelta(hours=48)


def test_a_verification_in_the_future_becomes_one_of_now(ahead: World) -> None:
    """It was before now in any case: from here on its age is told, to matchers and by status."""
    signed(ahead)
    ahead.clock.forward(hours=2)
    signed(ahead)
    assert ahead.clock() - verified_at(ahead) == timedelta(hours=2)
    with ahead.publisher() as publisher:
        (origin,) = publisher.catalog.origins()
        source = publisher.catalog.source("iwf")
    assert source.last_verified_at == origin.verified_at == verified_at(ahead)
    assert not ahead.pull().errors
    (status,) = ahead.matcher().status()
    assert status.age == timedelta(hours=2)


def test_a_verification_alone_in_the_future_is_corrected(world: World) -> None:
    """Also where nothing was signed while the clock was ahead."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    sync_ahead(world, minutes=50)
    assert [signed(world), signed(world)] == [True, False]
    assert verified_at(world) == world.clock()


def test_what_clocks_may_differ_by_is_left_alone(world: World) -> None:
    """Five minutes."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    sync_ahead(world, minutes=5)
    assert not signed(world)


def test_no_role_stays_valid_for_longer_than_it_may(ahead: World) -> None:
    """The snapshot that was signed ahead is signed again."""
    right = ahead.clock.now
    ahead.clock.forward(hours=9)
    ahead.publish(add=[row(9)])
    assert ahead.sync().exit_code == 0
    ahead.clock.now = right
    signed(ahead)
    assert {role: left for role, left in expiries(ahead).items() if role in {"snapshot", "timestamp"}} == {
        "snapshot": timedelta(days=7),
        "timestamp": timedelta(hours=48),
    }


def test_a_clock_a_day_ahead_needs_a_person(world: World) -> None:
    """If it is wrong now, what it signed would expire at once: the cure is named, and works."""
    world.publish(full=rows(0, 9))
    sync_ahead(world, hours=30)
    with pytest.raises(RefusedError, match="the local clock runs backwards") as refused:
        signed(world)
    assert refused.value.hint.endswith("run `syncd clock accept TIME --reason R`")
    accept(world)
    assert not signed(world)
    assert verified_at(world) == world.clock()
    assert expiries(world)["timestamp"] == timedelta(hours=48)


def test_a_clock_a_day_behind_publishes_no_limits_of_age(world: World) -> None:
    """The sync is refused for its clock, and signs nothing, even if the operator has changed what it would publish."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    before = world.state.feed.read(layout.TIMESTAMP)
    world.clock.forward(days=-2)
    ages = SourceAges(MaxAge(warn=7200, critical=14400), {})
    assert world.sync(ages=ages).exit_code == 6
    assert world.state.feed.read(layout.TIMESTAMP) == before
    world.clock.forward(days=2)
    assert world.sync(ages=ages).exit_code == 0
    with world.publisher() as publisher:
        current = publisher.catalog.in_force(HEAD)
    assert current is not None
    assert current.manifest.max_age == ages.of(IMAGES)


def test_a_source_that_was_verified_ahead_is_followed_again(world: World) -> None:
    """The cure that the message names: the operator vouches for the clock with a reason."""
    world.publish(full=rows(0, 9))
    sync_ahead(world, hours=20)
    world.publish(add=[row(9)])
    refused = world.sync().error
    assert isinstance(refused, RefusedError)
    assert "`syncd clock accept TIME --reason R`" in refused.hint
    accept(world)
    assert world.sync().error is None


def test_another_root_accepts_no_clock(world: World) -> None:
    """There is one way to lower the floor of the clock, which names the time."""
    world.publish(full=rows(0, 9))
    sync_ahead(world, hours=20)
    with world.publisher() as publisher:
        retrust(publisher, world.source(), world.root.read_bytes(), "a new root", world.clock(), "tester")
    assert isinstance(world.sync().error, RefusedError)


def test_a_partner_publishes_on(world: World) -> None:
    """By itself, if its clock ran ahead by less than a day."""
    world.publish(full=rows(0, 9))
    assert world.sync().exit_code == 0
    right = world.clock.now
    world.clock.forward(hours=9)
    world.publish(add=[row(9)])
    world.clock.now = right
    assert world.publish(add=[row(10)]).version == 3
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    assert len(world.hits(10)) == 1
