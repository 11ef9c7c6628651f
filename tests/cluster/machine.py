"""The machine of states: three daemons, a matcher that never stops asking, and everything that can go wrong."""

import signal
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.fleet import Fleet
from cluster.network import Line
from engines.shared import Engines
from world import row

_T = TypeVar("_T")

DAEMONS = 3
INDEX = st.integers(0, DAEMONS - 1)
LEADS_WITHIN = 45.0
"""Seconds: 30 are promised, on a machine that does nothing else."""


class ClusterMachine(RuleBasedStateMachine):
    """What is true of several daemons, whatever happens to them."""

    engines: ClassVar[Engines]

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(self.engines, DAEMONS)
        self.published = 0
        """rows that the partner has published"""
        self.acknowledged: set[int] = set()
        """rows whose suppression was acknowledged"""

    @initialize()
    def start(self) -> None:
        """Every daemon runs, and one list is published."""
        self.fleet.start()
        self.published = self.fleet.publish(30)
        self.fleet.order_until_done(do="sync")
        self.fleet.follow()

    def teardown(self) -> None:
        self.fleet.close()

    # what happens

    @rule(at=INDEX)
    def the_partner_publishes_and_somebody_orders_a_sync(self, at: int) -> None:
        """The order may fail; the next one will not."""
        self.published = self.fleet.publish(5)
        self.fleet.order(at, do="sync")

    @rule(at=INDEX, data=st.data())
    def a_row_is_suppressed(self, at: int, data: st.DataObject) -> None:
        """What was acknowledged stays, whoever leads."""
        number = data.draw(st.integers(0, self.published - 1))
        corrections = [{"digest": f"sha256:{row(number)[1]}"}]
        answer = self.fleet.order(at, do="suppress", corrections=corrections, reason="wrong")
        if answer is not None and answer.get("end") == 0:
            self.acknowledged.add(number)

    @rule()
    def the_leader_is_killed(self) -> None:
        """As by a power cut; it is started again by whoever looks after it."""
        leader = self.fleet.leader()
        if leader is not None:
            leader.kill()
            leader.start()

    @rule()
    def the_leader_oversleeps_its_lease(self) -> None:
        """It is paused until another one leads, and then goes on where it was."""
        leader = self.fleet.leader()
        if leader is None or leader.process is None:
            return
        leader.process.send_signal(signal.SIGSTOP)
        try:
            self.fleet.wait(lambda: self.fleet.leader(besides=leader), "another daemon to lead", LEADS_WITHIN + 15)
        finally:
            leader.process.send_signal(signal.SIGCONT)

    @rule(at=INDEX, database=st.booleans(), bucket=st.booleans(), how=st.sampled_from([Line.REFUSED, Line.SILENT]))
    def a_daemon_is_cut_off(self, at: int, *, database: bool, bucket: bool, how: Line) -> None:
        """From the database, from the bucket, from both."""
        self.fleet.daemons[at].cut(database=how if database else Line.WHOLE, bucket=how if bucket else Line.WHOLE)

    @rule(at=INDEX)
    def a_daemon_is_connected_again(self, at: int) -> None:
        self.fleet.daemons[at].cut(database=Line.WHOLE, bucket=Line.WHOLE)

    @rule(at=INDEX)
    def a_daemon_loses_its_disk(self, at: int) -> None:
        """All that is left are its configuration and its keys."""
        self.fleet.daemons[at].lose_disk()

    @rule()
    def everything_is_mended_and_comes_to_rest(self) -> None:
        """Then all that the partner published and the operators ordered is in force, everywhere."""
        self.fleet.mend()
        self.fleet.order_until_done(do="sync")
        self.fleet.wait(self._is_complete, "every daemon to serve what was ordered", 60)

    def _is_complete(self) -> bool:
        wanted = frozenset(range(self.published)) - self.acknowledged
        return all(self.fleet.pulled_from(daemon) == wanted for daemon in self.fleet.daemons)

    # what holds

    @invariant()
    def matchers_answer_from_one_complete_version(self) -> None:
        """At every moment since the last look, and none of them went back."""
        assert self.fleet.reader.faults == []

    @invariant()
    def there_is_one_signed_history(self) -> None:
        """No version was ever signed twice with other content, and none was taken back."""
        assert self.fleet.history_faults() == []
