"""The HTTP side of a world, on a free port of this machine, with tokens that are known."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from syncd.config import Config, Serve
from syncd.events import Event
from syncd.model import ListName
from syncd.pipeline import overview
from syncd.pipeline.state import Publisher
from syncd.service.access import Access, Kind, Visitor
from syncd.service.checkins import Checkins
from syncd.service.news import News
from syncd.service.pulls import Pulls
from syncd.service.web.context import Context, Limits
from syncd.service.web.health import Health
from syncd.service.web.site import Site
from world import World

OPERATOR = "operator-token-0123456789"
METRICS = "metrics-token-0123456789"


class Visitors(Access):
    """Known tokens, which can be taken away."""

    def __init__(self) -> None:
        self.known: dict[bytes, Visitor] = {}
        self._heard: list[Callable[[], None]] = []
        self.set_tokens(OPERATOR, METRICS)

    def set_tokens(self, operator: str | None, metrics: str | None) -> None:
        for kind, token in ((Kind.OPERATOR, operator), (Kind.METRICS, metrics)):
            self.known = {key: one for key, one in self.known.items() if one.kind is not kind}
            if token:
                self.known[hashlib.sha256(token.encode()).digest()] = Visitor(str(kind), kind, None)

    def add(self, token: str, *lists: str) -> None:
        """Let a matcher in."""
        scope = frozenset(map(ListName, lists)) or None
        self.known[hashlib.sha256(token.encode()).digest()] = Visitor(f"m-{token}", Kind.MATCHER, scope)

    def revoke(self, token: str) -> None:
        """And out again."""
        del self.known[hashlib.sha256(token.encode()).digest()]
        for one in self._heard:
            one()

    def admit(self, authorization: bytes) -> Visitor | None:
        scheme, _, token = authorization.partition(b" ")
        return self.known.get(hashlib.sha256(token.strip()).digest()) if scheme.lower() == b"bearer" else None

    def is_in_force(self, visitor: Visitor) -> bool:
        return visitor in self.known.values()

    def on_change(self, callback: Callable[[], None]) -> None:
        self._heard.append(callback)


class Told(Checkins):
    """Check-ins as they came."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[ListName, int]]] = []

    def note(self, visitor_name: str, instance: str, lists: Any, now: datetime) -> None:
        self.told.append((visitor_name, instance, dict(lists)))


class Counted(Pulls):
    """Pulls as they were."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []

    def note(self, visitor_name: str, path: str, sent: int) -> None:
        self.told.append((visitor_name, path, sent))


@dataclass
class Running:
    """A site that answers, and what goes on behind it."""

    site: Site
    world: World
    publisher: Publisher
    visitors: Visitors
    checkins: Told
    pulls: Counted
    news: News
    events: list[Event] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.site.server.url

    @property
    def port(self) -> int:
        """Of this machine."""
        return self.site.server.address.port

    def stop(self, seconds: float = 10.0) -> bool:
        """Stop it; whether it came to its end."""
        return self.site.stop(seconds)

    def named(self, name: str) -> list[Event]:
        """The events of one name."""
        return [one for one in self.events if one.name() == name]


@contextmanager
def running(world: World, limits: Limits = Limits(), prove: bool = True, **settings: Any) -> Iterator[Running]:
    """Serve a world's state."""
    serve = Serve(**{"listen": "127.0.0.1:0", **settings})
    config = Config(state_dir=world.state.root, serve=serve)
    told: list[Event] = []
    visitors, checkins, pulls, news = Visitors(), Told(), Counted(), News("e1")
    with world.publisher() as opened:
        holder: list[Site] = []

        def announce(name: ListName, version: int) -> None:
            holder[0].app.feed.refresh()
            news.tell(name, version)

        publisher = replace(opened, announce=announce)
        for head in publisher.catalog.heads():
            news.tell(head.list, head.version)
        context = Context(
            publisher=publisher,
            access=visitors,
            checkins=checkins,
            pulls=pulls,
            news=news,
            health=Health(world.state.feed, publisher.catalog, told.append),
            clock=world.clock,
            emit=told.append,
            overview=lambda: overview.read(world.state, publisher.catalog, {"iwf": 600.0}, world.clock()),
            config=lambda: config,
            limits=limits,
        )
        site = Site(serve, context)
        holder.append(site)
        site.start()
        try:
            yield Running(site, world, publisher, visitors, checkins, pulls, news, told)
        finally:
            assert site.stop(10)


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    """Do something meanwhile."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def named_file(world: World, pattern: str) -> str:
    """The path, in the feed, of the only file that fits."""
    (found,) = Path(world.state.feed.root).glob(pattern)
    return str(found.relative_to(world.state.feed.root))
