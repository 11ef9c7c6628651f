"""A world as an operator's: several lists with a past, some trouble, some matchers; and its dashboard, served."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from syncd.catalog.records import AuditEntry, MatcherRecord
from syncd.config import Config, Serve
from syncd.events import Event
from syncd.model import ListName
from syncd.pipeline import overview
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.state import Publisher
from syncd.pipeline.sync import sync_source
from syncd.service.access import Access
from syncd.service.checkins import Checkins
from syncd.service.news import News
from syncd.service.pulls import Pulls
from syncd.service.web.context import Context
from syncd.service.web.health import Health
from syncd.service.web.site import Site
from world import START, World, row, rows

OPERATOR = "operator-token-0123456789"
VIDEOS = ListName("videos")
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e'
"""Words that a partner may choose."""
INTERVALS = {"iwf": 600.0, "hotline": 3600.0, "stopncii": 900.0}


def publish_past(world: World) -> None:
    """Six days of two lists: additions, removals, relabels."""
    world.publish(full=rows(0, 400))
    world.publish(full=rows(1000, 1090), name=VIDEOS)
    world.sync()
    world.sync(name="hotline", lists=("images",))
    for number in range(1, 7):
        world.clock.forward(hours=20 + 3 * (number % 3), minutes=17 * number)
        gone = [row(one, "ABC"[one % 3]) for one in range(4 * number, 4 * number + (40 if number == 4 else 3))]
        new = rows(400 + 17 * number, 417 + 17 * number + number)
        world.publish(add=[*new, row(390 + number, "relabelled")], remove=gone)
        if number % 3 == 0:
            world.publish(add=rows(1090 + number, 1094 + number), name=VIDEOS)
        world.sync()
    world.sync(name="hotline", lists=("images",))


def make_trouble(world: World) -> None:
    """One source that is not reached any more, one that never was; a matcher that is behind, and one that is silent."""
    with world.publisher() as publisher:
        for name in ("uploads", "scanner", "appeals"):
            lists = (ListName("iwf.images"),) if name == "appeals" else None
            record = MatcherRecord(name, name.encode().hex().zfill(64), lists, START, "admin")
            publisher.catalog.add_matcher(record, AuditEntry(START, "admin", "matcher added", name))
    for _ in range(3):
        world.clock.forward(minutes=11)
        world.sync(name="hotline", lists=("images",), url="http://127.0.0.1:9/")
    world.sync(name="stopncii", url=(world.base / "nothing").as_uri())
    world.sync()
    world.clock.forward(minutes=3, seconds=12)
    now = world.clock()
    with world.publisher() as publisher:
        for name, minutes, failures in (("iwf", 7, 0), ("hotline", 4, 3), ("stopncii", 2, 1)):
            at = now + timedelta(minutes=minutes, seconds=30)
            publisher.catalog.note_schedule(name, at, cool_down_until=at if failures else None, failures=failures)


@dataclass
class Running:
    """A dashboard that answers."""

    site: Site
    world: World
    publisher: Publisher
    access: Access
    checkins: Checkins
    news: News
    events: list[Event] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.site.server.url

    def sync(self, **changes: Any) -> SyncOutcome:
        """As the daemon syncs."""
        done = sync_source(self.publisher, self.world.source(**changes), self.world.clock)
        self.news.changed()
        return done


@contextmanager
def serving(world: World, intervals: dict[str, float] = INTERVALS, **serve: Any) -> Iterator[Running]:
    """Serve a world's state, with all that the daemon has."""
    settings = Serve(**{"listen": "127.0.0.1:0", "operator_token_file": world.base / "token", **serve})
    (world.base / "token").write_text(OPERATOR)
    config = Config(state_dir=world.state.root, serve=settings)
    told: list[Event] = []
    news = News("e1")
    with world.publisher() as opened:
        publisher = replace(opened, announce=news.tell)
        catalog = publisher.catalog
        for head in catalog.heads():
            news.tell(head.list, head.version)
        access, checkins = Access(catalog, OPERATOR), Checkins(catalog)
        context = Context(
            publisher,
            access,
            checkins,
            Pulls(catalog),
            news,
            Health(world.state.feed, catalog, told.append),
            world.clock,
            told.append,
            lambda: overview.read(world.state, catalog, intervals, world.clock()),
            lambda: config,
        )
        site = Site(settings, context)
        site.start()
        try:
            yield Running(site, world, publisher, access, checkins, news, told)
        finally:
            assert site.stop(10)


def check_in(run: Running) -> None:
    """Four instances: two current, one behind, one not heard of for 32 minutes."""
    now, checkins = run.world.clock(), run.checkins
    newest = {one.list: one.version for one in run.publisher.catalog.heads() if one.source == "iwf"}
    images = ListName("iwf.images")
    checkins.note("scanner", "batch-7", newest, now - timedelta(minutes=32))
    checkins.note("uploads", "web-1", newest, now - timedelta(minutes=4))
    checkins.note("uploads", "web-2", newest, now - timedelta(minutes=2))
    checkins.note("uploads", "web-3", {**newest, images: newest[images] - 1}, now - timedelta(minutes=1))
