"""The parts of the daemon that routes use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.event import Emit
from syncd.report.judged import Overview
from syncd.service.access import Access
from syncd.service.admission import Admission
from syncd.service.checkins import Checkins
from syncd.service.control import Handle
from syncd.service.log import LoggedEvent
from syncd.service.news import Announcements
from syncd.service.pulls import Pulls
from syncd.service.web.health import Health
from syncd.service.web.limits import Limits


@dataclass(frozen=True)
class Context:
    """The parts of the daemon that routes use, and no key. All are safe to call from the server's thread."""

    catalog: Catalog
    folder: StateFolder
    access: Access
    checkins: Checkins
    pulls: Pulls
    news: Announcements
    health: Health
    clock: Callable[[], datetime]
    emit: Emit
    overview: Callable[[], Overview]
    """the state of everything; reads the catalog: call it in a worker thread, as a plain ``def`` route does"""
    config: Callable[[], Config]
    """the current configuration"""
    orders: Handle
    """carries out orders, as for clients of the control socket"""
    limits: Limits = field(default_factory=Limits)
    recent: Callable[[], Sequence[LoggedEvent]] = tuple
    """the newest events of the daemon, the newest first"""
    daemon: str = ""
    """its id among the daemons that share the catalog; "": it is the only one"""

    @cached_property
    def admission(self) -> Admission:
        """Admits requests to every route."""
        return Admission(self.access, self.clock, self.emit, lambda: self.behind_proxy)

    @property
    def desk(self) -> Checkins:
        """Takes check-ins."""
        return self.checkins

    def checked_in(self) -> None:
        """Announce that check-ins were taken."""
        self.news.changed()

    @property
    def behind_proxy(self) -> bool:
        """True if all requests come through a proxy, so that its headers about the client can be trusted."""
        serve = self.config().serve
        return serve is not None and serve.behind_proxy
