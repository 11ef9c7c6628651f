"""Every change of the state, and every act of an operator, is in the audit log."""

import getpass
import json
import signal

import pytest

from command_line import configure, operate, place, syncd
from syncd import __version__
from syncd.acts import (
    AUTOMATIC,
    AcceptedClock,
    Act,
    AskedForSync,
    BackedUpState,
    Discarded,
    EndedHold,
    OpenedHold,
    PublishedVersion,
    Released,
    ReloadedConfiguration,
    Retired,
    RolledBack,
    StartedDaemon,
    StoppedDaemon,
    Suppressed,
    SuppressionsExpired,
    SuppressionsExtended,
    Unpinned,
    Unsuppressed,
)
from syncd.operate.retire import retire
from syncd.operate.suppression_ends import expire
from test_daemon import daemon, text, today  # noqa: F401 - a fixture
from world import HEAD, World, row, rows

ME = getpass.getuser()


def log(world: World, after: int = 0) -> list[tuple[str, Act]]:
    """Actors and acts, the oldest first."""
    with world.publisher() as publisher:
        return [(one.entry.actor, one.entry.act) for one in publisher.catalog.audit_records() if one.number > after]


def length(world: World) -> int:
    with world.publisher() as publisher:
        return publisher.catalog.audit_head().records


def test_a_sync_names_the_version_that_it_published(world: World) -> None:
    """And nothing if nothing changed."""
    world.publish(full=rows(0, 3))
    first = world.sync()
    known = length(world)
    assert log(world)[-1] == (AUTOMATIC, PublishedVersion(HEAD, 1, 3, first.lists[0].plan, first.sync_id))
    world.sync()
    assert length(world) == known


def test_a_sync_without_a_daemon_names_its_user(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a dry run."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    before = length(world)
    sync_id = syncd("sync", "--json").json["syncs"][0]["sync_id"]
    asked, published = log(world, before)
    assert asked == (ME, AskedForSync("iwf", sync_id, dry_run=False, joined=False))
    assert published[1].document()["sync_id"] == sync_id
    syncd("sync", "--dry-run")
    assert [type(act) for _, act in log(world, before + 2)] == [AskedForSync]


@pytest.mark.on_both
def test_a_hold_is_recorded_when_it_opens_and_when_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, or by whose act."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(remove=rows(0, 3))
    before = length(world)
    world.sync()
    ((actor, opened),) = log(world, before)
    assert isinstance(opened, OpenedHold)
    assert (actor, opened.hold, opened.list, opened.lane, opened.rows) == (AUTOMATIC, "1", HEAD, "removals", 3)
    assert opened.words == "held 3 rows (removals) of iwf.images as hold 1: emptied"
    world.publish(full=rows(0, 3))
    world.sync()
    acts = log(world, before + 1)
    assert [act.words for _, act in acts if isinstance(act, EndedHold)] == [
        "hold 1 of iwf.images (removals) ended: withdrawn"
    ]
    world.publish(remove=rows(0, 3))
    world.sync()
    before = length(world)
    assert syncd("release", "2", "--reason", "asked them").code == 0
    acts = log(world, before)
    assert {type(act) for _, act in acts} == {PublishedVersion, Released}
    assert {actor for actor, _ in acts} == {ME}


@pytest.mark.on_both
def test_a_retirement_names_the_hold_that_it_ended(world: World) -> None:
    """In the name of who retired the list."""
    world.publish(full=rows(0, 3))
    world.sync()
    world.publish(remove=rows(0, 3))
    world.sync()
    before = length(world)
    with world.publisher() as publisher:
        retire(publisher, HEAD, (), actor="alice", reason="moved", now=world.clock())
    acts = log(world, before)
    assert [type(act).__name__ for _, act in acts] == ["PublishedVersion", "EndedHold", "Retired"]
    assert {actor for actor, _ in acts} == {"alice"}


def test_a_backup_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it holds: it leaves the host."""
    operate(world, monkeypatch)
    target = world.base / "b.tar"
    before = length(world)
    assert syncd("backup", target, "--with-keys").code == 0
    assert log(world, before) == [(ME, BackedUpState(str(target), with_keys=True, with_segments=True))]


def test_start_reload_and_stop_of_the_daemon_are_recorded(today: World) -> None:  # noqa: F811 - the fixture
    """With names of settings, never with values."""
    config = today.base / "syncd.toml"
    before = length(today)
    with daemon(today) as running:
        config.write_text(text(today).replace('"1d"', '"2d"', 1))
        running.send(signal.SIGHUP)
        running.until("config_reloaded")
        running.stop()
    acts = [one for one in log(today, before) if not isinstance(one[1], PublishedVersion)]
    assert acts == [
        (ME, StartedDaemon(__version__, ("iwf",))),
        (ME, ReloadedConfiguration((), (), ("iwf.interval",))),
        (ME, StoppedDaemon("SIGTERM")),
    ]


def test_the_log_of_automatic_acts_can_be_told_from_those_of_people(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No matcher may take that name."""
    operate(world, monkeypatch)
    world.publish(full=[row(1)])
    world.sync()
    (record,) = syncd("audit", "--actor", "automatic", "--json").out.splitlines()
    assert json.loads(record)["words"] == "published iwf.images version 1: 1 row (full:first)"
    assert syncd("matchers", "add", "automatic").code == 2


@pytest.mark.on_both
def test_the_configuration_is_not_needed_for_this(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that was removed keeps its records."""
    operate(world, monkeypatch)
    world.publish(full=[row(1)])
    world.sync()
    configure(world.base / "syncd.toml", place(world), monkeypatch)
    assert "published iwf.images version 1" in syncd("audit", "--list", "iwf.images").out


@pytest.mark.on_both
def test_each_act_of_an_operator_is_recorded_under_their_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each correction and decision, of whichever command; an expiry is recorded as automatic."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    before = length(world)
    wrong = [f"{row(number)[0]}:{row(number)[1]}" for number in (3, 4)]

    def acts(*arguments: object) -> None:
        assert syncd(*arguments, "--reason", "asked").code == 0, arguments

    acts("suppress", wrong[0])
    acts("suppress", "--extend", 1, "--expires", "60d")
    acts("unsuppress", 1)
    acts("suppress", wrong[1], "--expires", "1d")
    hold_all(world)
    acts("discard", 1)
    acts("release", 1)
    acts("rollback", HEAD, 1)
    acts("unpin", HEAD)
    right = world.clock()
    world.clock.forward(hours=30)
    with world.publisher() as publisher:
        expire(publisher, world.clock())
    world.sync()
    world.clock.now = right
    acts("clock", "accept", f"{right:%Y-%m-%dT%H:%M:%SZ}")
    configure(world.base / "syncd.toml", place(world), monkeypatch)
    acts("retire", HEAD)
    done = [
        (actor, type(act)) for actor, act in log(world, before) if not isinstance(act, PublishedVersion | OpenedHold)
    ]
    assert done == [
        (ME, Suppressed),
        (ME, SuppressionsExtended),
        (ME, Unsuppressed),
        (ME, Suppressed),
        (ME, AskedForSync),
        (ME, Discarded),
        (ME, Released),
        (ME, RolledBack),
        (ME, Unpinned),
        (AUTOMATIC, SuppressionsExpired),
        (ME, AcceptedClock),
        (ME, Retired),
    ]
    stated = [act.document().get("reason") for actor, act in log(world, before) if actor == ME]
    assert stated.count("asked") == 10


def hold_all(world: World) -> None:
    """The partner empties the list, which is held."""
    world.clock.forward(minutes=5)
    world.publish(remove=rows(0, 30))
    assert syncd("sync").code == 3
