"""The HTTP side of a world, on a free port of this machine, with tokens that are known."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from syncd.catalog.catalog import Catalog
from syncd.config import Config, DashboardTable, Serve
from syncd.event import Event
from syncd.model import ListName
from syncd.operate import matchers
from syncd.pipeline.publisher import Publisher
from syncd.report import overview
from syncd.service.access import Access, Kind, PersonToken
from syncd.service.checkins import Checkins
from syncd.service.control import Handle
from syncd.service.list_orders import ListOrders
from syncd.service.log import LoggedEvent
from syncd.service.news import Announcements
from syncd.service.orders import Orders
from syncd.service.pulls import Pulls
from syncd.service.questions import Questions
from syncd.service.syncs import Syncs
from syncd.service.web.context import Context
from syncd.service.web.health import Health
from syncd.service.web.limits import Limits
from syncd.service.web.site import Site
from world import World

OPERATOR = "operator-token-0123456789"
ALICE = PersonToken("alice", Kind.OPERATOR, "alice-token-0123456789")
VERA = PersonToken("vera", Kind.VIEWER, "vera-token-0123456789")
METRICS = "metrics-token-0123456789"
LIMITS = Limits()
INTERVALS = {"iwf": 600.0}


class Counted(Pulls):
    """Pulls, as they came too."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.told: list[tuple[str, str, int]] = []

    def note(self, visitor_name: str, path: str, sent: int) -> None:
        self.told.append((visitor_name, path, sent))
        super().note(visitor_name, path, sent)


@dataclass
class Running:
    """A site that answers, and what goes on behind it."""

    site: Site
    world: World
    publisher: Publisher
    access: Access
    checkins: Checkins
    pulls: Counted
    news: Announcements
    health: Health
    context: Context
    events: list[Event] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.site.server.url

    @property
    def port(self) -> int:
        """Of this machine."""
        return self.site.server.address.port

    def add(self, name: str, *lists: str) -> dict[str, str]:
        """Let a matcher in; returns the header that shows its token."""
        token, scope = matchers.new_token(), tuple(map(ListName, lists))
        matchers.add(self.publisher.catalog, name, scope, asked_by="me", now=self.world.clock(), token=token)
        self.access.reload()
        return bearer(token)

    def revoke(self, name: str) -> None:
        """And out again."""
        matchers.revoke(self.publisher.catalog, name, asked_by="me", now=self.world.clock())
        self.access.reload()

    def stop(self, seconds: float = 10.0) -> bool:
        """Stop it; whether it came to its end."""
        return self.site.stop(seconds)

    def gone(self) -> None:
        """Wait until no connection is left."""
        _until(lambda: not self.site.server.connections)

    def pulled(self) -> int:
        """The bytes of the first file that was sent, once that has come to its end."""
        _until(lambda: bool(self.pulls.told))
        return self.pulls.told[0][2]

    def named(self, name: str) -> list[Event]:
        """The events of one name."""
        return [one for one in self.events if one.name() == name]


@contextmanager
def running(
    world: World,
    limits: Limits = LIMITS,
    intervals: Mapping[str, float] = INTERVALS,
    *,
    actions: bool = False,
    daemon: str = "",
    runbook: str | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """Serve a world's state. ``actions``: operators may act on the dashboard, and sync the source iwf.

    ``daemon``: its id, if it is one of several that share the catalog. ``runbook``: as in the configuration.
    """
    serve = Serve(**{"listen": "127.0.0.1:0", **settings})
    sources: Any = {"iwf": {"url": world.url, "root": world.root}} if actions else {}
    config = Config(
        state_dir=world.state.root,
        serve=serve,
        dashboard=DashboardTable(actions=actions),
        sources=sources,
        runbook=runbook,
    )
    told: list[Event] = []
    news = Announcements(f"e1{daemon}")
    with world.publisher() as opened:
        access = Access(opened.catalog, OPERATOR, METRICS, (ALICE, VERA))
        checkins = Checkins(opened.catalog)
        pulls = Counted(opened.catalog)
        holder: list[Site] = []

        def announce(name: ListName, version: int) -> None:
            holder[0].app.feed.refresh()
            news.announce(name, version)

        publisher = replace(opened, announce=announce)
        for head in publisher.catalog.heads():
            news.announce(head.list, head.version)
        syncs = Syncs(publisher, world.clock, told.append, lambda _: news.changed())
        context = Context(
            catalog=publisher.catalog,
            folder=publisher.folder,
            access=access,
            checkins=checkins,
            pulls=pulls,
            news=news,
            health=Health(world.state, publisher.catalog, told.append),
            clock=world.clock,
            emit=told.append,
            overview=lambda: overview.read(
                world.state, publisher.catalog, intervals, world.clock(), loaded=checkins.snapshot()
            ),
            config=lambda: config,
            orders=make_orders(world, publisher, config, syncs, access, told, news),
            limits=limits,
            daemon=daemon,
            recent=lambda: tuple(LoggedEvent(world.clock(), event) for event in reversed(told)),
        )
        site = Site(serve, context)
        holder.append(site)
        context.health.prove()
        site.start()
        try:
            yield Running(site, world, publisher, access, checkins, pulls, news, context.health, context, told)
        finally:
            assert syncs.stop(5, 5) == ()
            assert site.stop(10)


def make_orders(
    world: World,
    publisher: Publisher,
    config: Config,
    syncs: Syncs,
    access: Access,
    told: list[Event],
    news: Announcements,
) -> Handle:
    """As the daemon does it."""

    return Orders(
        state_dir=str(config.state_dir),
        syncs=syncs,
        catalog=publisher.catalog,
        questions=Questions(world.state, publisher.catalog, world.clock),
        sources=lambda name: (config.source(str(name)),),
        overview=lambda: overview.read(world.state, publisher.catalog, {}, world.clock()),
        access=access,
        checkins=Checkins(publisher.catalog),
        clock=world.clock,
        emit=told.append,
        lists=ListOrders(publisher, world.clock, told.append, news.changed, lambda: config),
    )


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def named_file(world: World, pattern: str) -> str:
    """The path, in the feed, of the only file that fits."""
    (found,) = Path(world.state.feed.root).glob(pattern)
    return str(found.relative_to(world.state.feed.root))


def _until(what: Callable[[], bool]) -> None:
    for _ in range(2000):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came to be")


class Reader:
    """Reads a stream of news."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def block(self) -> list[str]:
        """The lines up to the next empty one; [] at the end of the stream."""
        found: list[str] = []
        for line in self._lines:
            if not line:
                return found
            found.append(line)
        return found

    def event(self) -> dict[str, str]:
        """The next event, past comments."""
        while block := self.block():
            if not block[0].startswith((":", "retry")):
                return dict(line.split(": ", 1) for line in block)
        return {}


@contextmanager
def stream(web: Running, headers: dict[str, str]) -> Iterator[Reader]:
    """Read the news."""
    with httpx.stream("GET", f"{web.url}/api/v1/events", headers=headers, timeout=20) as response:
        yield Reader(response)


def raw(web: Running, request: bytes) -> socket.socket:
    """A connection on which something was sent."""
    connection = socket.create_connection(("127.0.0.1", web.port), 20)
    connection.sendall(request)
    return connection


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until it is closed, or aborted."""
    found = []
    with connection:
        try:
            while more := connection.recv(1 << 20):
                found.append(more)
        except ConnectionResetError:
            pass
    return b"".join(found)
