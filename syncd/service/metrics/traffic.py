"""HTTP requests, bytes, connections and event streams."""

import enum
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import Message, Send

STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")


class RequestKind(enum.StrEnum):
    """Part of the HTTP interface that a request is for."""

    FEED = "feed"
    EVENTS = "events"
    CHECKIN = "checkin"
    MIRROR = "mirror"
    AUTH = "auth"
    STATUS = "status"
    METRICS = "metrics"
    HEALTH = "health"
    DASHBOARD = "dashboard"
    OTHER = "other"


_PATHS: Final = {
    "/api/v1/events": RequestKind.EVENTS,
    "/api/v1/checkin": RequestKind.CHECKIN,
    "/api/v1/auth": RequestKind.AUTH,
    "/api/v1/status": RequestKind.STATUS,
    "/metrics": RequestKind.METRICS,
    "/healthz": RequestKind.HEALTH,
    "/readyz": RequestKind.HEALTH,
    "/": RequestKind.DASHBOARD,
}
_BELOW: Final = (
    ("/feed/", RequestKind.FEED),
    ("/api/v1/mirror/", RequestKind.MIRROR),
    ("/dashboard", RequestKind.DASHBOARD),
)


def kind_of(path: str) -> RequestKind:
    """Return the kind of request for a path."""
    return _PATHS.get(path) or next((kind for start, kind in _BELOW if path.startswith(start)), RequestKind.OTHER)


class Traffic:
    """Counts requests, bytes and open streams. Safe to share between threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter("syncd_http_requests_total", "Requests answered.", ("kind", "status"), registry=registry)
        sent = Counter(
            "syncd_http_response_bytes_total", "Bytes of response bodies sent.", ("kind",), registry=registry
        )
        self._requests = {
            (kind, status): requests.labels(kind, status) for kind in RequestKind for status in STATUS_CLASSES
        }
        self._sent = {kind: sent.labels(kind) for kind in RequestKind}

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=registry)

        self._connections = gauge("syncd_http_connections", "Open connections.")
        self._connections_limit = gauge("syncd_http_connections_limit", "Highest number of open connections.")
        self._streams = gauge("syncd_http_event_streams", "Open event streams.")
        self._streams_limit = gauge("syncd_http_event_streams_limit", "Highest number of open event streams.")

    def watch(
        self, connections: Callable[[], int], streams: Callable[[], int], *, max_connections: int, max_streams: int
    ) -> None:
        """Report the numbers of open connections and streams, read at each scrape, and their limits."""
        self._connections.set_function(connections)
        self._streams.set_function(streams)
        self._connections_limit.set(max_connections)
        self._streams_limit.set(max_streams)

    def counted(self, path: str, send: Send) -> Send:
        """Return a ``send`` for the answer to one request, which counts it."""
        kind = kind_of(path)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                counter = self._requests.get((kind, f"{message['status'] // 100}xx"))
                if counter is not None:
                    counter.inc()
            elif message["type"] == "http.response.body":
                self._sent[kind].inc(len(message.get("body", b"")))
            await send(message)

        return sending
