"""Versions that each instance of a matcher has loaded: kept in memory, written to the catalog every few seconds.

Of several daemons on one catalog each writes the instances that checked in with it, and takes in those of the others.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from syncd.acts import ForgotInstances
from syncd.catalog.catalog import Catalog
from syncd.catalog.history_records import Load
from syncd.catalog.records import HeadRecord, LoadedVersion
from syncd.errors import UsageError, did_you_mean
from syncd.model import ListName
from syncd.report.lagging import BEHIND_AFTER, FORGOTTEN_AFTER, SILENT_AFTER
from syncd.units import count

MAX_INSTANCES: Final = 100_000
MAX_INSTANCES_OF_ONE: Final = 20_000
"""Limit for one matcher: a client that holds its token can invent any number of names."""
MAX_LOADS_OF_ONE: Final = 100_000
"""Changes of loaded versions of one matcher that are recorded in an hour: a client can invent any number of them."""

_PRUNE_EVERY: Final = timedelta(hours=1)
_MOST_LOADS: Final = 100_000
"""Changes kept for the next flush, while the catalog cannot be written: older ones are then forgotten."""

_OVERLAP: Final = 30_000
"""Milliseconds by which reads overlap: a transaction of another daemon may have begun so long before it committed."""
_COMPARE_EVERY: Final = 60_000
"""Milliseconds between two looks for instances that other daemons dropped without an act."""

OnLoaded = Callable[[ListName, float], None]
"""Called with the list, and the seconds from publishing to the first check-in of that version by one instance."""
Published = Mapping[ListName, HeadRecord]


def never_published(lists: Mapping[ListName, int], heads: Published) -> tuple[ListName, ...]:
    """Return the lists of a check-in that were never published, or not in that version. Pure."""
    return tuple(name for name, version in lists.items() if name not in heads or not 0 < version <= heads[name].version)


@dataclass
class _Instance:
    seen_at: datetime
    lists: dict[ListName, LoadedVersion] = field(default_factory=dict)
    counted: dict[ListName, int] = field(default_factory=dict)
    """the newest version of each list that was current when this instance loaded it"""
    stored: bool = False
    """True if the catalog has this instance too"""


class Checkins:
    """Loaded versions of all instances. Safe to share between threads.

    The catalog is read at the start, and again when a check-in names a version that is not known yet. If it is shared
    with other daemons, each flush also reads what they wrote.
    """

    def __init__(
        self, catalog: Catalog, on_loaded: OnLoaded = lambda _name, _seconds: None, *, shared: bool = False
    ) -> None:
        self._catalog, self._on_loaded, self._shared = catalog, on_loaded, shared
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._heads: Published = {head.list: head for head in catalog.heads()}
        self._matchers: dict[str, OrderedDict[str, _Instance]] = {}
        """instances of each matcher, those silent longest first"""
        self._changed: set[tuple[str, str]] = set()
        self._gone: set[tuple[str, str]] = set()
        """dropped since the last flush, but still in the catalog; one that came back is written again"""
        self._loads: deque[Load] = deque(maxlen=_MOST_LOADS)
        """changes of loaded versions since the last flush"""
        self._noted: Counter[str] = Counter()
        """loads of each matcher since the last hourly pruning"""
        self._pruned_at: datetime | None = None
        self._read_to = 0
        """up to when the writes of other daemons were read, in milliseconds of the database's clock"""
        self._forgotten = threading.Event()
        """set if another daemon may have forgotten instances"""
        self._compared_at = 0
        """when they were compared last, in the same milliseconds"""
        for loaded in sorted(self._catalog.loaded(), key=lambda loaded: loaded.seen_at):
            instances = self._matchers.setdefault(loaded.matcher, OrderedDict())
            instance = instances.setdefault(loaded.instance, _Instance(loaded.seen_at, stored=True))
            instance.lists[loaded.list], instance.counted[loaded.list] = loaded, loaded.version

    def never_published(self, lists: Mapping[ListName, int]) -> tuple[ListName, ...]:
        """Call the function of that name with the current heads. Raises `StoreError`."""
        return never_published(lists, self._published(lists))

    def note(
        self, visitor_name: str, instance: str, lists: Mapping[ListName, int], now: datetime, via: str = ""
    ) -> None:
        """Record a check-in: all lists that this instance has loaded. The caller has checked that it may report them.

        ``via``: the mirrors that passed it on, see `syncd.catalog.records.LoadedVersion`. Raises `StoreError`, but only
        if a version is not known yet.
        """
        heads = self._published(lists)
        with self._lock:
            self._prune(now)
            found = self._touch(visitor_name, instance, now)
            counted = tuple(_counted(found, lists, heads, now))
            self._keep_loads(visitor_name, tuple(_loads(found.lists, lists, visitor_name, instance, now)))
            found.lists = {
                name: _loaded(
                    found.lists.get(name), LoadedVersion(visitor_name, instance, name, version, now, now, via=via)
                )
                for name, version in lists.items()
            }
            self._changed.add((visitor_name, instance))
        for name, seconds in counted:
            self._on_loaded(name, seconds)

    def snapshot(self) -> tuple[LoadedVersion, ...]:
        """Return all loaded versions, sorted by matcher, instance and list."""
        with self._lock:
            found = [
                loaded
                for instances in self._matchers.values()
                for instance in instances.values()
                for loaded in instance.lists.values()
            ]
        return tuple(sorted(found, key=lambda loaded: (loaded.matcher, loaded.instance, loaded.list)))

    def forget(self, matcher: str, instances: Collection[str], now: datetime) -> tuple[str, ...]:
        """Forget the named instances of a matcher, or all silent ones if none is named; return their names.

        The next `flush` stores the change. An instance that checks in again is recorded again. Raises `UsageError` if
        there is no such matcher or instance, and `StoreError`.
        """
        permitted = [known.name for known in self._catalog.matchers()]
        if matcher not in permitted:
            hint = did_you_mean(matcher, permitted) or "`syncd matchers` lists them"
            raise UsageError("there is no matcher of that name", hint=hint)
        with self._lock:
            known = self._matchers.get(matcher, OrderedDict[str, _Instance]())
            unknown = [name for name in instances if name not in known]
            chosen = tuple(dict.fromkeys(instances)) or tuple(
                name for name, instance in known.items() if now - instance.seen_at > SILENT_AFTER
            )
            if unknown or not chosen:
                what = f"has no instance {unknown[0]}" if unknown else "has no silent instance"
                names = f"`syncd matchers --json` names the {count(len(known), 'instance')} of {matcher}"
                hint = names if known else f"no instance of {matcher} has checked in"
                raise UsageError(f"{matcher} {what}: nothing was forgotten", hint=hint)
            for name in chosen:
                self._forget(matcher, name, now)
        return chosen

    def note_acts(self) -> None:
        """Note that somebody acted at another daemon: the next flush looks for instances that were forgotten there."""
        self._forgotten.set()

    @property
    def instances(self) -> int:
        """Number of known instances."""
        with self._lock:
            return sum(map(len, self._matchers.values()))

    def flush(self) -> None:
        """Write changes to the catalog, in one transaction, and forget matchers whose tokens were revoked.

        Take in what other daemons wrote, if there are any. Raises `StoreError`; the next flush then writes what this
        one could not.
        """
        with self._flush_lock:
            self._forget_revoked()
            if self._shared:
                self._take_in()
            with self._lock:
                changed, self._changed = self._changed, set()
                gone, self._gone = self._gone, set()
                loads = tuple(self._loads)
                self._loads.clear()
                rows = [loaded for key in changed for loaded in self._matchers[key[0]][key[1]].lists.values()]
            try:
                if changed or gone or loads:
                    self._catalog.replace_loaded(changed | gone, rows, loads)
            except BaseException:
                with self._lock:
                    self._loads = deque((*loads, *self._loads), maxlen=_MOST_LOADS)
                    self._changed |= {key for key in changed if self._find(*key)}
                    self._gone |= gone
                raise
            self._mark_stored(changed)

    def _take_in(self) -> None:
        """Read what other daemons wrote and forgot since the last flush."""
        rows, now = self._catalog.loaded_since(self._read_to)
        by_instance: dict[tuple[str, str], list[LoadedVersion]] = {}
        for loaded in rows:
            by_instance.setdefault((loaded.matcher, loaded.instance), []).append(loaded)
        with self._lock:
            for key, versions in by_instance.items():
                if key not in self._gone:
                    self._merge(*key, versions)
            for matcher in {matcher for matcher, _ in by_instance}:
                self._matchers[matcher] = OrderedDict(
                    sorted(self._matchers.get(matcher, {}).items(), key=lambda item: item[1].seen_at)
                )
                while len(self._matchers[matcher]) > MAX_INSTANCES_OF_ONE:
                    self._drop(matcher)
        self._read_to = now - _OVERLAP
        if self._forgotten.is_set() or now - self._compared_at >= _COMPARE_EVERY:
            self._forgotten.clear()
            self._forget_what_others_forgot()
            self._compared_at = now

    def _merge(self, matcher: str, instance: str, versions: Collection[LoadedVersion]) -> None:
        """Take in what another daemon wrote of an instance, if it was seen there later than here."""
        seen_at = max(loaded.seen_at for loaded in versions)
        found = self._matchers.setdefault(matcher, OrderedDict()).get(instance)
        if found is None:
            if sum(map(len, self._matchers.values())) >= MAX_INSTANCES:
                return
            found = self._matchers[matcher][instance] = _Instance(datetime.min.replace(tzinfo=UTC))
        found.stored = True
        theirs = {loaded.list: _earlier(loaded, found.lists.get(loaded.list)) for loaded in versions}
        if seen_at > found.seen_at:
            found.seen_at, found.lists = seen_at, theirs
        else:
            found.lists = {name: _earlier(loaded, theirs.get(name)) for name, loaded in found.lists.items()}
        for name, loaded in theirs.items():
            found.counted[name] = max(loaded.version, found.counted.get(name, 0))

    def _forget_what_others_forgot(self) -> None:
        known = self._catalog.loaded_instances()
        with self._lock:
            for matcher, instances in self._matchers.items():
                for name in [name for name, one in instances.items() if one.stored and one.lists]:
                    if (matcher, name) not in known and (matcher, name) not in self._changed:
                        del instances[name]

    def _published(self, lists: Mapping[ListName, int]) -> Published:
        if never_published(lists, self._heads):
            self._heads = {head.list: head for head in self._catalog.heads()}
        return self._heads

    def _touch(self, matcher: str, instance: str, now: datetime) -> _Instance:
        """Return the instance, as the one seen last. A new one may displace the instance that was silent longest."""
        found = self._matchers.setdefault(matcher, OrderedDict())
        if instance not in found:
            if len(found) >= MAX_INSTANCES_OF_ONE:
                self._drop(matcher, now)
            elif sum(map(len, self._matchers.values())) >= MAX_INSTANCES:
                self._drop(min((name for name in self._matchers if self._matchers[name]), key=self._silent_since), now)
            found[instance] = _Instance(now)
        found.move_to_end(instance)
        found[instance].seen_at = now
        return found[instance]

    def _silent_since(self, matcher: str) -> datetime:
        return next(iter(self._matchers[matcher].values())).seen_at

    def _drop(self, matcher: str, now: datetime | None = None) -> None:
        """Forget the instance that has been silent longest. ``now``: None if its end is recorded already."""
        self._forget(matcher, next(iter(self._matchers[matcher])), now)

    def _forget(self, matcher: str, instance: str, now: datetime | None) -> None:
        forgotten = self._matchers[matcher].pop(instance)
        self._changed.discard((matcher, instance))
        if now is not None:
            self._keep_loads(matcher, tuple(_loads(forgotten.lists, {}, matcher, instance, now)))
        if forgotten.stored:
            self._gone.add((matcher, instance))

    def _keep_loads(self, matcher: str, loads: Collection[Load]) -> None:
        """Keep loads for the next flush, unless the matcher had too many in the last hour."""
        self._noted[matcher] += len(loads)
        if self._noted[matcher] <= MAX_LOADS_OF_ONE:
            self._loads += loads

    def _prune(self, now: datetime) -> None:
        if self._pruned_at is not None and abs(now - self._pruned_at) < _PRUNE_EVERY:
            return
        self._pruned_at = now
        self._noted.clear()
        for matcher, found in self._matchers.items():
            while found and now - self._silent_since(matcher) > FORGOTTEN_AFTER:
                self._drop(matcher, now)

    def _forget_revoked(self) -> None:
        """Forget matchers whose tokens were revoked. Keep one that checks in meanwhile: it may be new."""
        with self._lock:
            known = set(self._matchers)
        in_force = {matcher.name for matcher in self._catalog.matchers()}
        with self._lock:
            for matcher in known - in_force:
                while self._matchers[matcher]:
                    self._drop(matcher)
                del self._matchers[matcher]

    def _mark_stored(self, written: Collection[tuple[str, str]]) -> None:
        with self._lock:
            for matcher, instance in written:
                found = self._find(matcher, instance)
                if found is None:  # dropped during the write
                    self._gone.add((matcher, instance))
                else:
                    found.stored = True

    def _find(self, matcher: str, instance: str) -> _Instance | None:
        found = self._matchers.get(matcher)
        return None if found is None else found.get(instance)


def _loads(
    before: Mapping[ListName, LoadedVersion],
    lists: Mapping[ListName, int],
    matcher: str,
    instance: str,
    now: datetime,
) -> Iterator[Load]:
    """Yield the lists that an instance has in another version than before, or no longer has."""
    for name, version in lists.items():
        if name not in before or before[name].version != version:
            yield Load(name, matcher, instance, now, version)
    for name in before.keys() - lists.keys():
        yield Load(name, matcher, instance, now, 0)


def _loaded(before: LoadedVersion | None, reported: LoadedVersion) -> LoadedVersion:
    """Return what is known of a list after a report: a version that was reported before was loaded then."""
    same = before is not None and before.version == reported.version
    return replace(reported, loaded_at=before.loaded_at) if before is not None and same else reported


def _earlier(loaded: LoadedVersion, other: LoadedVersion | None) -> LoadedVersion:
    """Return a record with the earlier of two times of loading, if both are of the same version."""
    if other is None or other.version != loaded.version or other.loaded_at >= loaded.loaded_at:
        return loaded
    return replace(loaded, loaded_at=other.loaded_at)


def _counted(
    instance: _Instance, lists: Mapping[ListName, int], heads: Published, now: datetime
) -> Iterator[tuple[ListName, float]]:
    """Yield the publish-to-loaded times of this check-in, in seconds: of current versions, each once per instance.

    An instance's first version of a list is not counted if it was published long before: the instance started late, it
    did not load late.
    """
    for name, version in lists.items():
        head, before = heads.get(name), instance.counted.get(name)
        if head is None or version != head.version or version == before:
            continue
        instance.counted[name] = version
        age = now - head.published_at
        if before is not None or age <= BEHIND_AFTER:
            yield name, max(0.0, age.total_seconds())


def forget_instances(
    checkins: Checkins, catalog: Catalog, name: str, instances: Collection[str], *, asked_by: str, now: datetime
) -> tuple[str, ...]:
    """Forget instances (see `Checkins.forget`), store that, and record it in the audit log; return their names."""
    forgotten = checkins.forget(name, instances, now)
    checkins.flush()
    catalog.append(asked_by, ForgotInstances(name, len(forgotten)), now)
    return forgotten
