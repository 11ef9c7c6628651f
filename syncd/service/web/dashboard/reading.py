"""What each page needs, read from the catalog: in a worker thread, since it may wait for the disk."""

from dataclasses import dataclass, replace
from typing import Final

from syncd.model import ListName
from syncd.pipeline.laggards import BEHIND_AFTER, views
from syncd.service.web.context import Context
from syncd.service.web.dashboard.details import list_page, source_page
from syncd.service.web.dashboard.fleet import matchers_page
from syncd.service.web.dashboard.found import Found
from syncd.service.web.dashboard.html import Html
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import tasks

_COURSE: Final = 60
"""Versions in the picture of a table's row."""
_HISTORY: Final = 500
"""Versions in a list's plot."""
_SYNCS: Final = 50


@dataclass(frozen=True)
class Shown:
    """A page's title and content."""

    title: str
    content: Html


def overview(context: Context) -> Shown:
    """Everything at once. Raises `StoreError`, `UsageError`, as all here do."""
    found = _found(context)
    catalog = context.publisher.catalog
    histories = {one.head.list: catalog.history(one.head.list, _COURSE) for one in found.overview.lists}
    urgent = sum(one.urgent for one in found.tasks)
    return Shown(f"({urgent}) Overview" if urgent else "Overview", overview_page(found, histories))


def one_list(context: Context, name: str) -> Shown | None:
    """One published list; None where there is none of that name."""
    found = _found(context)
    one = next((each for each in found.overview.lists if each.head.list == name), None)
    if one is None:
        return None
    history = context.publisher.catalog.history(ListName(name), _HISTORY)
    return Shown(name, list_page(found, one, history))


def one_source(context: Context, name: str) -> Shown | None:
    """One source; None where there is none of that name."""
    found = _found(context)
    one = next((each for each in found.overview.sources if each.name == name), None)
    if one is None:
        return None
    return Shown(name, source_page(found, one, context.publisher.catalog.recent_syncs(name, _SYNCS)))


def matchers(context: Context) -> Shown:
    """The matchers."""
    return Shown("Matchers", matchers_page(_found(context).overview))


def _found(context: Context) -> Found:
    """With check-ins as they came: the catalog has them some seconds later."""
    seen = context.overview()
    due = context.publisher.catalog.due_versions(seen.now - BEHIND_AFTER)
    loaded = sorted(context.checkins.snapshot(), key=lambda one: (one.matcher, one.instance, one.list))
    matchers = views([one.matcher for one in seen.matchers], loaded, due, seen.now)
    fresh = replace(seen, matchers=matchers)
    return Found(fresh, tasks(fresh))
