"""Which version each instance of a matcher has loaded: in memory, written to the catalog every few seconds."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import HeadRecord, LoadedVersion
from syncd.model import ListName
from syncd.report.lagging import BEHIND_AFTER, FORGOTTEN_AFTER

MAX_INSTANCES: Final = 10_000
MAX_INSTANCES_OF_ONE: Final = 1_000
"""Of one matcher: whoever holds its token can make up as many names as it likes."""

_PRUNE_EVERY: Final = timedelta(hours=1)

OnLoaded = Callable[[ListName, float], None]
"""Told the list, and the seconds from publishing to the first check-in of that version by one instance."""
Published = Mapping[ListName, HeadRecord]


def never_published(lists: Mapping[ListName, int], heads: Published) -> tuple[ListName, ...]:
    """The lists of a check-in that are not published, or not yet in that version. Pure."""
    return tuple(name for name, version in lists.items() if name not in heads or not 0 < version <= heads[name].version)


@dataclass
class _Instance:
    seen_at: datetime
    lists: dict[ListName, LoadedVersion] = field(default_factory=dict)
    counted: dict[ListName, int] = field(default_factory=dict)
    """the newest version of each list that was current when this instance loaded it"""
    stored: bool = False
    """the catalog has it as well"""


class Checkins:
    """What is loaded where. Safe to share between threads.

    The catalog is read at the start, and when a version is named that is newer than any known so far.
    """

    def __init__(self, catalog: Catalog, on_loaded: OnLoaded = lambda _name, _seconds: None) -> None:
        self._catalog, self._on_loaded = catalog, on_loaded
        self._turn = threading.Lock()
        self._writing = threading.Lock()
        self._heads: Published = {head.list: head for head in catalog.heads()}
        self._matchers: dict[str, OrderedDict[str, _Instance]] = {}
        """instances of each matcher, the longest silent first"""
        self._changed: set[tuple[str, str]] = set()
        self._gone: set[tuple[str, str]] = set()
        """in the catalog, and dropped since; one that came back is written anew"""
        self._pruned_at: datetime | None = None
        self._read()

    def _read(self) -> None:
        for one in sorted(self._catalog.loaded(), key=lambda one: one.seen_at):
            found = self._matchers.setdefault(one.matcher, OrderedDict())
            instance = found.setdefault(one.instance, _Instance(one.seen_at, stored=True))
            instance.lists[one.list], instance.counted[one.list] = one, one.version

    def never_published(self, lists: Mapping[ListName, int]) -> tuple[ListName, ...]:
        """As the function of that name, by the catalog of now. Raises `StoreError`."""
        return never_published(lists, self._published(lists))

    def note(self, visitor_name: str, instance: str, lists: Mapping[ListName, int], now: datetime) -> None:
        """Take a check-in: all that this instance has loaded. Whether it may say so was asked before.

        Raises `StoreError`, at a version that is not known yet only.
        """
        heads = self._published(lists)
        with self._turn:
            self._prune(now)
            found = self._heard_of(visitor_name, instance, now)
            counted = tuple(_counted(found, lists, heads, now))
            found.lists = {
                name: _loaded(found.lists.get(name), visitor_name, instance, name, version, now)
                for name, version in lists.items()
            }
            self._changed.add((visitor_name, instance))
        for name, seconds in counted:
            self._on_loaded(name, seconds)

    def snapshot(self) -> tuple[LoadedVersion, ...]:
        """What everybody has loaded now, by matcher, instance and list."""
        with self._turn:
            found = [one for instance in self._all() for one in instance.lists.values()]
        return tuple(sorted(found, key=lambda one: (one.matcher, one.instance, one.list)))

    @property
    def instances(self) -> int:
        """How many are known."""
        with self._turn:
            return sum(map(len, self._matchers.values()))

    def flush(self) -> None:
        """Write what has changed to the catalog, in one transaction, and forget matchers that are not in force.

        Raises `StoreError`: what was not written is by the next.
        """
        with self._writing:
            self._forget_revoked()
            with self._turn:
                changed, self._changed = self._changed, set()
                gone, self._gone = self._gone, set()
                rows = [one for key in changed for one in self._matchers[key[0]][key[1]].lists.values()]
            try:
                if changed or gone:
                    self._catalog.replace_loaded(changed | gone, rows)
            except BaseException:
                self._put_back(changed, gone)
                raise
            self._mark_stored(changed)

    def _published(self, lists: Mapping[ListName, int]) -> Published:
        if never_published(lists, self._heads):
            self._heads = {head.list: head for head in self._catalog.heads()}
        return self._heads

    def _heard_of(self, matcher: str, instance: str, now: datetime) -> _Instance:
        """The instance, made where it is new, as the one heard of last; others make room for it."""
        found = self._matchers.setdefault(matcher, OrderedDict())
        if instance not in found:
            if len(found) >= MAX_INSTANCES_OF_ONE:
                self._drop(matcher)
            elif sum(map(len, self._matchers.values())) >= MAX_INSTANCES:
                self._drop(min((name for name in self._matchers if self._matchers[name]), key=self._silent_since))
            found[instance] = _Instance(now)
        found.move_to_end(instance)
        found[instance].seen_at = now
        return found[instance]

    def _silent_since(self, matcher: str) -> datetime:
        return next(iter(self._matchers[matcher].values())).seen_at

    def _drop(self, matcher: str) -> None:
        """Forget the instance of a matcher that was silent longest."""
        instance, forgotten = self._matchers[matcher].popitem(last=False)
        self._changed.discard((matcher, instance))
        if forgotten.stored:
            self._gone.add((matcher, instance))

    def _prune(self, now: datetime) -> None:
        if self._pruned_at is not None and abs(now - self._pruned_at) < _PRUNE_EVERY:
            return
        self._pruned_at = now
        for matcher, found in self._matchers.items():
            while found and now - self._silent_since(matcher) > FORGOTTEN_AFTER:
                self._drop(matcher)

    def _forget_revoked(self) -> None:
        """Forget matchers that are not in force; one that is heard of since that was read may be new."""
        with self._turn:
            known = set(self._matchers)
        in_force = {one.name for one in self._catalog.matchers()}
        with self._turn:
            for matcher in known - in_force:
                while self._matchers[matcher]:
                    self._drop(matcher)
                del self._matchers[matcher]

    def _put_back(self, changed: set[tuple[str, str]], gone: set[tuple[str, str]]) -> None:
        with self._turn:
            self._changed |= {key for key in changed if self._find(*key)}
            self._gone |= gone

    def _mark_stored(self, written: Collection[tuple[str, str]]) -> None:
        with self._turn:
            for matcher, instance in written:
                found = self._find(matcher, instance)
                if found is None:  # dropped while it was written
                    self._gone.add((matcher, instance))
                else:
                    found.stored = True

    def _find(self, matcher: str, instance: str) -> _Instance | None:
        found = self._matchers.get(matcher)
        return None if found is None else found.get(instance)

    def _all(self) -> Iterator[_Instance]:
        return chain.from_iterable(found.values() for found in self._matchers.values())


def _loaded(
    before: LoadedVersion | None, matcher: str, instance: str, name: ListName, version: int, now: datetime
) -> LoadedVersion:
    same = before is not None and before.version == version
    return LoadedVersion(
        matcher, instance, name, version, before.loaded_at if before is not None and same else now, now
    )


def _counted(
    instance: _Instance, lists: Mapping[ListName, int], heads: Published, now: datetime
) -> Iterator[tuple[ListName, float]]:
    """Publish-to-loaded times that this check-in tells: of current versions, each once.

    An instance that had nothing of a list is not counted for what was published long before: it began late, and did
    not load late.
    """
    for name, version in lists.items():
        head, before = heads.get(name), instance.counted.get(name)
        if head is None or version != head.version or version == before:
            continue
        instance.counted[name] = version
        age = now - head.published_at
        if before is not None or age <= BEHIND_AFTER:
            yield name, max(0.0, age.total_seconds())
