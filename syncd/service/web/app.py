"""The daemon's application: frequent requests first, as plain ASGI; FastAPI for the rest."""

from starlette.types import Receive, Scope, Send

from syncd.service.metrics.exposition import metrics_route
from syncd.service.metrics.scrape import Metrics
from syncd.service.metrics.state import StateSample
from syncd.service.shared_attempts import SharedAttempts
from syncd.service.web import api
from syncd.service.web.context import Context
from syncd.service.web.dashboard import Dashboard
from syncd.service.web.dispatch import Dispatch
from syncd.service.web.events import Streams
from syncd.service.web.feed import FeedRoutes


class App:
    """All HTTP routes of the daemon, as one ASGI application."""

    def __init__(self, context: Context) -> None:
        self.feed = FeedRoutes(context.folder.feed, context.admission, context.pulls.note, context.limits.look)
        self.streams = Streams(context.news, context.access, context.admission, context.limits)
        self.metrics = make_metrics(context)
        self.dashboard = Dashboard(context)
        self.api = api.build(context, [metrics_route(self.metrics, context.admission), *self.dashboard.routes()])
        attempts = context.admission.attempts
        self._attempts = SharedAttempts(context.catalog, context.daemon, attempts) if context.daemon else None
        self._dispatch = Dispatch(
            feed=self.feed,
            streams=self.streams,
            api=self.api,
            traffic=self.metrics.traffic,
            limits=context.limits,
            emit=context.emit,
        )

    def close(self) -> None:
        """End every stream, because the server stops."""
        self._dispatch.close()
        self.dashboard.close()

    def exchange(self) -> None:
        """Exchange sessions and wrong tokens with other daemons; to be called every second. Raises `StoreError`."""
        if self._attempts:
            self._attempts.look()
        self.dashboard.exchange()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._dispatch(scope, receive, send)


def make_metrics(context: Context) -> Metrics:
    """Return the metrics of the daemon behind ``context``."""
    return Metrics(
        context.folder,
        context.config,
        lambda: StateSample(context.overview(), tuple(context.health.faults)),
        context.emit,
    )
