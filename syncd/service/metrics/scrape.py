"""The registry of one daemon."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from syncd import __version__
from syncd.config import Config
from syncd.pipeline.overview import Overview
from syncd.pipeline.state import StateFolder
from syncd.service.metrics.activity import Activity
from syncd.service.metrics.expiry import ExpiryCollector
from syncd.service.metrics.matchers import MATCHER_GAUGES
from syncd.service.metrics.state import GAUGES, StateCollector
from syncd.service.metrics.web import Traffic


class Metrics(Collector):
    """All that one daemon tells Prometheus. Safe to share between threads."""

    def __init__(self, look: Callable[[], Overview], config: Callable[[], Config], folder: StateFolder) -> None:
        """``look`` gives the overview, at each scrape."""
        self._registry = CollectorRegistry()
        state = StateCollector(look, (*GAUGES, *MATCHER_GAUGES), self._seen, self._fault)
        self._registry.register(state)  # first: it begins the series of what is new
        self._registry.register(ExpiryCollector(folder, config))
        self.activity = Activity(self._registry)
        self.traffic = Traffic(self._registry)
        build = Gauge("syncd_build_info", "1, with the version of syncd.", ("version",), registry=self._registry)
        build.labels(__version__).set(1)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """All metrics; without the time at which each series began, which doubles them and which nobody asks for."""
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if one.name != f"{metric.name}_created"]
            yield metric

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of it in the format that is asked for (text, or OpenMetrics), and the content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def _seen(self, found: Overview) -> None:
        self.activity.know(found)

    def _fault(self, error: Exception) -> None:
        self.activity.fault(type(error).__name__)
