"""What is asked for over HTTP: an ASGI layer that counts what passes through it."""

import enum
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")


class RequestKind(enum.StrEnum):
    """What is asked for."""

    FEED = "feed"
    EVENTS = "events"
    CHECKIN = "checkin"
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
_BELOW: Final = (("/feed/", RequestKind.FEED), ("/dashboard", RequestKind.DASHBOARD))


def kind_of(path: str) -> RequestKind:
    """What a path asks for."""
    return _PATHS.get(path) or next((kind for start, kind in _BELOW if path.startswith(start)), RequestKind.OTHER)


class Traffic:
    """Counts requests, bytes and open streams. Safe to share between threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter("syncd_http_requests_total", "Requests answered.", ("kind", "status"), registry=registry)
        sent = Counter("syncd_http_response_bytes_total", "Bytes of bodies sent.", ("kind",), registry=registry)
        self._requests = {(kind, one): requests.labels(kind, one) for kind in RequestKind for one in STATUS_CLASSES}
        self._sent = {kind: sent.labels(kind) for kind in RequestKind}

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=registry)

        self._connections = gauge("syncd_http_connections", "Connections that are open.")
        self._connections_limit = gauge("syncd_http_connections_limit", "Connections that may be open at once.")
        self._streams = gauge("syncd_http_event_streams", "Streams of events that are open.")
        self._streams_limit = gauge("syncd_http_event_streams_limit", "Streams of events that may be open at once.")

    def watch(self, connections: Callable[[], int], *, max_connections: int, max_streams: int) -> None:
        """Tell how many connections are open, asked at each scrape, and how many may be."""
        self._connections.set_function(connections)
        self._connections_limit.set(max_connections)
        self._streams_limit.set(max_streams)

    def answered(self, kind: RequestKind, status: int) -> None:
        """An answer began."""
        counter = self._requests.get((kind, f"{status // 100}xx"))
        if counter is not None:
            counter.inc()

    def sent(self, kind: RequestKind, length: int) -> None:
        """A part of a body went out."""
        self._sent[kind].inc(length)

    def opened(self, by: int) -> None:
        """So many streams more, or less, are open."""
        self._streams.inc(by)


class Counted:
    """The application within, and all that it answers counted."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it (ASGI specification 3.0, HTTP)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind, traffic, streaming = kind_of(scope["path"]), self._traffic, False

        async def counted(message: Message) -> None:
            nonlocal streaming
            if message["type"] == "http.response.start":
                traffic.answered(kind, message["status"])
                if kind is RequestKind.EVENTS and message["status"] == 200 and not streaming:  # noqa: PLR2004 - RFC 9110
                    streaming = True
                    traffic.opened(1)
            elif message["type"] == "http.response.body":
                traffic.sent(kind, len(message.get("body", b"")))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            if streaming:
                traffic.opened(-1)
