"""Look-ups in a pulled copy.

::

    with Matcher.open("/var/lib/syncd-pull") as matcher:
        matcher.watch()
        for hit in matcher.lookup("sha256", digest):
            print(hit.list, hit.entry, hit.label)

Segments are mapped, so the processes of a host share one copy in memory, and opening a copy reads only its metadata.
A matcher opened before a fork works in the children; each child watches by itself.
"""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Self

import numpy as np

from syncd.errors import StoreError, SyncdError, UsageError
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.feed.proof_record import ProofRecord
from syncd.feed.snapshot import Snapshot
from syncd.fetch.backoff import JITTER
from syncd.files import read_bytes
from syncd.format.rows import Mask
from syncd.matcher.age import ListAges, StaleGuard, Timer
from syncd.matcher.copy import ROOT, copy_at
from syncd.matcher.digests import as_digests, has_width, misuse, not_held, prepare
from syncd.matcher.feed import Feed
from syncd.matcher.first_pull import ensure_copy
from syncd.matcher.indexing import IndexBuilder
from syncd.matcher.load import Generation, SearchSet, load, stamp_of
from syncd.matcher.near import DISTANCE, NearHit, NearMatching, check_algorithm, check_distance, check_farthest
from syncd.matcher.reproof import record_of
from syncd.matcher.status import ListStatus, list_status
from syncd.matcher.threads import Wait, can_wait
from syncd.matcher.video import USUAL, VideoHit, VideoRule, checked_frames, match_video
from syncd.matcher.watcher import FeedWatcher, FolderWatcher, ReloadStep, WatchedFeed, Watcher
from syncd.model import Algorithm, Hit, ListName

_new_tuple: Final = tuple.__new__
"""Saves a quarter of a microsecond a hit over calling the class of a named tuple."""
_REPORT: Final = "a bug in syncd: please report it; look-ups are still answered from the generation loaded before"


def _make_none() -> None:
    """Make no index: a pull, or another process, makes it."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Matcher:
    """Look-ups in a pulled copy. They may run in many threads; `reload` swaps whole generations."""

    def __init__(
        self,
        folder: FeedFolder,
        root: bytes,
        generation: Generation,
        ages: ListAges,
        guard: StaleGuard | None,
        farthest: Mapping[str, int] | int | None = None,
        *,
        make_indexes: bool = True,
    ) -> None:
        self._folder, self._root, self._generation = folder, root, generation
        self._ages, self._guard, self._clock = ages, guard, ages.clock
        ages.load(generation)
        self._indexing = IndexBuilder(folder)
        self._matching = NearMatching(folder.root, farthest, self._indexing.start if make_indexes else _make_none)
        self._last_error: SyncdError | None = None
        self._reload_lock = threading.Lock()
        self._watcher: Watcher | None = None
        self._start_watcher: Callable[[], Watcher] | None = None
        _matchers.add(self)

    def __repr__(self) -> str:
        return f"Matcher({self._folder.root}, {self.versions})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a matcher cannot be pickled: open one in each process, or fork after opening it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        root: str | Path | None = None,
        feed: Feed | None = None,
        stale: Literal["serve", "refuse"] = "serve",
        farthest: Mapping[str, int] | int | None = None,
        make_indexes: bool = True,
        clock: Callable[[], datetime] = _utc_now,
        timer: Timer = time.monotonic,
    ) -> Self:
        """Prove a copy (signatures, thresholds, manifest hashes, lengths, no other writers) and map it.

        ``root``: the trusted root; by default, the root that the copy was pulled with. ``feed``: if the folder is not a
        copy of it yet, it is pulled first, and verified with ``root``; an existing copy is opened as it is, however
        old. Segment bytes were proved by the pull (`syncd verify` proves them again). ``stale``: with "serve", a list
        is searched however old it is, and `status` reports its age; with "refuse", a look-up that would search a stale
        list raises `StaleList`. ``farthest``: the largest distance of near matches, in bits, if it is to be smaller
        than the operator states: one for all lists, or one for each list, by name, and for all others under ``""``.
        ``make_indexes``: a near look-up that finds no index has it made in a background thread; False for a process
        that ends too soon for that.
        Raises `UsageError`, `RefusedError`, `TrustError`, `MismatchError`, `SegmentError`, `StoreError`; with ``feed``
        also `SourceError`.
        """
        if stale not in {"serve", "refuse"}:
            raise UsageError(
                "stale is neither 'serve' nor 'refuse'", hint="give one of the two; the default is 'serve'"
            )
        place = _path(folder, "folder")
        check_farthest(farthest)
        given = None if root is None else _given_root(_path(root, "root"))
        if feed is not None:
            ensure_copy(place, given, feed, clock)
        copy = copy_at(place)
        trusted_root = _root_of(copy) if given is None else given
        ages = ListAges(clock, timer)
        guard = StaleGuard(ages) if stale == "refuse" else None
        return cls(copy, trusted_root, load(copy, trusted_root), ages, guard, farthest, make_indexes=make_indexes)

    @property
    def generation(self) -> Generation:
        """The generation that look-ups use now."""
        return self._generation

    def lookup(self, algorithm: str, digest: bytes | str, *, lists: Sequence[str] = ()) -> list[Hit]:
        """Return every entry in force that supports ``digest`` (bytes or hex); [] if no list has one.

        ``lists``: the lists to search; if empty, all that are not retired. Raises `AlgorithmNotHeld` if none of them
        holds digests of this algorithm, since nothing could be checked; `UsageError` if the algorithm is not known, if
        the digest has another width, or if a list is not in the copy; `RetiredList` if a named list is retired; and
        `StaleList` if the matcher refuses stale lists.
        """
        generation, guard = self._generation, self._guard
        if guard is not None and (guard.stale or guard.timer() >= guard.due):
            guard.check(generation, lists)
        try:
            search_set = generation.search_set(algorithm, lists) if lists else generation.search_sets.get(algorithm)
        except TypeError:  # not hashable, for example a list
            raise misuse("", (), "") from None
        if search_set is None or type(digest) is not bytes or len(digest) != search_set.width:
            if search_set is None:
                raise not_held(algorithm, generation.search_sets)
            search_set, digest = prepare(algorithm, search_set, digest)
        hits = []
        for name, version, entries_of in search_set.lookups:
            for entry, label in entries_of(digest):
                hits.append(_new_tuple(Hit, (name, version, entry, label)))
        return hits

    def lookup_many(self, algorithm: str, digests: Any, *, lists: Sequence[str] = ()) -> Mask:
        """Return True for each of ``digests`` that any list holds, as a bool array of shape (n,).

        ``digests``: a numpy array of dtype ``S<width>`` and shape (n,), or of uint8 and shape (n, width), or an
        iterable of bytes. ``lists`` and errors raised are as in `lookup`.
        """
        generation, guard = self._generation, self._guard
        if guard is not None and (guard.stale or guard.timer() >= guard.due):
            guard.check(generation, lists)
        try:
            search_set = generation.search_set(algorithm, lists)
        except TypeError:
            raise misuse("", (), "") from None
        if not isinstance(digests, np.ndarray) and isinstance(digests, Iterable):
            digests = list(digests)
        if search_set is None:
            raise not_held(algorithm, generation.search_sets)
        search_set = next((other for other in search_set.others if has_width(digests, other.width)), search_set)
        keys = as_digests(algorithm, search_set.width, digests)
        found = np.zeros(len(keys), bool)
        for _, _, stack in search_set.stacks:
            found |= stack.contains(keys)
        return found

    def near(
        self, algorithm: str, digest: bytes | str, distance: int = DISTANCE, *, lists: Sequence[str] = ()
    ) -> list[NearHit]:
        """Return every entry in force whose digest is within ``distance`` bits of ``digest``, nearest first.

        Nothing is missed and nothing extra found. ``algorithm``: "pdq", or "vpdq" for single frames, which are compared
        by their first 256 bits. ``distance``: 0 to 63 bits, at most the ``farthest`` of the list and
        the `max_distance` that its operator states. Until the index of a
        list is built, all its rows are compared: `status` says so. ``lists`` and other errors are as in `lookup`.
        """
        search_set, stated = self._near_set(algorithm, lists, distance)
        search_set, plain = prepare(algorithm, search_set, digest)
        return self._matching.near(search_set, stated, np.frombuffer(plain, f"S{search_set.width}"), distance)[0]

    def near_many(
        self, algorithm: str, digests: Any, distance: int = DISTANCE, *, lists: Sequence[str] = ()
    ) -> list[list[NearHit]]:
        """Return for each of ``digests`` what `near` returns. Shapes are as in `lookup_many`."""
        search_set, stated = self._near_set(algorithm, lists, distance)
        if not isinstance(digests, np.ndarray) and isinstance(digests, Iterable):
            digests = list(digests)
        return self._matching.near(search_set, stated, as_digests(algorithm, search_set.width, digests), distance)

    def match_video(
        self, frames: Iterable[tuple[bytes, int]], rule: VideoRule = USUAL, *, lists: Sequence[str] = ()
    ) -> list[VideoHit]:
        """Return the listed videos that match a video, the best first; see `VideoRule`.

        ``frames``: the PDQ of each sampled frame, 32 bytes, and its quality, 0 to 100. Raises as `near`.
        """
        asked = checked_frames(frames)
        search_set, stated = self._near_set(Algorithm.VPDQ, lists, rule.distance)
        return match_video(self._matching, search_set, stated, asked, rule)

    def _near_set(
        self, algorithm: str, lists: Sequence[str], distance: int
    ) -> tuple[SearchSet, Mapping[ListName, int]]:
        """Return what to search, and the largest distances that the operator states for its lists."""
        check_distance(distance)
        generation, guard = self._generation, self._guard
        if guard is not None and (guard.stale or guard.timer() >= guard.due):
            guard.check(generation, lists)
        try:
            check_algorithm(algorithm)
            search_set = generation.search_set(algorithm, lists)
        except TypeError:
            raise misuse("", (), "") from None
        if search_set is None:
            raise not_held(algorithm, generation.search_sets)
        return search_set, generation.distances

    def status(self) -> list[ListStatus]:
        """Return version, age, limits and verdict of each list, and the error that prevents loading a newer generation.

        It also says when the files of the copy were last proved again, and which damage was found since. Needs neither
        a daemon nor the network: everything is read from the copy.
        """
        generation, now, error = self._generation, self._clock(), self._last_error
        snapshots = generation.snapshots.items()
        proof = self._proof()
        return [
            list_status(
                snapshot,
                generation.vouching[name],
                self._ages,
                now=now,
                error=error,
                proof=proof,
                near_indexed=self._indexed(snapshot),
                max_distance=self._matching.farthest(generation.distances, name),
            )
            for name, snapshot in snapshots
        ]

    def _indexed(self, snapshot: Snapshot) -> bool | None:
        """See `ListStatus.near_indexed`."""
        known = [self._matching.is_indexed(stack) for stack in snapshot.stacks.values()]
        return None if not any(one is not None for one in known) else False not in known

    def _proof(self) -> ProofRecord:
        """Return the record of the last proof of the copy's files; an empty one if it cannot be read."""
        try:
            return self._watcher.proof.record() if self._watcher else record_of(self._folder).read()
        except StoreError:
            return ProofRecord()

    @property
    def versions(self) -> dict[ListName, int]:
        """The version of each list that look-ups use now."""
        return {name: snapshot.manifest.version for name, snapshot in self._generation.snapshots.items()}

    @property
    def last_error(self) -> SyncdError | None:
        """The error of the last `reload`, including those by `watch`; None if it succeeded."""
        return self._last_error

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms of the digests in all lists."""
        return tuple(sorted(self._generation.stacks))

    def reload(self) -> bool:
        """Load the generation that a pull made current; return False if it is already loaded.

        The old generation is used during the load, and after an error. Raises as `open`.
        """
        with self._reload_lock:
            try:
                changed = not self.is_newest()
                if changed:
                    generation = load(self._folder, self._root, self._generation)
                    self._ages.load(generation)
                    self._generation = generation
                    self._matching.keep_only(
                        stack for snapshot in generation.snapshots.values() for stack in snapshot.stacks.values()
                    )
            except SyncdError as error:
                self._last_error = error
                raise
            except Exception as error:
                self._last_error = StoreError(f"cannot load a new generation: {type(error).__name__}", hint=_REPORT)
                raise self._last_error from error
            self._last_error = None
            return changed

    def is_newest(self) -> bool:
        """Return True if the copy's current generation is loaded. One `stat`; raises `StoreError` and `UsageError`."""
        return stamp_of(self._folder) == self._generation.stamp

    def watch(
        self,
        interval: float = 1.0,
        *,
        feed: Feed | None = None,
        jitter: float = JITTER,
        on_change: Callable[[list[ListStatus]], None] | None = None,
        on_error: Callable[[SyncdError], None] | None = None,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """Check for a new generation every ``interval`` seconds, varied by ``jitter``, and load it.

        A check costs one `stat` on this host. A generation that cannot be loaded is tried again, less and less often,
        while the old one is used. ``on_change`` and ``on_error`` are called in watching threads; `close` ends them.

        Once a day the files of the copy are proved again, slowly, by one process of the host. Damage goes to
        ``on_error``; a pull fetches the damaged files again, and their new maps are then loaded.

        Without ``feed``, another process pulls. With it, this process pulls: it follows the feed's events, or polls a
        feed without events, pulls into the folder (one process of a host at a time), reloads at once, and reports its
        versions to the operator. Raises `UsageError` for invalid arguments; errors of the feed go to ``on_error``.
        """
        if not can_wait(interval):
            raise UsageError(
                f"an interval of {interval} seconds is not valid", hint="give a number of seconds, more than 0"
            )
        if not 0 <= jitter <= 1:
            raise UsageError(f"a jitter of {jitter} is not valid", hint="give a fraction of the interval, from 0 to 1")
        if not isinstance(feed, Feed | None):
            raise UsageError(f"feed must be a Feed, not {type(feed).__name__}", hint='give Feed("https://HOST/feed/")')
        self.close()
        reload = ReloadStep(self, interval, jitter, on_change, on_error)
        if feed is None:
            self._start_watcher = lambda: FolderWatcher(reload, self._folder.root, self._clock, wait)
        else:
            source = WatchedFeed(feed, feed.endpoint(), self._root, self._folder.root, self._clock)
            self._start_watcher = lambda: FeedWatcher(reload, source)
        self._watcher = self._start_watcher()

    def close(self) -> None:
        """Stop watching, and report to the operator that this instance has ended. Look-ups still work.

        Segments stay mapped until the last reference to this matcher is gone. If a process ends without this call,
        normally or by `sys.exit` in a signal handler, it reports that too; if a signal kills it, it does not.
        """
        self._indexing.close()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = self._start_watcher = None  # both refer to this matcher

    def _check_out(self) -> None:
        if self._watcher is not None:
            self._watcher.check_out()

    def _start_in_child(self) -> None:
        """Start again after a fork: threads do not run in the child, and a lock held by one would never be released."""
        self._reload_lock = threading.Lock()
        self._indexing.forget_thread()
        if self._watcher is not None and self._start_watcher is not None:
            self._watcher.close_inherited()
            self._watcher = self._start_watcher()


_matchers: Final["weakref.WeakSet[Matcher]"] = weakref.WeakSet()


def _start_in_child() -> None:
    for matcher in tuple(_matchers):
        matcher._start_in_child()


os.register_at_fork(after_in_child=_start_in_child)


def _check_out() -> None:
    """Report to the operators, at the end of this process, that its matchers end with it."""
    for matcher in tuple(_matchers):
        matcher._check_out()


atexit.register(_check_out)


def _path(given: str | Path, argument: str) -> Path:
    try:
        return Path(given)
    except TypeError:
        raise UsageError(
            f"{argument} must be a path, not {type(given).__name__}", hint="give it as text or as a pathlib.Path"
        ) from None


def _root_of(copy: FeedFolder) -> bytes:
    root = copy.read(ROOT)
    if root is None:
        raise UsageError(f"{copy.root} has no {ROOT}", hint="give the trusted root, or pull again")
    return root


def _given_root(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_METADATA_BYTES)
    except StoreError as error:
        hint = "check the path, and that this user may read the file"
        raise UsageError(f"the trusted root: {error.message}", hint=hint) from error
