"""Gauges of the state, read at each scrape."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from syncd.catalog.decisions import CanaryNote
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
from syncd.report.holds import reasons_of
from syncd.report.judged import ListView, Overview, SourceView

Sample = tuple[tuple[str, ...], float]
"""Label values, and the value."""

ENDS: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.RUNNING)
"""Outcomes of a sync that has ended."""

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
ALL_LISTS: Final = "*"
"""Label value for suppressions of all lists; no list has this name."""
REFUSALS: Final = (*(word for _, word in _REFUSALS), _OTHER)
"""Label values for the reason of a rejection."""


@dataclass(frozen=True)
class StateSample:
    """State at the time of a scrape."""

    overview: Overview
    not_proved: Collection[str] = ()
    """lists whose files do not match what was signed; ``""`` means all, because the metadata does not"""


@dataclass(frozen=True)
class StateGauge:
    """A metric, and the function that computes its samples."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[StateSample], Iterable[Sample]]

    def family(self, state: StateSample | None) -> Metric:
        """Return the current samples; none if the state could not be read."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.samples(state) if state else ():
            family.add_metric(labels, value)
        return family


class StateCollector(Collector):
    """Gauges from the state. If it cannot be read they are absent, and ``syncd_state_read_success`` is 0."""

    def __init__(
        self,
        read_state: Callable[[], StateSample],
        gauges: tuple[StateGauge, ...],
        on_state: Callable[[StateSample], None],
        on_bug: Callable[[Exception], None],
    ) -> None:
        """``on_state`` is called with every state, ``on_bug`` with any error that is not a `SyncdError`."""
        self._read_state, self._gauges, self._on_state, self._on_bug = read_state, gauges, on_state, on_bug

    def collect(self) -> Iterator[Metric]:
        """Read the state, then yield the gauges."""
        began = time.monotonic()
        state = self._state()
        seconds = time.monotonic() - began
        yield GaugeMetricFamily(
            "syncd_state_read_success", "1 if the state could be read at this scrape, else 0.", state is not None
        )
        yield GaugeMetricFamily("syncd_state_read_duration_seconds", "Duration of reading the state.", seconds)
        yield from (gauge.family(state) for gauge in self._gauges)

    def _state(self) -> StateSample | None:
        try:
            state = self._read_state()
            self._on_state(state)
        except SyncdError:
            return None
        except Exception as error:  # noqa: BLE001 - a bug here must not take the counters down too
            self._on_bug(error)
            return None
        return state


def seconds(time: datetime | None) -> float:
    """Return a time in seconds since 1970, as Prometheus expects; 0 for None (never)."""
    return time.timestamp() if time is not None else 0.0


def refusal(reason: str) -> str:
    """Return the label value for a rejection, by the name of its error class."""
    kind = error_class(reason)
    return next((word for known, word in _REFUSALS if issubclass(kind, known)), _OTHER)


def _per_list(
    value: Callable[[ListView], float | None], *, retired: bool = False
) -> Callable[[StateSample], Iterator[Sample]]:
    """Return a sampler per list. Skip retired lists unless ``retired``: no alert concerns their age and size."""

    def samples(state: StateSample) -> Iterator[Sample]:
        for view in state.overview.lists:
            number = value(view) if retired or not view.retired else None
            if number is not None:
                yield (view.head.source, view.head.list), number

    return samples


def _of_canaries(value: Callable[[CanaryNote], float]) -> Callable[[StateSample], Iterator[Sample]]:
    """Return a sampler of the canaries of each list, as the last sync found them."""
    return _per_list(lambda view: value(view.judged_canaries) if view.judged_canaries else None)


def _per_source(value: Callable[[SourceView], float | None]) -> Callable[[StateSample], Iterator[Sample]]:
    def samples(state: StateSample) -> Iterator[Sample]:
        for source in state.overview.sources:
            number = value(source)
            if number is not None:
                yield (source.name,), number

    return samples


def _outcomes(state: StateSample) -> Iterator[Sample]:
    for source in state.overview.sources:
        for outcome in ENDS:
            yield (source.name, outcome), source.last is not None and source.last.outcome is outcome


def _refusals(state: StateSample) -> Iterator[Sample]:
    for source in state.overview.sources:
        faults = source.last.reported_faults.values() if source.last else ()
        now = {refusal(reason) for fault in faults if fault.outcome is Outcome.REJECTED for reason in fault.reasons}
        yield from (((source.name, kind), kind in now) for kind in REFUSALS)


def _reasons_to_hold(state: StateSample) -> Iterator[Sample]:
    for source in state.overview.sources:
        held = {reason for view in state.overview.lists if view.source is source for reason in view.held_for}
        held |= {*reasons_of(state.overview.first_holds_of(source.name))}
        yield from (((source.name, reason), reason in held) for reason in HoldReason)


def _holds(state: StateSample) -> Iterator[Sample]:
    for view in state.overview.lists:
        for lane in Lane:
            yield (view.head.source, view.head.list, lane), sum(hold.lane is lane for hold in view.holds)
    first = state.overview.first_holds
    for source, name in dict.fromkeys((hold.source, hold.list) for hold in first):
        for lane in Lane:
            yield (source, name, lane), sum(hold.list == name and hold.lane is lane for hold in first)


def _suppressions(state: StateSample) -> Iterator[Sample]:
    counts = state.overview.suppressions.counts
    yield (ALL_LISTS,), counts.get(None, 0)
    names = dict.fromkeys([*(view.head.list for view in state.overview.lists), *filter(None, counts)])
    yield from (((name,), counts.get(name, 0)) for name in names)


def _begun(source: SourceView) -> datetime | None:
    sync = source.running if source.running and not source.running.dry_run else source.last
    return sync.started_at if sync else None


def _age_limits(state: StateSample) -> Iterator[Sample]:
    for view in state.overview.lists:
        if view.limits is not None and not view.retired:
            names = view.head.source, view.head.list
            yield (*names, "warn"), view.limits.warn
            yield (*names, "critical"), view.limits.critical


def _published(state: StateSample) -> Iterator[Sample]:
    for source in state.overview.sources:
        yield (source.name,), sum(view.head.source == source.name and not view.over for view in state.overview.lists)


def _proved(state: StateSample) -> Iterator[Sample]:
    for view in state.overview.lists:
        yield (view.head.source, view.head.list), not {"", view.head.list} & set(state.not_proved)


def _damaged_history(state: StateSample) -> Iterator[Sample]:
    for view in state.overview.lists:
        yield (view.head.list,), sum(fault.list == view.head.list for fault in state.overview.proof.history)


def _roles(state: StateSample) -> Iterator[Sample]:
    return (((role.role,), seconds(role.expires)) for role in state.overview.roles)


_LIST: Final = ("source", "list")
_SOURCE: Final = ("source",)

GAUGES: Final = (
    StateGauge(
        "syncd_list_verified_timestamp_seconds",
        "When the upstream state that this list follows was last verified. Moved by success only.",
        _LIST,
        _per_list(lambda view: seconds(view.origin.verified_at) if view.origin else None),
    ),
    StateGauge(
        "syncd_list_age_limit_seconds",
        "Age of the verified state from which the list needs attention (warn), or is stale (critical).",
        (*_LIST, "level"),
        _age_limits,
    ),
    StateGauge(
        "syncd_list_published_timestamp_seconds",
        "When the served version was published.",
        _LIST,
        _per_list(lambda view: seconds(view.head.published_at)),
    ),
    StateGauge(
        "syncd_list_version",
        "Served version.",
        _LIST,
        _per_list(lambda view: view.head.version, retired=True),
    ),
    StateGauge(
        "syncd_list_retired_timestamp_seconds",
        "When the list was retired; its age and rows are absent from then on. Absent while the list is published.",
        _LIST,
        _per_list(lambda view: seconds(view.head.retired_at) if view.retired else None, retired=True),
    ),
    StateGauge(
        "syncd_list_pinned_timestamp_seconds",
        "When the list was rolled back and pinned to an older version. Absent while it follows its source.",
        _LIST,
        _per_list(lambda view: seconds(view.pin.since) if view.pin else None),
    ),
    StateGauge(
        "syncd_list_pinned_version",
        "Version that the list was rolled back to. Absent while it follows its source.",
        _LIST,
        _per_list(lambda view: view.pin.version if view.pin else None),
    ),
    StateGauge(
        "syncd_list_serial",
        "Upstream serial of the served version.",
        _LIST,
        _per_list(lambda view: view.head.origin_serial),
    ),
    StateGauge("syncd_list_rows", "Entries in force in the served version.", _LIST, _per_list(lambda view: view.rows)),
    StateGauge(
        "syncd_list_proved",
        "1 if the files of the list were proved to be as signed, at the start or since, else 0.",
        _LIST,
        _proved,
    ),
    StateGauge(
        "syncd_list_canaries",
        "Digests that must be on the list.",
        _LIST,
        _of_canaries(lambda note: note.must_have),
    ),
    StateGauge(
        "syncd_list_canaries_missing",
        "Those of them that are not on the served version.",
        _LIST,
        _of_canaries(lambda note: note.missing),
    ),
    StateGauge(
        "syncd_list_known_good_entries",
        "Entries of the partner that are not published because they are known to be good.",
        _LIST,
        _of_canaries(lambda note: sum(note.kept_out.values())),
    ),
    StateGauge(
        "syncd_list_known_good_usable",
        "0 if the configured known-good file cannot be used, so that its last good reading stays in force, else 1.",
        _LIST,
        _of_canaries(lambda note: not note.fault),
    ),
    StateGauge(
        "syncd_source_configured",
        "1 if the source is configured; 0 if it is not, but lists of it are still published.",
        _SOURCE,
        _per_source(lambda source: source.configured),
    ),
    StateGauge(
        "syncd_source_interval_seconds",
        "Configured time between two syncs.",
        _SOURCE,
        _per_source(lambda source: source.interval.total_seconds() if source.interval else None),
    ),
    StateGauge(
        "syncd_source_success_timestamp_seconds",
        "When a sync last verified all followed lists of the source, whether or not it held rows; 0 if never.",
        _SOURCE,
        _per_source(lambda source: seconds(source.last_success_at)),
    ),
    StateGauge(
        "syncd_source_last_sync_timestamp_seconds",
        "When the last sync began, whatever its outcome, except dry runs; 0 if never.",
        _SOURCE,
        _per_source(lambda source: seconds(_begun(source))),
    ),
    StateGauge(
        "syncd_source_next_sync_timestamp_seconds",
        "When the next sync is due; 0 if none is planned.",
        _SOURCE,
        _per_source(lambda source: seconds(source.next_run_at)),
    ),
    StateGauge(
        "syncd_source_failures",
        "Syncs in a row that did not reach the source.",
        _SOURCE,
        _per_source(lambda source: source.failures),
    ),
    StateGauge(
        "syncd_source_late_expiry_seconds",
        "How much of the validity of the source's timestamp is beyond 30 days and does not count; 0 if all counts.",
        _SOURCE,
        _per_source(lambda source: source.late_expiry.excess.total_seconds() if source.late_expiry else 0),
    ),
    StateGauge(
        "syncd_source_lists",
        "Published lists from the source. Retired ones count while the source is synced and has them.",
        _SOURCE,
        _published,
    ),
    StateGauge(
        "syncd_source_last_sync_outcome",
        "1 for the outcome of the last sync that ended, except dry runs, 0 for all others.",
        ("source", "outcome"),
        _outcomes,
    ),
    StateGauge(
        "syncd_source_rejected",
        "1 for each reason why its lists, or all of it, were rejected in that sync, 0 for all others.",
        ("source", "reason"),
        _refusals,
    ),
    StateGauge(
        "syncd_source_held",
        "1 for each reason why changes to its lists are held for an operator, 0 for all others.",
        ("source", "reason"),
        _reasons_to_hold,
    ),
    StateGauge(
        "syncd_holds",
        "Open holds of the list. An operator has to release or discard them.",
        ("source", "list", "lane"),
        _holds,
    ),
    StateGauge(
        "syncd_suppressions",
        "Suppressions in force, by the list that they are for; `*`: for all lists.",
        ("list",),
        _suppressions,
    ),
    StateGauge(
        "syncd_suppressions_expiring",
        "Suppressions in force that expire within three days.",
        (),
        lambda state: [((), state.overview.suppressions.ending)],
    ),
    StateGauge(
        "syncd_files_proved_timestamp_seconds",
        "When all published files were last read and proved again; 0 before the first pass has ended.",
        (),
        lambda state: [((), seconds(state.overview.proof.proved_at))],
    ),
    StateGauge(
        "syncd_files_proof_late",
        "1 if no pass over all files of the state has ended for three days, else 0.",
        (),
        lambda state: [((), bool(state.overview.proof.why(state.overview.now)))],
    ),
    StateGauge(
        "syncd_history_files_damaged",
        "Damaged files of the private history.",
        ("list",),
        _damaged_history,
    ),
    StateGauge(
        "syncd_metadata_expiry_timestamp_seconds",
        "When the newest metadata signed by this role expires.",
        ("role",),
        _roles,
    ),
    StateGauge(
        "syncd_state_ahead_seconds",
        "How far the latest signature, verification or clock floor of the state lies in the future; 0 if none does.",
        (),
        lambda state: [((), state.overview.clock.furthest.total_seconds() if state.overview.clock else 0)],
    ),
)
"""All gauges of the state, except those of matchers."""
