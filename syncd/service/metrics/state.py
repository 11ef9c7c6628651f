"""How everything stands, as gauges. Read anew at each scrape."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.errors import (
    EquivocationError,
    ExpiredError,
    ManifestError,
    MismatchError,
    RollbackError,
    SegmentError,
    SyncdError,
    TrustError,
    UnknownListError,
    error_class,
)
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.report.overview import ListView, Overview, SourceView

Sample = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""

ENDS: Final = tuple(one for one in Outcome if one is not Outcome.RUNNING)
"""How a sync may have ended."""

_REFUSALS: Final = (
    (EquivocationError, "equivocation"),
    (RollbackError, "rollback"),
    (ExpiredError, "expired"),
    (TrustError, "trust"),
    (MismatchError, "mismatch"),
    (ManifestError, "manifest"),
    (SegmentError, "segment"),
    (UnknownListError, "unknown_list"),
)
_OTHER: Final = "other"
REFUSALS: Final = (*(word for _, word in _REFUSALS), _OTHER)
"""Why something was rejected."""


@dataclass(frozen=True)
class StateSample:
    """All of it, at one time."""

    overview: Overview
    not_proved: Collection[str] = ()
    """lists whose files are not what was signed; ``""``: all, since the metadata is not"""


@dataclass(frozen=True)
class Gauge:
    """One metric, and where its samples come from."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[StateSample], Iterable[Sample]]

    def family(self, found: StateSample | None) -> Metric:
        """Its samples now; none where nothing could be read."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.samples(found) if found else ():
            family.add_metric(labels, value)
        return family


class StateCollector(Collector):
    """Gauges from the state. Where it cannot be read they are absent, and a gauge says so."""

    def __init__(
        self,
        look: Callable[[], StateSample],
        gauges: tuple[Gauge, ...],
        seen: Callable[[StateSample], None],
        fault: Callable[[Exception], None],
    ) -> None:
        """``seen`` is told every state, ``fault`` what was raised that is a bug."""
        self._look, self._gauges, self._seen, self._fault = look, gauges, seen, fault

    def collect(self) -> Iterator[Metric]:
        """Look, then tell."""
        began = time.monotonic()
        found = self._found()
        seconds = time.monotonic() - began
        yield GaugeMetricFamily(
            "syncd_state_read_success", "1: the state could be read at this scrape.", found is not None
        )
        yield GaugeMetricFamily("syncd_state_read_duration_seconds", "How long reading it took.", seconds)
        yield from (gauge.family(found) for gauge in self._gauges)

    def _found(self) -> StateSample | None:
        try:
            found = self._look()
            self._seen(found)
        except SyncdError:
            return None
        except Exception as error:  # noqa: BLE001 - a bug here must not take the counters away as well
            self._fault(error)
            return None
        return found


def seconds(time: datetime | None) -> float:
    """A time as Prometheus has it, in seconds since 1970; 0: never."""
    return time.timestamp() if time is not None else 0.0


def refusal(reason: str) -> str:
    """The word for the error of that name."""
    kind = error_class(reason)
    return next((word for known, word in _REFUSALS if issubclass(kind, known)), _OTHER)


def _per_list(
    value: Callable[[ListView], float | None], *, retired: bool = False
) -> Callable[[StateSample], Iterator[Sample]]:
    """``retired``: of retired lists as well. Their age and size are no matter for an alert."""

    def samples(found: StateSample) -> Iterator[Sample]:
        for one in found.overview.lists:
            number = value(one) if retired or not one.retired else None
            if number is not None:
                yield (one.head.source, one.head.list), number

    return samples


def _per_source(value: Callable[[SourceView], float | None]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(found: StateSample) -> Iterator[Sample]:
        for one in found.overview.sources:
            number = value(one)
            if number is not None:
                yield (one.name,), number

    return samples


def _outcomes(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.sources:
        for outcome in ENDS:
            yield (one.name, outcome), one.last is not None and one.last.outcome is outcome


def _refusals(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.sources:
        now = {refusal(reason) for reason in _reasons(one, Outcome.REJECTED)}
        yield from (((one.name, kind), kind in now) for kind in REFUSALS)


def _reasons_to_hold(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.sources:
        held = {reason for view in found.overview.lists if view.source is one for reason in view.held_for}
        yield from (((one.name, reason), reason in held) for reason in HoldReason)


def _holds(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.lists:
        for lane in Lane:
            yield (one.head.source, one.head.list, lane), sum(hold.lane is lane for hold in one.holds)


def _reasons(one: SourceView, outcome: Outcome) -> Iterator[str]:
    """Why lists of a source, or the whole of it, came to that outcome in its last sync."""
    faults = one.last.told.values() if one.last else ()
    return (reason for fault in faults if fault.outcome is outcome for reason in fault.reasons)


def _begun(one: SourceView) -> datetime | None:
    sync = one.running if one.running and not one.running.dry_run else one.last
    return sync.started_at if sync else None


def _published(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.sources:
        yield (one.name,), sum(view.head.source == one.name and not view.over for view in found.overview.lists)


def _proved(found: StateSample) -> Iterator[Sample]:
    for one in found.overview.lists:
        yield (one.head.source, one.head.list), not {"", one.head.list} & set(found.not_proved)


def _roles(found: StateSample) -> Iterator[Sample]:
    return (((one.role,), seconds(one.expires)) for one in found.overview.roles)


_LIST: Final = ("source", "list")
_SOURCE: Final = ("source",)

GAUGES: Final = (
    Gauge(
        "syncd_list_verified_timestamp_seconds",
        "When the source was last proved to be in the state that this list follows. Moved by success only.",
        _LIST,
        _per_list(lambda one: seconds(one.origin.verified_at) if one.origin else None),
    ),
    Gauge(
        "syncd_list_published_timestamp_seconds",
        "When the version that is served was published.",
        _LIST,
        _per_list(lambda one: seconds(one.head.published_at)),
    ),
    Gauge(
        "syncd_list_version",
        "The version that is served.",
        _LIST,
        _per_list(lambda one: one.head.version, retired=True),
    ),
    Gauge(
        "syncd_list_retired_timestamp_seconds",
        "Since when the list is retired; its age and rows are absent then. Absent: it is published.",
        _LIST,
        _per_list(lambda one: seconds(one.head.retired_at) if one.retired else None, retired=True),
    ),
    Gauge(
        "syncd_list_serial",
        "The upstream's own number of what is served.",
        _LIST,
        _per_list(lambda one: one.head.origin_serial),
    ),
    Gauge("syncd_list_rows", "Entries in force in the version that is served.", _LIST, _per_list(lambda one: one.rows)),
    Gauge(
        "syncd_list_proved",
        "1: its files were found to be what was signed, at the start or since; 0: they were not.",
        _LIST,
        _proved,
    ),
    Gauge(
        "syncd_source_configured",
        "1: it is synced; 0: lists of it are published, but it is no longer configured.",
        _SOURCE,
        _per_source(lambda one: one.configured),
    ),
    Gauge(
        "syncd_source_interval_seconds",
        "Between two syncs, as configured.",
        _SOURCE,
        _per_source(lambda one: one.interval.total_seconds() if one.interval else None),
    ),
    Gauge(
        "syncd_source_patience_seconds",
        "How old its verified state may be: three intervals, at least an hour.",
        _SOURCE,
        _per_source(lambda one: one.patience.total_seconds() if one.patience else None),
    ),
    Gauge(
        "syncd_source_success_timestamp_seconds",
        "When a sync last verified all that is followed of it; 0: never. Moved by success only.",
        _SOURCE,
        _per_source(lambda one: seconds(one.last_success_at)),
    ),
    Gauge(
        "syncd_source_last_sync_timestamp_seconds",
        "When its last sync began, whatever came of it, dry runs apart; 0: never.",
        _SOURCE,
        _per_source(lambda one: seconds(_begun(one))),
    ),
    Gauge(
        "syncd_source_next_sync_timestamp_seconds",
        "When its next sync is due; 0: none is planned.",
        _SOURCE,
        _per_source(lambda one: seconds(one.next_run_at)),
    ),
    Gauge(
        "syncd_source_failures",
        "Syncs in a row that did not reach it.",
        _SOURCE,
        _per_source(lambda one: one.failures),
    ),
    Gauge(
        "syncd_source_lists",
        "Published lists that come from it; retired ones count while it is synced and has them.",
        _SOURCE,
        _published,
    ),
    Gauge(
        "syncd_source_last_sync_outcome",
        "1 for the outcome of its last sync that ended, dry runs apart, 0 for every other.",
        ("source", "outcome"),
        _outcomes,
    ),
    Gauge(
        "syncd_source_rejected",
        "1 for each reason why lists of it, or all, were rejected in that sync, 0 for every other.",
        ("source", "reason"),
        _refusals,
    ),
    Gauge(
        "syncd_source_held",
        "1 for each reason why something of its lists waits for a person to judge, 0 for every other.",
        ("source", "reason"),
        _reasons_to_hold,
    ),
    Gauge(
        "syncd_holds",
        "Holds of the list that are open: a person has to release or discard them.",
        ("source", "list", "lane"),
        _holds,
    ),
    Gauge(
        "syncd_metadata_expiry_timestamp_seconds",
        "When the metadata that this role signed last expires.",
        ("role",),
        _roles,
    ),
)
"""All of them, but those of matchers."""
