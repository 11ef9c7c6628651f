"""Cures for several daemons on one catalog: what the alerts about them say to do ends what they are about."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from databases import file_of
from runbook import Cure, what_to_do
from syncd.errors import StoreError
from syncd.model import ListName
from syncd.publish.ledger import Commit
from syncd.report.fleet import Answering, FleetView, fleet_view
from syncd.service.following import Following
from syncd.service.leading import LEASE
from test_leading import NOON, Host, end_lease

RESTART = "systemctl restart syncd"
START = "systemctl start syncd"
NO_KEYS = "the keys of timestamp that are in force are not on this machine"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Two daemons on one catalog, and those that are started later."""
    running = [Host(tmp_path / "catalog.sqlite3", name) for name in "ab"]
    yield running
    for host in running:
        host.catalog.close()


def view(host: Host) -> FleetView:
    state = host.catalog.fleet()
    assert state is not None
    return fleet_view(state)


def long_ago(host: Host) -> None:
    """Let the lease have ended a minute ago."""
    with host.catalog._database.writing() as connection:
        connection.exec_driver_sql("UPDATE leader SET until = until - 90000")


def test_a_fleet_without_a_leader_gets_one_that_has_the_keys(hosts: list[Host]) -> None:
    """A machine that is given them, or one that has them and is started."""
    first, second = hosts
    second.why = NO_KEYS
    first.look()
    long_ago(first)  # it was killed
    second.look()
    assert [fault.subject for fault in view(second).faults if fault.urgent] == ["daemons"]
    assert f"its daemon cannot lead: {NO_KEYS}" in [fault.why for fault in view(second).faults]
    second.why = ""  # the keys are there
    second.look()
    assert second.leading.epoch() == 2
    assert view(second).faults == ()
    second.why = NO_KEYS
    long_ago(second)
    cure = Cure(what_to_do("SyncdNoLeader"))
    cure.stand_for(START)
    hosts.append(third := Host(file_of(first.catalog), "c"))
    third.look()
    assert third.leading.epoch() == 3
    assert not any(fault.urgent for fault in view(third).faults)
    cure.end()


def test_a_daemon_that_overslept_its_lease_is_restarted(hosts: list[Host]) -> None:
    """Its clock stood still, so it believes that it leads."""
    first, second = hosts
    first.look()
    end_lease(first)
    second.look()
    first.leading._note()
    assert first.leading.epoch() == 1
    (fault,) = view(second).faults
    assert fault.why.startswith("2 daemons claim the lead, on a and b;")
    assert "all of them but the one on b" in fault.to_do
    cure = Cure(what_to_do("SyncdTwoLeaders"))
    cure.stand_for(RESTART)
    first.leading.stop()
    hosts.append(again := Host(file_of(first.catalog), "a"))
    again.look()
    assert view(second).faults == ()
    assert second.leading.epoch() == 2
    cure.end()


def test_a_daemon_that_lags_serves_the_newest_once_it_can_read_again(hosts: list[Host]) -> None:
    """It tries every half second; a restart is for one that hangs."""
    first, second = hosts
    first.look()
    faults: list[StoreError] = []

    def announce(name: ListName, version: int) -> None:
        raise AssertionError((name, version))  # nothing is published here

    def read() -> tuple[int, int]:
        if faults:
            raise faults[0]
        return newest()

    following = Following(
        second.catalog,
        second.events.append,
        leads=lambda: False,
        catch_up=lambda: None,
        announce=announce,
        acted=lambda: None,
        orders=lambda: None,
    )
    newest = second.catalog.newest
    second.catalog.newest = read  # type: ignore[method-assign]  # a disk that cannot be read
    following.look()
    publication = first.catalog.commit(Commit("resign", (), NOON))
    first.catalog.installed(publication)
    faults.append(StoreError("cannot read the catalog"))
    with pytest.raises(StoreError):
        following.look()
    second.look()
    with first.catalog._database.writing() as connection:
        connection.exec_driver_sql("UPDATE publications SET installed_at = installed_at - 11000")
        started = datetime(2026, 1, 1, tzinfo=UTC).isoformat(timespec="microseconds")
        connection.exec_driver_sql(f"UPDATE daemons SET started_at = '{started}', serves = 0 WHERE id = 'b'")
    assert [(fault.subject, fault.urgent) for fault in view(first).faults] == [("b", True)]
    faults.clear()
    following.look()
    assert following.serves == publication
    state = first.catalog.fleet()
    assert state is not None
    assert fleet_view(state, Answering("b", 0, following.serves)).faults == ()
    cure = Cure(what_to_do("SyncdReplicaLags"))
    cure.stand_for(RESTART)
    cure.end()


def test_a_daemon_that_cannot_lead_gets_the_keys(hosts: list[Host]) -> None:
    """It needs no restart."""
    first, second = hosts
    first.look()
    second.why = NO_KEYS
    second.look()
    assert [fault.subject for fault in view(first).faults] == ["b"]
    second.why = ""
    second.seconds += LEASE / 3  # it describes itself again
    second.look()
    assert view(first).faults == ()
    assert [str(one.role) for one in view(first).daemons] == ["leader", "standby"]
    assert datetime.now(UTC) > NOON
