"""The registry of one daemon, and the route that shows it."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from syncd import __version__, events
from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.event import Emit
from syncd.service.access import PEOPLE, Kind
from syncd.service.admission import Admission, TokenRefusal
from syncd.service.metrics.activity import Activity
from syncd.service.metrics.expiry import ExpiryCollector
from syncd.service.metrics.fleet import FLEET_GAUGES
from syncd.service.metrics.matchers import MATCHER_GAUGES
from syncd.service.metrics.state import GAUGES, StateCollector, StateSample
from syncd.service.metrics.traffic import Traffic

_PATH: Final = "/metrics"
_NO_STORE: Final = {"cache-control": "no-store"}


class Metrics(Collector):
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
        self._registry = CollectorRegistry()
        self._follows = False
        """True if another daemon leads"""
        state = StateCollector(
            read_state,
            (*GAUGES, *MATCHER_GAUGES, *FLEET_GAUGES),
            on_state=self._note_state,
            on_bug=lambda error: emit(events.InternalError.of(error, "metrics")),
        )
        self._registry.register(state)  # first, since it begins the series of new sources and lists
        self._registry.register(ExpiryCollector(folder, config, lambda: self._follows))
        self.activity = Activity(self._registry)
        self.traffic = Traffic(self._registry)
        build = Gauge(
            "syncd_build_info", "Always 1; the label is the version of syncd.", ("version",), registry=self._registry
        )
        build.labels(__version__).set(1)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, without the time at which each series began: it doubles their number, and is of no use."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the requested format (text or OpenMetrics), and the content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def _note_state(self, sample: StateSample) -> None:
        self._follows = sample.overview.fleet is not None and sample.overview.fleet.follows
        self.activity.begin_series(sample)


def routes(metrics: Metrics, admission: Admission) -> list[BaseRoute]:
    """Return the route ``/metrics``, for operators, viewers and metrics collectors."""

    def show(request: Request) -> Response:  # not async: it reads the catalog, so it runs in a worker thread
        visitor = admission.admit(request.scope, _PATH)
        if isinstance(visitor, TokenRefusal):
            if visitor.wait:
                headers = {**_NO_STORE, "retry-after": str(visitor.wait)}
                return PlainTextResponse("too many wrong tokens from this address\n", 429, headers)
            return PlainTextResponse("unauthorised\n", 401, {**_NO_STORE, "www-authenticate": "Bearer"})
        if visitor.kind not in {*PEOPLE, Kind.METRICS}:
            return PlainTextResponse("forbidden\n", 403, _NO_STORE)
        content, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(content, headers={**_NO_STORE, "content-type": content_type})

    return [Route(_PATH, show, methods=["GET"])]
