"""What each page needs, read from the catalog: in a worker thread, since it may wait for the disk."""

import threading
from dataclasses import dataclass
from typing import Final

from syncd.model import ListName
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


class Reading:
    """Reads how everything stands, once for all who ask at the same time: when something is published every open page
    asks at once, and matchers are to be served meanwhile. Nobody is given what was read before they asked."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._turn, self._count = threading.Lock(), threading.Lock()
        self._begun = 0
        self.asking = 0
        """how many are, the one that looks included"""
        self._last: tuple[int, Found] | None = None

    def found(self) -> Found:
        """How everything stands now. Raises `StoreError`, `UsageError`."""
        with self._count:
            wanted = self._begun + 1
            self.asking += 1
        try:
            with self._turn:
                return self._at_least(wanted)
        finally:
            with self._count:
                self.asking -= 1

    def _at_least(self, wanted: int) -> Found:
        if self._last is None or self._last[0] < wanted:
            with self._count:
                self._begun += 1
            self._last = (self._begun, _found(self.context))
        return self._last[1]


def overview(reading: Reading) -> Shown:
    """Everything at once. Raises `StoreError`, `UsageError`, as all here do."""
    found = reading.found()
    catalog = reading.context.catalog
    histories = {one.head.list: catalog.history(one.head.list, _COURSE) for one in found.overview.lists}
    urgent = sum(one.urgent for one in found.tasks)
    return Shown(f"({urgent}) Overview" if urgent else "Overview", overview_page(found, histories))


def one_list(reading: Reading, name: str) -> Shown | None:
    """One published list; None where there is none of that name."""
    found = reading.found()
    one = next((each for each in found.overview.lists if each.head.list == name), None)
    if one is None:
        return None
    history = reading.context.catalog.history(ListName(name), _HISTORY)
    return Shown(name, list_page(found, one, history))


def one_source(reading: Reading, name: str) -> Shown | None:
    """One source; None where there is none of that name."""
    found = reading.found()
    one = next((each for each in found.overview.sources if each.name == name), None)
    if one is None:
        return None
    return Shown(name, source_page(found, one, reading.context.catalog.recent_syncs(name, _SYNCS)))


def matchers(reading: Reading) -> Shown:
    """The matchers."""
    return Shown("Matchers", matchers_page(reading.found().overview))


def _found(context: Context) -> Found:
    seen = context.overview()
    return Found(seen, tasks(seen))
