"""Events since the daemon started, as counters and histograms.

A series exists at 0 before its first event, so that Prometheus sees the first one as an increase.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from syncd import events
from syncd.catalog.decisions import HoldState
from syncd.event import Event
from syncd.model import ListName
from syncd.outcomes import Lane, Outcome
from syncd.service.metrics.state import ENDS, StateSample

CHANGES: Final = ("added", "removed", "relabelled")
FAULTS: Final = (
    "AssertionError",
    "AttributeError",
    "IndexError",
    "KeyError",
    "MemoryError",
    "OSError",
    "RuntimeError",
    "StoreError",
    "TypeError",
    "ValueError",
    "other",
)
"""Kinds of internal errors that have a series of their own."""
HOLD_ENDS: Final = tuple(state for state in HoldState if state is not HoldState.OPEN)
"""States in which a hold may end."""
_LIST_ENDS: Final = tuple(end for end in ENDS if end not in {Outcome.STAGED, Outcome.REFUSED, Outcome.INTERRUPTED})
"""Outcomes that say something about a list. With many lists every series costs."""
_SYNC_SECONDS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_LOADED_SECONDS: Final = (1, 5, 10, 30, 60, 300, 3600)

_COUNTERS: Final = {
    "syncs": ("syncd_syncs_total", "Syncs that ended, including dry runs.", ("source", "outcome")),
    "list_syncs": ("syncd_list_syncs_total", "Outcomes of each list, one per sync.", ("source", "list", "outcome")),
    "changes": ("syncd_list_changed_entries_total", "Entries changed by publications.", ("source", "list", "change")),
    "received": (
        "syncd_source_received_bytes_total",
        "Bytes of response bodies received from the source, whatever the outcome.",
        ("source",),
    ),
    "holds_opened": ("syncd_holds_opened_total", "Holds opened.", ("source", "lane")),
    "holds_ended": ("syncd_holds_ended_total", "Holds ended.", ("source", "end")),
    "kills": ("syncd_worker_kills_total", "Workers killed because they exceeded the deadline.", ("source",)),
    "cool_downs": (
        "syncd_source_cool_downs_total",
        "Cool-downs after syncs that did not reach the source.",
        ("source",),
    ),
    "reloads": ("syncd_config_reloads_total", "Configuration reloads.", ("result",)),
    "signatures": ("syncd_timestamp_signatures_total", "Hourly signatures of our own timestamp.", ("result",)),
    "certificates": ("syncd_certificate_reloads_total", "Reloads of the server's certificate files.", ("result",)),
    "refusals": ("syncd_control_refusals_total", "Requests refused at the control socket.", ()),
    "faults": ("syncd_internal_errors_total", "Bugs and storage failures that did not stop the daemon.", ("kind",)),
}


class Activity:
    """Counts events. Safe to share between threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._counters = {
            key: Counter(name, text, labels, registry=registry) for key, (name, text, labels) in _COUNTERS.items()
        }
        self._durations = Histogram(
            "syncd_sync_duration_seconds", "Duration of syncs.", ("source",), buckets=_SYNC_SECONDS, registry=registry
        )
        self._loads = Histogram(
            "syncd_publish_to_loaded_seconds",
            "Time from the publication of a version to the check-in of each instance that loaded it.",
            ("list",),
            buckets=_LOADED_SECONDS,
            registry=registry,
        )
        self._handlers: Mapping[type[Event], Callable[[Any], None]] = {
            events.SyncFinished: self._sync_finished,
            events.ListSynced: self._list_synced,
            events.HoldOpened: lambda event: self._count("holds_opened", event.source, event.lane),
            events.HoldEnded: lambda event: self._count("holds_ended", event.source, event.ended),
            events.WorkerKilled: lambda event: self._count("kills", event.source),
            events.CoolDown: lambda event: self._count("cool_downs", event.source),
            events.ConfigReloaded: lambda _: self._count("reloads", "applied"),
            events.ConfigRejected: lambda _: self._count("reloads", "refused"),
            events.TimestampSigned: lambda _: self._count("signatures", "signed"),
            events.TimestampNotSigned: lambda _: self._count("signatures", "failed"),
            events.CertificateReloaded: lambda _: self._count("certificates", "applied"),
            events.CertificateRejected: lambda _: self._count("certificates", "refused"),
            events.ControlRefused: lambda _: self._count("refusals"),
            events.StorageFailed: lambda _: self._count("faults", "StoreError"),
            events.InternalError: lambda event: self._count("faults", event.kind if event.kind in FAULTS else "other"),
        }
        self._begin("reloads", "result", ("applied", "refused"))
        self._begin("certificates", "result", ("applied", "refused"))
        self._begin("signatures", "result", ("signed", "failed"))
        self._begin("faults", "kind", FAULTS)

    def count(self, event: Event) -> None:
        """Count an event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def loaded(self, name: ListName, seconds: float) -> None:
        """Record that an instance loaded a version, ``seconds`` after it was published."""
        self._loads.labels(name).observe(seconds)

    def begin_series(self, sample: StateSample) -> None:
        """Begin the series of each new source and list at 0."""
        sources = {(source.name, "") for source in sample.overview.sources}
        lists = {(view.head.source, str(view.head.list)) for view in sample.overview.lists}
        with self._lock:
            new = (sources | lists) - self._known
            self._known |= new
        for source, name in new:
            if name:
                self._begin("list_syncs", "outcome", _LIST_ENDS, source=source, list=name)
                self._begin("changes", "change", CHANGES, source=source, list=name)
                self._loads.labels(name)
                continue
            self._begin("syncs", "outcome", ENDS, source=source)
            self._begin("holds_opened", "lane", Lane, source=source)
            self._begin("holds_ended", "end", HOLD_ENDS, source=source)
            for key in ("received", "kills", "cool_downs"):
                self._counters[key].labels(source)
            self._durations.labels(source)

    def _begin(self, key: str, label: str, values: Iterable[str], **labels: str) -> None:
        for value in values:
            self._counters[key].labels(**labels, **{label: value})

    def _count(self, key: str, *labels: str, by: float = 1) -> None:
        counter = self._counters[key]
        (counter.labels(*labels) if labels else counter).inc(by)

    def _sync_finished(self, event: events.SyncFinished) -> None:
        self._count("syncs", event.source, event.outcome)
        self._count("received", event.source, by=event.bytes)
        self._durations.labels(event.source).observe(event.seconds)

    def _list_synced(self, event: events.ListSynced) -> None:
        self._count("list_syncs", event.source, event.list, event.outcome)
        if event.outcome is Outcome.PUBLISHED:
            for change in CHANGES:
                self._count("changes", event.source, event.list, change, by=getattr(event, change))
