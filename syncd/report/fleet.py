"""Several daemons on one catalog: their roles, who leads since when, and what a person must act on. Pure.

All times are compared by the database's clock.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from syncd.catalog.fleet_records import DaemonRecord, FleetState, Leader
from syncd.report import runbook
from syncd.units import count, span

SILENT_AFTER: Final = timedelta(seconds=60)
"""A daemon describes itself every five seconds."""
NO_LEADER_AFTER: Final = timedelta(seconds=15)
"""The time after the end of a lease by which another daemon leads: 30 seconds after a crash."""
LAGS_AFTER: Final = timedelta(seconds=10)
"""The time after a publication by which every daemon serves it."""


ALL_DAEMONS: Final = "daemons"
"""The subject of a fault that concerns all of them."""


class DaemonRole(StrEnum):
    """The part of a daemon in the fleet."""

    LEADER = "leader"
    """syncs and publishes"""
    STANDBY = "standby"
    """serves, and would lead"""
    UNABLE = "unable"
    """serves, and cannot lead"""
    SILENT = "silent"
    """was not seen for a minute, and did not say that it stopped"""


@dataclass(frozen=True)
class Answering:
    """State of the daemon that makes a report, as it knows it: the catalog has what it wrote seconds ago."""

    daemon: str
    claims: int
    serves: int


@dataclass(frozen=True)
class FleetFault:
    """Why a person must act. ``urgent``: now."""

    subject: str
    """the host, or `ALL_DAEMONS`"""
    why: str
    to_do: str
    urgent: bool
    section: str
    """of the runbook"""

    @property
    def act(self) -> str:
        """The reason and the action, in one line."""
        return f"{self.subject}: {self.why}: {self.to_do}"


@dataclass(frozen=True)
class DaemonView:
    """One daemon."""

    record: DaemonRecord
    role: DaemonRole
    seen: timedelta
    """since it was last seen"""
    lag: timedelta
    """since it should have served the next publication; 0 if it serves the newest"""
    answers: bool = False
    """True if this report comes from it"""

    @property
    def lags(self) -> bool:
        """True if its readers get an old version, although it runs."""
        return self.role is not DaemonRole.SILENT and self.lag > LAGS_AFTER


@dataclass(frozen=True)
class FleetView:
    """All daemons on one catalog."""

    state: FleetState
    daemons: tuple[DaemonView, ...]

    @property
    def leader(self) -> Leader:
        """The present leader, or the last one."""
        return self.state.leader

    @property
    def leads_since(self) -> datetime | None:
        """When the present leader began to lead; None if nobody leads."""
        return datetime.fromtimestamp(self.leader.since / 1000, UTC) if self.leader.in_force else None

    @property
    def led_for(self) -> timedelta:
        """How long the present leader has led."""
        return timedelta(milliseconds=self.leader.now - self.leader.since)

    @property
    def claimants(self) -> tuple[DaemonView, ...]:
        """The daemons that believe that they lead, and said so since the present leader began to."""
        return tuple(
            view
            for view in self.daemons
            if view.record.claims and view.role is not DaemonRole.SILENT and view.record.seen >= self.leader.since
        )

    def number(self, role: DaemonRole) -> int:
        """Return the number of daemons in a role."""
        return sum(view.role is role for view in self.daemons)

    @property
    def answering(self) -> DaemonView | None:
        """The daemon that this report comes from; None if a command read the catalog itself."""
        return next((view for view in self.daemons if view.answers), None)

    @property
    def follows(self) -> bool:
        """True if this report does not come from the leader, so that what its syncs leave on disk is elsewhere."""
        here = self.answering
        return self.leader.in_force and (here is None or here.record.id != self.leader.owner)

    @property
    def faults(self) -> tuple[FleetFault, ...]:
        """Problems that need a person, the urgent ones first."""
        found = (*self._of_leader(), *self._of_daemons(), *self._of_keys(), *self._of_versions())
        return tuple(sorted(found, key=lambda fault: not fault.urgent))

    def _of_leader(self) -> Iterator[FleetFault]:
        without = timedelta(milliseconds=self.leader.now - self.leader.until)
        if not self.leader.in_force and without > NO_LEADER_AFTER:
            yield FleetFault(
                ALL_DAEMONS,
                f"none has led for {span(without)}, so nothing is synced or signed; the last was on {self.leader.host}",
                "start a daemon on a machine that has the online keys; one that cannot lead says why",
                urgent=True,
                section=runbook.NO_LEADER,
            )
        if len(self.claimants) > 1:
            hosts = " and ".join(view.record.host for view in self.claimants)
            yield FleetFault(
                ALL_DAEMONS,
                f"{count(len(self.claimants), 'daemon')} claim the lead, on {hosts}; the catalog lets only one publish",
                f"restart all of them but the one on {self.leader.host}, and check the clocks of these machines",
                urgent=True,
                section=runbook.TWO_LEADERS,
            )

    def _of_daemons(self) -> Iterator[FleetFault]:
        for view in self.daemons:
            host = view.record.host
            if view.role is DaemonRole.SILENT:
                yield FleetFault(
                    host,
                    f"its daemon was last seen {span(view.seen)} ago",
                    "check that it runs and reaches the catalog; a day after it was last seen it is forgotten",
                    urgent=False,
                    section=runbook.DAEMON,
                )
                continue
            if view.role is DaemonRole.UNABLE:
                yield FleetFault(
                    host,
                    f"its daemon cannot lead: {view.record.unable}",
                    "give that machine the keys that the others use, or leave it as it is if it shall only serve",
                    urgent=False,
                    section=runbook.UNABLE,
                )
            if view.lags:
                yield FleetFault(
                    host,
                    f"its daemon serves a version that was replaced {span(view.lag)} ago",
                    "check that it reaches the store and the catalog, and look for errors in its log",
                    urgent=True,
                    section=runbook.REPLICA,
                )

    def _of_keys(self) -> Iterator[FleetFault]:
        for new in self.state.next_keys:
            lacking = new.lacking(view.record for view in self.daemons)
            for record in lacking:
                yield FleetFault(
                    record.host,
                    f"its daemon lacks the new keys of {new.role}, which are not in force yet",
                    "copy them to the keys of that machine",
                    urgent=False,
                    section=runbook.ALERTS,
                )
            if not lacking:
                yield FleetFault(
                    ALL_DAEMONS,
                    f"every one that can lead holds the new keys of {new.role}, which are not in force yet",
                    f"put them in force: `syncd feed rotate STATE {new.role} --state --offline-keys DIR --reason R`",
                    urgent=False,
                    section=runbook.ALERTS,
                )

    def _of_versions(self) -> Iterator[FleetFault]:
        running = (view.record.version for view in self.daemons if view.role is not DaemonRole.SILENT)
        versions = sorted(Counter(running))
        if len(versions) > 1:
            yield FleetFault(
                ALL_DAEMONS,
                f"they run different versions of syncd: {', '.join(versions)}",
                "finish the upgrade: only two adjacent releases run side by side",
                urgent=False,
                section=runbook.ALERTS,
            )


def fleet_view(state: FleetState, answering: Answering | None = None) -> FleetView:
    """Judge all daemons. ``answering``: the one that this report comes from; None: a command read the catalog."""
    if answering is not None:
        state = replace(state, daemons=tuple(_fresh(record, answering, state.leader) for record in state.daemons))
    daemon = "" if answering is None else answering.daemon
    return FleetView(state, tuple(_daemon(record, state, answers=record.id == daemon) for record in state.daemons))


def _fresh(record: DaemonRecord, answering: Answering, leader: Leader) -> DaemonRecord:
    if record.id != answering.daemon:
        return record
    return replace(record, claims=answering.claims, serves=answering.serves, seen=leader.now)


def _daemon(record: DaemonRecord, state: FleetState, *, answers: bool) -> DaemonView:
    seen = timedelta(milliseconds=max(0, state.leader.now - record.seen))
    overdue = state.overdue.get(record.serves)
    # What was installed before it began to run is not late: its first look takes a moment.
    since = None if overdue is None else max(overdue, int(record.started_at.timestamp() * 1000))
    lag = timedelta() if since is None else timedelta(milliseconds=max(0, state.leader.now - since))
    return DaemonView(record, _role(record, state.leader, seen), seen, lag, answers)


def _role(record: DaemonRecord, leader: Leader, seen: timedelta) -> DaemonRole:
    if seen > SILENT_AFTER:
        return DaemonRole.SILENT
    if leader.in_force and leader.owner == record.id:
        return DaemonRole.LEADER
    return DaemonRole.UNABLE if record.unable else DaemonRole.STANDBY
