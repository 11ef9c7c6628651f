"""Reads the data of each page from the catalog. Runs in worker threads, since it may wait for the disk."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from syncd.ask.audit import AuditQuestion
from syncd.ask.audit_filters import checked_filters
from syncd.ask.question import AskedState
from syncd.errors import UsageError
from syncd.model import ListName
from syncd.service.web.context import Context
from syncd.service.web.dashboard.acts import FILTER_LABELS, audit_page
from syncd.service.web.dashboard.details import list_page, source_page
from syncd.service.web.dashboard.fleet import matchers_page
from syncd.service.web.dashboard.holds import holds_page
from syncd.service.web.dashboard.html import Html
from syncd.service.web.dashboard.logged import events_page
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks

_TREND: Final = 60
"""Versions in the line of a table row."""
_HISTORY: Final = 500
"""Versions in the figure of a list."""
_SYNCS: Final = 50
_RECORDS: Final = 100


@dataclass(frozen=True)
class Shown:
    """A page's title and content."""

    title: str
    content: Html


class Reading:
    """Reads the state once for all pages that ask at the same time, and never returns a state read before they asked.

    After each publication every open page asks at once, and matchers must be served in the meantime.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._reading, self._counting = threading.Lock(), threading.Lock()
        self._begun = 0
        self.asking = 0
        """the number of threads that ask, including the one that reads"""
        self._last: tuple[int, PageData] | None = None

    def data(self) -> PageData:
        """Return the state of everything now. Raises `StoreError`, `UsageError`."""
        with self._counting:
            wanted = self._begun + 1
            self.asking += 1
        try:
            with self._reading:
                if self._last is None or self._last[0] < wanted:
                    with self._counting:
                        self._begun += 1
                    seen = self.context.overview()
                    self._last = (self._begun, PageData(seen, tasks(seen), self.context.config().runbook))
                return self._last[1]
        finally:
            with self._counting:
                self.asking -= 1


def overview(reading: Reading, *, acting: bool) -> Shown:
    """Return the overview, with links to acts if ``acting``. Raises `StoreError`, `UsageError`, as all do here."""
    data = reading.data()
    catalog = reading.context.catalog
    histories = {view.head.list: catalog.history(view.head.list, _TREND) for view in data.overview.lists}
    urgent = sum(task.urgent for task in data.tasks)
    return Shown(f"({urgent}) Overview" if urgent else "Overview", overview_page(data, histories, acting=acting))


def one_list(reading: Reading, name: str, *, acting: bool) -> Shown | None:
    """Return the page of one published list; None if there is no such list. ``acting``: with links to acts."""
    data = reading.data()
    view = next((view for view in data.overview.lists if view.head.list == name), None)
    if view is None:
        return None
    history = reading.context.catalog.history(ListName(name), _HISTORY)
    return Shown(name, list_page(data, view, history, acting=acting))


def one_source(reading: Reading, name: str, *, acting: bool) -> Shown | None:
    """Return the page of one source; None if there is no such source."""
    data = reading.data()
    view = next((view for view in data.overview.sources if view.name == name), None)
    if view is None:
        return None
    syncs = reading.context.catalog.recent_syncs(name, _SYNCS)
    return Shown(name, source_page(data, view, syncs, acting=acting))


def all_holds(reading: Reading, *, acting: bool) -> Shown:
    """Return the page of all holds that are open or discarded, also of lists that were never published."""
    context = reading.context
    published = {head.list for head in context.catalog.heads()}
    return Shown("Holds", holds_page(context.catalog.holds(), published, context.clock(), acting=acting))


def matchers(reading: Reading) -> Shown:
    """Return the page of the matchers."""
    return Shown("Matchers", matchers_page(reading.data().overview))


def audit(reading: Reading, typed: Mapping[str, str]) -> Shown:
    """Return the page of the newest records of the audit log that meet the filters ``typed``, by their names."""
    context, now = reading.context, reading.context.clock()
    records: list[dict[str, Any]] = []
    fault = None
    try:
        question = AuditQuestion(**checked_filters(typed, now, FILTER_LABELS.__getitem__), limit=_RECORDS)
    except UsageError as error:
        fault = error
    else:
        for part in question.answers(AskedState(context.folder, context.catalog, now)):
            records += part["records"]
    return Shown("Audit log", audit_page(records[::-1], typed, now, fault))


def logged_events(reading: Reading) -> Shown:
    """Return the page of the newest events."""
    return Shown("Events", events_page(reading.context.recent(), reading.context.clock()))
