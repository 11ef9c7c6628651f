"""A whole mirror, from its first update until it is stopped."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from syncd import __version__, events
from syncd.errors import StoreError, SyncdError, UsageError, worst_error
from syncd.event import Emit
from syncd.feed.folder import FeedFolder
from syncd.fetch.endpoint import Endpoint
from syncd.listen import Address
from syncd.locks import lock
from syncd.mirror.app import MirrorContext, make_app
from syncd.mirror.metrics import MirrorCollector
from syncd.mirror.relay import CheckinRelay
from syncd.mirror.replica import Replica
from syncd.mirror.tokens import CONFIRMED_WITHIN, TokenWatch, UpstreamTokens
from syncd.mirror.updates import Updates
from syncd.model import ListName
from syncd.service.access import Access
from syncd.service.news import Announcements
from syncd.service.web.dispatch import Dispatch
from syncd.service.web.foreground import certificates_of, serve_until_stopped
from syncd.service.web.limits import Limits
from syncd.service.web.server import WebServer, fitting_limits
from syncd.service.web.tls import TlsFiles
from syncd.trust.values import TIMESTAMP
from syncd.units import count, span

_TOKENS: Final = "access.json"
_STOP_WITHIN: Final = 5.0


@dataclass(frozen=True)
class MirrorSettings:
    """The options of `syncd mirror`. ``interval`` and ``deadline`` are in seconds."""

    endpoint: Endpoint
    root: bytes
    folder: Path
    address: Address
    tls: TlsFiles | None
    instance: str
    interval: float
    deadline: float
    metrics_token: str | None = field(default=None, repr=False)
    max_streams: int = Limits.streams


def run(
    settings: MirrorSettings, *, announce: Callable[[str], None], emit: Emit, clock: Callable[[], datetime]
) -> None:
    """Mirror until SIGTERM or SIGINT. In the main thread. ``announce`` receives the URL once the mirror serves.

    A mirror that has a state serves it at once, whatever the upstream does. One that has none makes its first update
    first, and raises its error: `SourceError`, `TrustError`, `RefusedError`, `StoreError`, `UsageError`.
    """
    api = settings.endpoint.api
    if api is None:
        raise UsageError(
            "this is not the address of a syncd daemon's or mirror's feed: a mirror asks it which tokens to admit",
            hint="give the address that ends in /feed/, as for `syncd pull`",
        )
    replica = Replica(FeedFolder(settings.folder), settings.root)
    replica.prepare()
    with lock(replica.feed.lock, "syncd mirror"):
        _Mirror(settings, api, replica, emit, clock).run(announce)


class _Mirror:
    def __init__(
        self,
        settings: MirrorSettings,
        api: Endpoint,
        replica: Replica,
        emit: Emit,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._replica, self._emit, self._clock = settings, replica, emit, clock
        self._tokens = UpstreamTokens(api, replica.feed.work / _TOKENS, clock)
        self._relay = CheckinRelay(api)
        self._news = Announcements(f"{int(clock().timestamp() * 1000):x}.{os.getpid()}")
        self._fault: SyncdError | None = None
        self._app: Dispatch | None = None
        self._updates = Updates(
            replica,
            settings.endpoint,
            self._tokens,
            interval=settings.interval,
            deadline=settings.deadline,
            instance=settings.instance,
            announce=self._announce,
            emit=emit,
            clock=clock,
        )

    def run(self, announce: Callable[[str], None]) -> None:
        """Prepare, serve until stopped, and end all threads."""
        self._load()
        if not (self._tokens.known and self._replica.feed.metadata(TIMESTAMP)):
            self._update_first()
        access = Access(self._tokens, metrics_token=self._settings.metrics_token)
        self._tokens.on_change = access.reload
        limits = fitting_limits(Limits(streams=self._settings.max_streams))
        self._app = app = make_app(self._context(access, limits))
        for name, version in self._replica.served.versions.items():
            self._announce(name, version)
        certificates = certificates_of(self._settings.tls, self._emit, self._clock)
        server = WebServer(
            app,
            self._settings.address,
            tls=certificates.listening if certificates else None,
            limits=limits,
            emit=self._emit,
            stopping=app.close,
            setting="--listen",
        )
        app.traffic.watch(
            lambda: server.connections,
            lambda: app.streams.count,
            max_connections=limits.connections,
            max_streams=limits.streams,
        )
        watch = TokenWatch(self._tokens, self._emit)
        self._emit(events.MirrorStarted(__version__, os.getpid(), str(self._settings.folder)))
        try:
            self._relay.start()
            watch.start()
            self._updates.start(watch)
            serve_until_stopped(server, certificates, announce=announce, beat=self._check)
        finally:
            self._updates.stop(_STOP_WITHIN)
            watch.close()
            self._relay.close()
        self._emit(events.MirrorStopped())

    def _update_first(self) -> None:
        """Update before anything is served. Raises the error of a list, and as `Updates.once`."""
        if error := worst_error(self._updates.once().errors):
            raise error

    def _load(self) -> None:
        """Read what an earlier run left. If the state cannot be proved it is served all the same, and replaced soon."""
        self._tokens.load()
        try:
            self._replica.load(self._tokens.scope)
        except SyncdError as error:
            self._fault = error
            self._emit(events.MirrorNotUpdated(error.message, error.hint, "the files as they are", rejected=True))

    def _context(self, access: Access, limits: Limits) -> MirrorContext:
        return MirrorContext(
            feed=self._replica.feed,
            access=access,
            desk=self._relay,
            news=self._news,
            clock=self._clock,
            emit=self._emit,
            readiness=self._readiness,
            collector=MirrorCollector(self._replica, self._tokens, self._relay, self._updates),
            limits=limits,
        )

    def _announce(self, name: ListName, version: int) -> None:
        if self._app is not None:
            self._app.feed.refresh()
        self._news.announce(name, version)

    def _check(self) -> None:
        if not self._updates.running:
            raise StoreError(
                "the mirror's updates have ended unexpectedly", hint="start it again, and report this as a bug"
            )

    def _readiness(self) -> tuple[bool, str]:
        """Return True if a proved state is served, whatever the upstream does, and a report."""
        served = self._replica.served
        ready = served.trusted is not None
        updated, seconds = self._updates.succeeded_at, self._tokens.unconfirmed_for
        if self._tokens.confirmed_at is None:
            tokens = "not confirmed since the start"
        else:
            confirmed = "confirmed" if seconds <= CONFIRMED_WITHIN else "not confirmed since"
            tokens = f"{confirmed} {span(timedelta(seconds=seconds))} ago"
        lines = [
            f"{'ready' if ready else 'not ready'}: {count(len(served.lists), 'list')}",
            f"updated: {span(self._clock() - updated)} ago" if updated else "updated: not since the start",
            f"tokens: {tokens}",
        ]
        return ready, "\n".join([*lines, ""])
