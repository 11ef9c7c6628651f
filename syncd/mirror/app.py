"""The HTTP side of a mirror: the routes of the daemon that matchers and mirrors use, health, and metrics."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.registry import Collector, CollectorRegistry

from syncd.event import Emit
from syncd.feed.folder import FeedFolder
from syncd.mirror.relay import CheckinRelay
from syncd.service.access import Access
from syncd.service.admission import Admission
from syncd.service.metrics.exposition import Exposition, metrics_route
from syncd.service.news import Announcements
from syncd.service.web.dispatch import Dispatch
from syncd.service.web.documents import NO_STORE, add_error_answers
from syncd.service.web.events import Streams
from syncd.service.web.feed import FeedRoutes
from syncd.service.web.limits import Limits
from syncd.service.web.readers import add_reader_routes

Readiness = Callable[[], tuple[bool, str]]
"""Returns True if the mirror serves a state that it has proved, and a report without names."""


@dataclass(frozen=True)
class MirrorContext:
    """The parts of a mirror that routes use. A `syncd.service.web.readers.ReaderContext`."""

    feed: FeedFolder
    access: Access
    desk: CheckinRelay
    news: Announcements
    clock: Callable[[], datetime]
    emit: Emit
    readiness: Readiness
    collector: Collector
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def admission(self) -> Admission:
        """Admits requests to every route."""
        return Admission(self.access, self.clock, self.emit, lambda: False)

    def checked_in(self) -> None:
        """Announce that check-ins were taken: nobody here waits for that."""


def make_app(context: MirrorContext) -> Dispatch:
    """Return the application of a mirror."""
    registry = CollectorRegistry()
    registry.register(context.collector)
    exposition = Exposition(registry)
    return Dispatch(
        feed=FeedRoutes(context.feed, context.admission, lambda _name, _path, _sent: None, context.limits.look),
        streams=Streams(context.news, context.access, context.admission, context.limits),
        api=_api(context, exposition),
        traffic=exposition.traffic,
        limits=context.limits,
        emit=context.emit,
    )


def _api(context: MirrorContext, exposition: Exposition) -> FastAPI:
    app = FastAPI(title="syncd mirror", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    add_reader_routes(app, context)
    add_error_answers(app)
    app.router.routes.append(metrics_route(exposition, context.admission))

    @app.head("/healthz")
    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n", headers=NO_STORE)

    @app.head("/readyz")
    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        del request
        ready, text = context.readiness()
        return PlainTextResponse(text, 200 if ready else 503, headers=NO_STORE)

    return app
