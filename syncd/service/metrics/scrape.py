"""The registry of one daemon, and the route that shows it."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from syncd import __version__, events
from syncd.service.access import Access, Kind
from syncd.service.metrics.activity import Activity
from syncd.service.metrics.expiry import ExpiryCollector
from syncd.service.metrics.matchers import MATCHER_GAUGES
from syncd.service.metrics.state import GAUGES, StateCollector, StateSample
from syncd.service.metrics.web import Traffic
from syncd.service.web.context import Context

_NO_STORE: Final = {"cache-control": "no-store"}


class Metrics(Collector):
    """All that one daemon tells Prometheus. Safe to share between threads."""

    def __init__(self, context: Context) -> None:
        self._registry = CollectorRegistry()
        self._emit = context.emit
        state = StateCollector(lambda: _look(context), (*GAUGES, *MATCHER_GAUGES), self._seen, self._fault)
        self._registry.register(state)  # first: it begins the series of what is new
        self._registry.register(ExpiryCollector(context.publisher.folder, context.config))
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

    def _seen(self, found: StateSample) -> None:
        self.activity.know(found)

    def _fault(self, error: Exception) -> None:
        self._emit(events.InternalError.of(error, "metrics"))


def routes(metrics: Metrics, access: Access) -> list[BaseRoute]:
    """``/metrics``, for the operator and for who collects metrics."""

    def show(request: Request) -> Response:  # not async: it reads the catalog, and so has a thread to itself
        visitor = access.admit(request.headers.get("authorization", "").encode("latin-1"))
        if visitor is None:
            return PlainTextResponse("unauthorised\n", 401, {**_NO_STORE, "www-authenticate": "Bearer"})
        if visitor.kind not in {Kind.OPERATOR, Kind.METRICS}:
            return PlainTextResponse("forbidden\n", 403, _NO_STORE)
        content, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(content, headers={**_NO_STORE, "content-type": content_type})

    return [Route("/metrics", show, methods=["GET"])]


def _look(context: Context) -> StateSample:
    """Raises `StoreError`, `UsageError`."""
    return StateSample(context.overview(), tuple(context.health.faults))
