"""What routes are given to answer with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from syncd.config import Config
from syncd.event import Emit
from syncd.pipeline.publisher import Publisher
from syncd.report.overview import Overview
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.news import Announcements
from syncd.service.pulls import Pulls
from syncd.service.web.health import Health

MAX_BODY: Final = 64 << 10
"""Bytes of a request's body, at most."""


@dataclass(frozen=True)
class Limits:
    """How much and how long. Seconds, where nothing else is said."""

    connections: int = 4096
    """beyond that a new one is told 503"""
    spare: int = 64
    """and beyond so many more it is closed without a word"""
    streams: int = 2000
    head_within: float = 10.0
    """for a request's head and body to come"""
    idle: float = 75.0
    """for the next request on a connection that is kept"""
    take_within: float = 30.0
    """a client that takes no byte of an answer for longer is dropped"""
    stream_take_within: float = 10.0
    """the same for a stream of events"""
    beat: float = 15.0
    """between two signs of life on a stream"""
    look: float = 1.0
    """between two looks at connections, and at files that change"""
    remember: float = 1.0
    """how long what `/readyz` says is kept"""
    finish_within: float = 6.0
    """for answers under way when the server is stopped"""


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
