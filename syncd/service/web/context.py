"""What routes are given to answer with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from syncd.config import Config
from syncd.event import Emit
from syncd.pipeline.publisher import Publisher
from syncd.report.overview import Overview
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.news import Announcements
from syncd.service.pulls import Pulls
from syncd.service.web.health import Health
from syncd.service.web.limits import Limits


@dataclass(frozen=True)
class Context:
    """Parts of the daemon that routes use. All are safe to call from the server's thread."""

    publisher: Publisher
    access: Access
    checkins: Checkins
    pulls: Pulls
    news: Announcements
    health: Health
    clock: Callable[[], datetime]
    emit: Emit
    overview: Callable[[], Overview]
    """how everything stands; reads the catalog: call it in a worker thread (a plain ``def`` route is in one)"""
    config: Callable[[], Config]
    """the configuration in force"""
    limits: Limits = field(default_factory=Limits)

    @property
    def behind_proxy(self) -> bool:
        """Whether only a proxy can ask us, so that what it says of who asks is true."""
        serve = self.config().serve
        return serve is not None and serve.behind_proxy
