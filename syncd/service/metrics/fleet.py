"""Gauges of several daemons on one catalog; absent on one machine. Labelled by role, never by host."""

from collections.abc import Callable, Iterator
from typing import Final

from syncd.report.fleet import DaemonRole, FleetView
from syncd.service.metrics.state import Sample, StateGauge, StateSample


def _of_fleet(samples: Callable[[FleetView], Iterator[Sample]]) -> Callable[[StateSample], Iterator[Sample]]:
    return lambda state: iter(()) if state.overview.fleet is None else samples(state.overview.fleet)


def _leads(fleet: FleetView) -> Iterator[Sample]:
    if fleet.answering:
        yield (), bool(fleet.answering.record.claims)


def _epoch(fleet: FleetView) -> Iterator[Sample]:
    yield (), fleet.leader.epoch if fleet.leader.in_force else 0


def _lag(fleet: FleetView) -> Iterator[Sample]:
    if fleet.answering:
        yield (), fleet.answering.lag.total_seconds()


def _daemons(fleet: FleetView) -> Iterator[Sample]:
    return (((role,), fleet.number(role)) for role in DaemonRole)


FLEET_GAUGES: Final = (
    StateGauge(
        "syncd_leader",
        "1 if this daemon believes that it leads, else 0. Absent on one machine, as are the next three.",
        (),
        _of_fleet(_leads),
    ),
    StateGauge(
        "syncd_leading_epoch",
        "Number of the present lead, which rises with every change of the leader; 0 if no daemon leads.",
        (),
        _of_fleet(_epoch),
    ),
    StateGauge(
        "syncd_daemons",
        "Daemons on the catalog that were seen in the last day, by role.",
        ("role",),
        _of_fleet(_daemons),
    ),
    StateGauge(
        "syncd_replica_lag_seconds",
        "How long ago the version that this daemon serves was replaced by a newer one; 0 if it serves the newest.",
        (),
        _of_fleet(_lag),
    ),
)
