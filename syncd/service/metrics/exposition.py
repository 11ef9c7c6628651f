"""The registry of one server, what all servers report, and the route that shows it."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncd import __version__
from syncd.service.access import PEOPLE, Kind
from syncd.service.admission import Admission, TokenRefusal
from syncd.service.metrics.traffic import Traffic

_PATH: Final = "/metrics"
_NO_STORE: Final = {"cache-control": "no-store"}


class Exposition(Collector):
    """The metrics of one server: those in ``registry``, and those of its traffic and process. Safe to share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.traffic = Traffic(self.registry)
        build = Gauge(
            "syncd_build_info", "Always 1; the label is the version of syncd.", ("version",), registry=self.registry
        )
        build.labels(__version__).set(1)
        ProcessCollector(registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, without the time at which each series began: it doubles their number, and is of no use."""
        for metric in self.registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the requested format (text or OpenMetrics), and the content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type


def metrics_route(metrics: Exposition, admission: Admission) -> Route:
    """Return the route ``/metrics``, for operators, viewers and metrics collectors."""

    def show(request: Request) -> Response:  # not async: it may read the catalog, so it runs in a worker thread
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

    return Route(_PATH, show, methods=["GET"])
