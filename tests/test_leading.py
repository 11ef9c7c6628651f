"""Of several daemons on one catalog one leads: by a lease, and by an epoch that refuses a leader who overslept it."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from syncd import events
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import DaemonRecord
from syncd.catalog.tables import leader
from syncd.errors import ConfigError, NotLeadingError, RefusedError, StoreError
from syncd.publish.ledger import Commit
from syncd.service.control import Order
from syncd.service.following import Following
from syncd.service.leading import LEASE, Leading, Work, lead_alone
from syncd.service.relay import TAKEN_WITHIN, OrderBook, Relay

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Host:
    """One daemon: its own connection to the catalog, its own clock, and what its work reported."""

    def __init__(self, path: Path, name: str) -> None:
        self.catalog = Catalog.open(path)
        self.seconds, self.why, self.log, self.events = 1000.0, "", [], []  # type: ignore[var-annotated]
        self.fail: Exception | None = None
        record = DaemonRecord(name, name, 7, "1", NOON)
        work = Work(self._begin, lambda: self.log.append("end"), lambda: self.why, lambda: ("k",), lambda: 3)
        self.leading = Leading(self.catalog, record, "folder", work, self.events.append, lambda: self.seconds)
        self.catalog.epoch = self.leading.epoch

    def _begin(self, epoch: int) -> None:
        self.log.append(epoch)
        if self.fail:
            raise self.fail

    def look(self) -> None:
        """Look once, and wait for the work that this begins or ends."""
        before = set(threading.enumerate())
        self.leading.look()
        for thread in set(threading.enumerate()) - before:
            thread.join(30)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two daemons on one catalog."""
    pair = Host(tmp_path / "catalog.sqlite3", "a"), Host(tmp_path / "catalog.sqlite3", "b")
    yield pair
    for host in pair:
        host.catalog.close()


def end_lease(host: Host) -> None:
    """The database's clock passes the end of the lease."""
    with host.catalog._leading() as connection:
        connection.execute(update(leader).values(until=0))


def publish(host: Host) -> None:
    host.catalog.commit(Commit("resign", (), NOON))


def test_one_leads_and_the_other_stands_by(hosts: tuple[Host, Host]) -> None:
    """It leads as long as it renews the lease."""
    first, second = hosts
    for _ in range(3):
        first.look()
        second.look()
        first.seconds += LEASE / 3
        second.seconds += LEASE / 3
    assert (first.leading.epoch(), second.leading.epoch()) == (1, None)
    assert (first.log, second.log) == ([1], [])
    publish(first)
    with pytest.raises(NotLeadingError, match="another daemon leads, on a"):
        publish(second)
    daemons, _ = first.catalog.daemons()
    assert [(daemon.id, daemon.claims, daemon.keys, daemon.serves) for daemon in daemons] == [
        ("a", 1, ("k",), 3),
        ("b", 0, ("k",), 3),
    ]


def test_a_clean_stop_lets_another_lead_at_once(hosts: tuple[Host, Host]) -> None:
    """Nobody waits for the end of the lease."""
    first, second = hosts
    first.look()
    first.leading.stop()
    second.look()
    assert second.leading.epoch() == 2
    assert [daemon.id for daemon in second.catalog.daemons()[0]] == ["b"]


def test_a_leader_that_overslept_its_lease_publishes_nothing(hosts: tuple[Host, Host]) -> None:
    """It is refused by its own clock first, and by the epoch if that clock stood still as well."""
    first, second = hosts
    first.look()
    end_lease(first)
    second.look()
    assert first.leading.epoch() == 1  # as it believes
    with pytest.raises(NotLeadingError, match="on b"):
        publish(first)
    first.seconds += LEASE
    assert first.leading.epoch() is None
    first.look()
    assert first.log == [1, "end"]
    assert [event for event in first.events if isinstance(event, events.LeadingEnded)] == [
        events.LeadingEnded(1, "another daemon has taken over")
    ]
    publish(second)
    assert second.catalog.last_commit() == 1


def test_a_leader_that_cannot_reach_the_catalog_stops_working_in_time(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its lease ends, whatever happens to its thread."""
    first, _ = hosts
    first.look()

    def renew(*_: Any) -> bool:
        raise StoreError("cannot reach the catalog")

    monkeypatch.setattr(first.catalog, "renew_lead", renew)
    first.seconds += LEASE / 3
    with pytest.raises(StoreError):
        first.leading.look()
    assert first.leading.epoch() == 1
    first.seconds += LEASE * 2 / 3
    assert first.leading.epoch() is None
    with pytest.raises(StoreError):
        first.look()
    monkeypatch.undo()
    first.look()
    first.look()
    assert first.log == [1, "end", 2]  # the lease is its own still, and the epoch is a new one


def test_who_cannot_sign_does_not_lead(hosts: tuple[Host, Host]) -> None:
    """It says why, once, and leads as soon as it can."""
    first, second = hosts
    first.why = "the keys of timestamp are not on this machine"
    first.look()
    first.look()
    assert first.leading.epoch() is None
    assert [type(event) for event in first.events] == [events.CannotLead]
    assert [daemon.unable for daemon in first.catalog.daemons()[0]] == [first.why]
    second.look()
    assert second.leading.epoch() == 1
    second.leading.stop()
    first.why = ""
    first.look()
    assert first.leading.epoch() == 2


def test_a_leader_that_can_no_longer_sign_lets_another_lead(hosts: tuple[Host, Host]) -> None:
    """Not at the first failure, which may be a key service that did not answer once."""
    first, second = hosts
    first.look()
    first.why = "the keys of timestamp that are in force are not on this machine"
    first.seconds += LEASE / 3
    first.look()
    assert first.leading.epoch() == 1
    first.seconds += LEASE / 3
    first.look()
    assert first.leading.epoch() is None
    assert first.log == [1, "end"]
    second.look()
    assert second.leading.epoch() == 2


def test_a_moment_without_keys_ends_no_lead(hosts: tuple[Host, Host]) -> None:
    """They are back at the next look."""
    first, _ = hosts
    first.look()
    for why in ("no answer", "", "no answer", ""):
        first.why = why
        first.seconds += LEASE / 3
        first.look()
    assert first.leading.epoch() == 1


def test_who_cannot_begin_lets_another_one_try(hosts: tuple[Host, Host]) -> None:
    """And does not try again at once."""
    first, second = hosts
    first.fail = StoreError("the bucket cannot be reached")
    first.look()
    first.look()
    assert first.log == [1, "end"]
    second.look()
    assert second.leading.epoch() == 2


def test_daemons_with_different_stores_are_refused(hosts: tuple[Host, Host]) -> None:
    """The second would look for the first one's files where they are not."""
    first, second = hosts
    first.look()
    second.catalog.check_store("folder")
    with pytest.raises(ConfigError, match="published in folder, and this configuration names s3://b"):
        second.catalog.check_store("s3://b")


def test_an_order_reaches_the_leader_and_comes_back_with_its_answers(hosts: tuple[Host, Host]) -> None:
    """Also its errors; and its text, which may name a digest, does not stay."""
    first, second = hosts
    first.look()
    seen: list[tuple[Order, str]] = []

    def carry_out(order: Order, user: str) -> Iterator[dict[str, Any]]:
        seen.append((order, user))
        yield {"progress": 1}
        if order.reason == "wrong":
            raise RefusedError("not now", hint="later")
        yield {"done": True, "end": 3}

    book = OrderBook(first.catalog, "/state/a", carry_out, first.events.append)

    def leader_looks(_: float) -> None:
        book.look(1)
        for thread in threading.enumerate():
            if thread.name.startswith("syncd-order"):
                thread.join(30)

    relay = Relay(second.catalog, "b", lambda: 0.0, leader_looks)
    order = Order(do="suppress", state_dir="/state/b", reason="right")
    assert list(relay(order, "alice")) == [{"progress": 1}, {"done": True, "end": 3}]
    assert seen == [(order.model_copy(update={"state_dir": "/state/a"}), "alice")]
    with pytest.raises(RefusedError, match="not now") as refused:
        list(relay(order.model_copy(update={"reason": "wrong"}), "alice"))
    assert refused.value.hint == "later"
    with first.catalog._leading() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT body FROM orders").scalars().all() == [""]


def test_an_order_that_nobody_takes_is_taken_back(hosts: tuple[Host, Host]) -> None:
    """So it is not carried out an hour later, when nobody expects it."""
    first, second = hosts
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += TAKEN_WITHIN

    with pytest.raises(NotLeadingError, match="no daemon leads"):
        list(Relay(second.catalog, "b", lambda: now[0], sleep)(Order(do="sync"), "alice"))
    first.look()
    assert first.catalog.take_orders(1) == ()


def test_an_order_whose_leader_stopped_is_answered_by_the_next(hosts: tuple[Host, Host]) -> None:
    """Nobody knows whether it was carried out, and the answer says so."""
    first, second = hosts
    first.look()
    number = second.catalog.place_order("b", "alice", "{}")
    assert [placed.id for placed in first.catalog.take_orders(1)] == [number]
    first.leading.stop()
    second.look()
    OrderBook(second.catalog, "/b", lambda *_: iter(()), second.events.append).end_abandoned(2)
    ((_, content),) = second.catalog.order_answers(number, 0)
    assert "may or may not have been done" in json.loads(content)["error"]["message"]


def test_a_command_leads_while_it_works(hosts: tuple[Host, Host]) -> None:
    """Unless a daemon does; and nobody has to wait after it."""
    first, second = hosts
    with lead_alone(second.catalog, "syncd sync", "folder"):
        publish(second)
        first.look()
        assert first.leading.epoch() is None
    with pytest.raises(NotLeadingError):
        publish(second)
    first.look()
    assert first.leading.epoch() == 2
    with pytest.raises(NotLeadingError, match="on a"), lead_alone(second.catalog, "syncd sync", "folder"):
        pass


def test_a_daemon_that_lost_the_lead_catches_up(hosts: tuple[Host, Host]) -> None:
    """Also with what was published before it noticed, when it took publications for its own."""
    first, second = hosts
    first.look()
    caught_up: list[int] = []
    following = Following(
        first.catalog,
        first.events.append,
        leads=lambda: first.leading.epoch() is not None,
        catch_up=lambda: caught_up.append(first.catalog.newest()[0]),
        announce=lambda name, version: None,
        acted=lambda: None,
        orders=lambda: None,
    )
    following.look()
    with lead_alone(second.catalog, "syncd feed rotate", "folder", take_over=True):
        second.catalog.installed(second.catalog.commit(Commit("resign", (), NOON)))
        following.look()
        assert caught_up == []  # as it believes, it leads
        first.seconds += LEASE / 3
        first.look()
        following.look()
        following.look()
    assert caught_up == [1]


def test_a_command_takes_over_from_a_daemon_and_from_no_command(hosts: tuple[Host, Host]) -> None:
    """The daemon finds out at its next look, and leads again afterwards."""
    first, second = hosts
    first.look()
    with lead_alone(second.catalog, "syncd feed rotate", "folder", take_over=True):
        publish(second)
        with pytest.raises(NotLeadingError):
            publish(first)
        first.seconds += LEASE / 3
        first.look()
        assert (first.leading.epoch(), first.log) == (None, [1, "end"])
        with (
            pytest.raises(NotLeadingError),
            lead_alone(first.catalog, "syncd recover", "folder", take_over=True),
        ):
            pass
    first.look()
    assert first.leading.epoch() == 3
