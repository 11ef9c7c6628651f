"""The metrics of one daemon."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from syncd import events
from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.event import Emit
from syncd.service.metrics.activity import Activity
from syncd.service.metrics.expiry import ExpiryCollector
from syncd.service.metrics.exposition import Exposition
from syncd.service.metrics.fleet import FLEET_GAUGES
from syncd.service.metrics.matchers import MATCHER_GAUGES
from syncd.service.metrics.state import GAUGES, StateCollector, StateSample


class Metrics(Exposition):
    """All metrics of one daemon. Safe to share between threads.

    ``config`` returns the configuration in force; ``read_state``, called at each scrape, may raise `SyncdError`.
    """

    def __init__(
        self,
        folder: StateFolder,
        config: Callable[[], Config],
        read_state: Callable[[], StateSample],
        emit: Emit,
    ) -> None:
        self._follows = False
        """True if another daemon leads"""
        state = StateCollector(
            read_state,
            (*GAUGES, *MATCHER_GAUGES, *FLEET_GAUGES),
            on_state=self._note_state,
            on_bug=lambda error: emit(events.InternalError.of(error, "metrics")),
        )
        registry = CollectorRegistry()
        registry.register(state)  # first, since it begins the series of new sources and lists
        registry.register(ExpiryCollector(folder, config, lambda: self._follows))
        self.activity = Activity(registry)
        super().__init__(registry)

    def _note_state(self, sample: StateSample) -> None:
        self._follows = sample.overview.fleet is not None and sample.overview.fleet.follows
        self.activity.begin_series(sample)
