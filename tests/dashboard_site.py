"""A world as an operator's: several lists with a past, some trouble, some matchers. `web_site` serves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from syncd.model import ListName
from syncd.operate import matchers
from syncd.pipeline.sync import sync_source
from web_site import Running, running
from world import World, row, rows

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
    """One source that is not reached any more, and one that never was."""
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


def check_in(run: Running) -> None:
    """Three matchers, four instances: two current, one behind, one not heard of for 32 minutes."""
    now, checkins, catalog = run.world.clock(), run.checkins, run.publisher.catalog
    for name, lists in (("uploads", ()), ("scanner", ()), ("appeals", (ListName("iwf.images"),))):
        matchers.add(catalog, name, lists, asked_by="admin", now=now, token=matchers.new_token())
    newest = {one.list: one.version for one in catalog.heads() if one.source == "iwf"}
    images = ListName("iwf.images")
    checkins.note("scanner", "batch-7", newest, now - timedelta(minutes=32))
    checkins.note("uploads", "web-1", newest, now - timedelta(minutes=4))
    checkins.note("uploads", "web-2", newest, now - timedelta(minutes=2))
    checkins.note("uploads", "web-3", {**newest, images: newest[images] - 1}, now - timedelta(minutes=1))


def sync_now(run: Running) -> None:
    """As the daemon syncs: whoever looks on is told."""
    sync_source(run.publisher, run.world.source(), run.world.clock)
    run.news.changed()


@contextmanager
def serving(world: World, **serve: Any) -> Iterator[Running]:
    """The world's dashboard."""
    with running(world, intervals=INTERVALS, **serve) as run:
        yield run
