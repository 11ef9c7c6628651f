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
        state = StateCollector(
            read_state,
            (*GAUGES, *MATCHER_GAUGES),
            on_state=self._begin_series,
            on_bug=lambda error: emit(events.InternalError.of(error, "metrics")),
        )
        registry = CollectorRegistry()
        registry.register(state)  # first, since it begins the series of new sources and lists
        registry.register(ExpiryCollector(folder, config))
        self.activity = Activity(registry)
        super().__init__(registry)

    def _begin_series(self, sample: StateSample) -> None:
        self.activity.begin_series(sample)
