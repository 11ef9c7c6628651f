"""What status, probe, dashboard and metrics say of several daemons on one catalog, and nothing of them on one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from command_line import ALONE, operate, syncd
from scrapes import Scrape, scrape
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import DaemonRecord, FleetState, Leader
from syncd.catalog.tables import daemons, leader
from syncd.config import Config
from syncd.outcomes import Outcome
from syncd.publish.ledger import Commit
from syncd.report import overview
from syncd.report.fleet import Answering, DaemonRole, FleetView, fleet_view
from syncd.report.judged import Overview
from syncd.report.recorded import last_and_running
from syncd.report.status import status_document
from syncd.service.metrics.scrape import Metrics
from syncd.service.metrics.state import StateSample
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from syncd.sources.tables import FeedSource
from test_judged import text
from world import World, rows

NOON = 1_772_366_400_000
"""2026-03-01, 12:00 UTC, in milliseconds."""
STARTED = datetime(2026, 3, 1, 11, tzinfo=UTC)
LEADER = Leader(3, "a", "alpha", NOON - 3_600_000, NOON + 10_000, "folder", NOON)
ALPHA = DaemonRecord("a", "alpha", 7, "1.0", STARTED, claims=3, serves=9, seen=NOON - 4000)
BETA = DaemonRecord("b", "beta", 8, "1.0", STARTED, serves=9, seen=NOON - 2000)


def view(led: Leader = LEADER, *records: DaemonRecord, **overdue: int) -> FleetView:
    """As it is judged. ``overdue``: `s9=...` for the publication 9."""
    known = {int(name[1:]): at for name, at in overdue.items()}
    return fleet_view(FleetState(led, records or (ALPHA, BETA), known))


def whys(found: FleetView) -> list[tuple[bool, str, str]]:
    return [(fault.urgent, fault.subject, fault.why) for fault in found.faults]


# the judgement


def test_all_is_well() -> None:
    """One leads, the others stand by, and nobody has to act."""
    found = view()
    assert [one.role for one in found.daemons] == [DaemonRole.LEADER, DaemonRole.STANDBY]
    assert (found.leads_since, found.led_for) == (STARTED, timedelta(hours=1))
    assert found.faults == ()


def test_a_fleet_without_a_leader_is_urgent_from_thirty_seconds_after_a_crash() -> None:
    """That is fifteen after the end of its lease: until then another daemon takes over by itself."""
    crashed = (replace(ALPHA, seen=NOON - 31_000), BETA)
    assert view(replace(LEADER, until=NOON - 15_000), *crashed).faults == ()
    found = view(replace(LEADER, until=NOON - 16_000), *crashed)
    assert found.leads_since is None
    assert whys(found) == [
        (True, "daemons", "none has led for 16 seconds, so nothing is synced or signed; the last was on alpha")
    ]
    stopped = view(replace(LEADER, owner="", until=NOON - 16_000), BETA)
    assert [fault.urgent for fault in stopped.faults] == [True]


def test_two_that_claim_the_lead_are_urgent() -> None:
    """Only if both said so since the last change: the record of a leader that crashed still has its claim."""
    both = (replace(ALPHA, claims=2, seen=NOON - 1000), replace(BETA, claims=3))
    taken_over = replace(LEADER, owner="b", host="beta", since=NOON - 1500)
    assert view(taken_over, replace(both[0], seen=NOON - 2000), both[1]).faults == ()
    assert whys(view(replace(taken_over, since=NOON - 5000), *both)) == [
        (True, "daemons", "2 daemons claim the lead, on alpha and beta; the catalog lets only one publish")
    ]


def test_a_daemon_that_is_not_seen_for_a_minute_is_named() -> None:
    """Nothing else of it counts any more."""
    assert view(LEADER, ALPHA, replace(BETA, seen=NOON - 60_000)).faults == ()
    silent = view(LEADER, ALPHA, replace(BETA, seen=NOON - 61_000, unable="no keys", version="0.9"), s9=NOON - 90_000)
    assert silent.daemons[1].role is DaemonRole.SILENT
    assert [why for why in whys(silent) if why[1] == "beta"] == [
        (False, "beta", "its daemon was last seen 1 minute ago")
    ]
    assert not any("versions" in why for *_, why in whys(silent))


def test_a_daemon_that_cannot_lead_says_why() -> None:
    """It serves all the same, so this can wait."""
    found = view(LEADER, ALPHA, replace(BETA, unable="the keys of timestamp are not on this machine"))
    assert found.daemons[1].role is DaemonRole.UNABLE
    assert whys(found) == [
        (False, "beta", "its daemon cannot lead: the keys of timestamp are not on this machine"),
    ]


def test_a_daemon_that_serves_an_old_version_is_urgent_after_ten_seconds() -> None:
    """By the time at which the next publication was installed, or at which it began to run."""
    late = (replace(ALPHA, serves=10), BETA)
    assert view(LEADER, *late, s9=NOON - 10_000).faults == ()
    assert whys(view(LEADER, *late, s9=NOON - 11_000)) == [
        (True, "beta", "its daemon serves a version that was replaced 11 seconds ago")
    ]
    began = replace(BETA, serves=0, started_at=datetime.fromtimestamp(NOON / 1000 - 3, UTC))
    assert view(LEADER, late[0], began, s0=NOON - 3_000_000).faults == ()


def test_different_versions_of_syncd_are_named() -> None:
    """An upgrade that nobody finished."""
    assert whys(view(LEADER, ALPHA, replace(BETA, version="1.1"))) == [
        (False, "daemons", "they run different versions of syncd: 1.0, 1.1")
    ]


def test_a_daemon_that_answers_knows_itself_better_than_the_catalog() -> None:
    """Its record there is some seconds old."""
    state = FleetState(LEADER, (replace(ALPHA, claims=0, serves=8), BETA), {8: NOON - 60_000})
    assert [fault.subject for fault in fleet_view(state).faults] == ["alpha"]
    found = fleet_view(state, Answering("a", 3, 9))
    assert found.faults == ()
    assert [(one.answers, one.record.claims, one.seen.total_seconds()) for one in found.daemons] == [
        (True, 3, 0.0),
        (False, 0, 2.0),
    ]


# where it is shown


@pytest.fixture
def configured(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one source, of which something is published."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    assert syncd("sync").code == 0
    return world


@pytest.fixture
def fleet(configured: World) -> Iterator[Catalog]:
    """The catalog of two daemons, of which alpha leads."""
    with Catalog.open(configured.state.catalog) as catalog:
        led = catalog.lead("a", "alpha", "folder", 15.0)
        assert led
        catalog.epoch = lambda: led.epoch
        installed, _ = catalog.newest()
        for record in (replace(ALPHA, claims=led.epoch, serves=installed), replace(BETA, serves=installed)):
            catalog.note_daemon(replace(record, started_at=datetime.now(UTC)))
        yield catalog


def change(catalog: Catalog, table: Any, *where: Any, **values: Any) -> None:
    """Change rows, as time would."""
    with catalog._database.writing() as connection:
        connection.execute(update(table).where(*where).values(**values))


def look(world: World, catalog: Catalog) -> Overview:
    return overview.read(world.state, catalog, {"iwf": 600.0}, world.clock())


def page(world: World, catalog: Catalog) -> str:
    seen = look(world, catalog)
    return text(overview_page(PageData(seen, tasks(seen)), {}))


def test_one_machine_shows_nothing_of_it(configured: World) -> None:
    """Nowhere."""
    assert syncd("status", "--json").json["fleet"] is None
    assert "daemon" not in syncd("status").out.replace("no daemon is running", "").replace("The daemon", "")
    with Catalog.open(configured.state.catalog) as catalog:
        assert "Daemons" not in page(configured, catalog)


def test_status_names_the_daemons_their_roles_and_who_leads_since_when(configured: World, fleet: Catalog) -> None:
    """As a table, as JSON, and on the dashboard."""
    ran = syncd("status")
    (says,) = [line for line in ran.out.splitlines() if "leads since" in line]
    assert says.startswith("the daemon on alpha leads since 20")
    table = ran.out.partition(says)[2].splitlines()
    assert [line.split()[:3] for line in table[1:4]] == [
        ["daemon", "role", "syncd"],
        ["alpha", "leader", "1.0"],
        ["beta", "standby", "1.0"],
    ]
    assert ran.err == ""
    found = syncd("status", "--json").json["fleet"]
    assert (found["leader"]["host"], found["leader"]["epoch"], found["faults"]) == ("alpha", 1, [])
    assert [(one["host"], one["role"], one["lag_seconds"], one["answers"]) for one in found["daemons"]] == [
        ("alpha", "leader", 0, False),
        ("beta", "standby", 0, False),
    ]
    assert syncd("status", "--check").code == 0
    assert "The daemon on alpha leads since" in page(configured, fleet)


def test_a_machine_without_a_daemon_does_not_say_that_nothing_syncs(configured: World, fleet: Catalog) -> None:
    """Another one leads; if none does, that is what the probe says."""
    fleet.note_schedule("iwf", configured.clock() + timedelta(minutes=5))
    assert syncd("status").out.endswith("no daemon is running on this machine: this was read from the catalog\n")
    assert syncd("status", "--check").code == 0
    fleet.give_up_lead(1)
    assert syncd("status").out.endswith(ALONE)
    assert "no daemon is running, so no source is synced" in syncd("status", "--check").out


def test_a_fleet_without_a_leader_is_critical_everywhere(configured: World, fleet: Catalog) -> None:
    """In the probe, on standard error, and in the headline of the dashboard."""
    change(fleet, leader, until=leader.c.until - 31_000)
    checked = syncd("status", "--check")
    assert (checked.code, "daemons: none has led for" in checked.out) == (2, True)
    ran = syncd("status")
    assert "no daemon leads now" in ran.out
    assert "so nothing is synced or signed; the last was on alpha" in ran.err
    assert "1 problem to fix now" in page(configured, fleet)


def test_lag_is_counted_from_when_a_publication_was_installed(configured: World, fleet: Catalog) -> None:
    """Not from when it was committed, which is before its files are in place."""
    publication = fleet.commit(Commit("resign", (), configured.clock()))
    assert status_document(look(configured, fleet)).fleet.faults == ()  # type: ignore[union-attr]  # see above
    fleet.installed(publication)
    state = fleet.fleet()
    assert state is not None
    assert set(state.overdue) == {publication - 1}
    change(fleet, daemons, daemons.c.id == "b", started_at=datetime(2020, 1, 1, tzinfo=UTC))
    with fleet._database.writing() as connection:
        connection.exec_driver_sql("UPDATE publications SET installed_at = installed_at - 11000")
    change(fleet, daemons, daemons.c.id == "a", serves=publication)
    assert [fault.subject for fault in fleet_view(fleet.fleet()).faults] == ["beta"]  # type: ignore[arg-type]


# metrics


def test_metrics_tell_who_leads_and_who_lags(configured: World, fleet: Catalog, standing_config: Config) -> None:
    """As each daemon knows it of itself, and of the others by role; on one machine they are absent."""
    change(fleet, daemons, daemons.c.id == "b", unable="no keys")
    installed, _ = fleet.newest()
    for daemon, leads in (("a", 1), ("b", 0)):
        found = scraped(configured, fleet, standing_config, Answering(daemon, leads, installed))
        assert (found("syncd_leader"), found("syncd_leading_epoch"), found("syncd_replica_lag_seconds")) == (
            leads,
            1,
            0,
        )
        assert {role: found("syncd_daemons", role=role) for role in DaemonRole} == {
            "leader": 1,
            "standby": 0,
            "unable": 1,
            "silent": 0,
        }
        partners = found("syncd_source_metadata_expiry_timestamp_seconds", source="iwf", role="root")
        assert (partners is not None) is bool(leads)  # only the leader has the metadata of now
    fleet.give_up_lead(1)
    assert scraped(configured, fleet, standing_config, Answering("a", 0, installed))("syncd_leading_epoch") == 0


def test_one_machine_has_no_metrics_of_it(configured: World, standing_config: Config) -> None:
    """So no rule about them fires."""
    with Catalog.open(configured.state.catalog) as catalog:
        found = scraped(configured, catalog, standing_config, None)
    assert [found(name) for name in ("syncd_leader", "syncd_leading_epoch", "syncd_replica_lag_seconds")] == [None] * 3


@pytest.fixture
def standing_config(configured: World) -> Config:
    source = FeedSource(type="feed", url=configured.url, root=configured.root, interval="10m")  # type: ignore[arg-type]
    return Config(state_dir=configured.state.root, sources={"iwf": source})


def scraped(world: World, catalog: Catalog, config: Config, answering: Answering | None) -> Scrape:
    """One scrape of a daemon."""

    def read() -> StateSample:
        return StateSample(overview.read(world.state, catalog, config.intervals(), world.clock(), answering=answering))

    return scrape(Metrics(world.state, lambda: config, read, lambda _: None))


# other machines' syncs


def test_a_sync_of_the_leader_runs_although_no_lock_is_held_here(configured: World, fleet: Catalog) -> None:
    """The lock is on the leader's machine; without a leader no sync runs."""
    fleet.begin_sync("there", "iwf", configured.clock())
    _, running = last_and_running(configured.state, fleet, "iwf")
    assert running is not None
    assert running.id == "there"
    fleet.give_up_lead(1)
    last, running = last_and_running(configured.state, fleet, "iwf")
    assert last is not None
    assert (last.outcome, running) == (Outcome.INTERRUPTED, None)


def test_a_file_of_the_leaders_syncs_is_not_read_elsewhere(
    configured: World, fleet: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies here may be from when this machine led last."""
    asked: list[Path] = []
    monkeypatch.setattr(overview, "read_overlong", asked.append)
    look(configured, fleet)
    assert asked == []
    overview.read(configured.state, fleet, {"iwf": 600.0}, configured.clock(), answering=Answering("a", 1, 1))
    fleet.give_up_lead(1)
    look(configured, fleet)
    assert len(asked) == 2
