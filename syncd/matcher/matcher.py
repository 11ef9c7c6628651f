"""Look-ups in a pulled copy.

::

    with Matcher.open("/var/lib/syncd-pull") as matcher:
        matcher.watch()
        for hit in matcher.lookup("sha256", digest):
            print(hit.list, hit.entry, hit.label)

Segments are mapped, so the processes of a host share one copy in memory, and opening costs the metadata alone. A
matcher opened before a fork works in the children, each of which watches for itself.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import numpy as np

from syncd.errors import StoreError, SyncdError, UsageError
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.fetch.backoff import JITTER
from syncd.files import read_bytes
from syncd.format.rows import Digests, Mask
from syncd.matcher.copy import ROOT, copy_at
from syncd.matcher.feed import Feed
from syncd.matcher.load import Generation, Searched, load, stamp_of
from syncd.matcher.status import ListStatus, list_status
from syncd.matcher.threads import Wait, can_wait
from syncd.matcher.watcher import FeedWatcher, FolderWatcher, Look, WatchedFeed, Watcher
from syncd.model import KNOWN_ALGORITHMS, Algorithm, Digest, Hit, ListName

_new: Final = tuple.__new__
"""A quarter of a microsecond less than calling a named tuple's class; look-ups are counted in those."""
_REPORT: Final = "report this fault; what was loaded before still answers"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Matcher:
    """Answers look-ups from a pulled copy. Look-ups may run in many threads; `reload` swaps whole generations."""

    def __init__(self, folder: FeedFolder, root: bytes, generation: Generation, clock: Callable[[], datetime]) -> None:
        self._folder, self._root, self._generation, self._clock = folder, root, generation, clock
        self._last_error: SyncdError | None = None
        self._reloading = threading.Lock()
        self._watcher: Watcher | None = None
        self._begin: Callable[[], Watcher] | None = None
        _alive.add(self)

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
        cls, folder: str | Path, *, root: str | Path | None = None, clock: Callable[[], datetime] = _utc_now
    ) -> Self:
        """Prove a copy and map it: signatures, thresholds, manifest hashes, lengths, and that nobody else may write it.

        ``root``: the trusted root; without it, the one that the copy was pulled with. Segment bytes were proved by the
        pull (`syncd verify` proves them again); expiry is reported by `status`, never a reason to answer nothing.
        Raises `UsageError`, `RefusedError`, `TrustError`, `MismatchError`, `SegmentError`, `StoreError`.
        """
        copy = copy_at(Path(folder))
        trusted_root = _root_of(copy) if root is None else _given_root(Path(root))
        return cls(copy, trusted_root, load(copy, trusted_root), clock)

    @property
    def generation(self) -> Generation:
        """What is answered from now."""
        return self._generation

    def lookup(self, algorithm: str, digest: bytes | str, *, lists: Sequence[str] = ()) -> list[Hit]:
        """Return every entry in force that supports ``digest`` (bytes, or hex); [] if no list has one.

        ``lists``: which to ask; none named: all that are not retired. Raises `UsageError` for an algorithm that is not
        known and that no list holds, for a digest of another width and for a list that is not here, and `RetiredList`.
        """
        try:
            searched = self._generation.searched.get(algorithm)
        except TypeError:  # cannot be a key: a list, say
            raise _misuse("", (), "") from None
        if searched is None or type(digest) is not bytes or len(digest) != searched.width or lists:
            searched, digest = _prepared(algorithm, searched, digest)
            searched = self._generation.among(searched, lists) if lists else searched
        hits = []
        for name, version, entries_of in searched.lookups:
            for entry, label in entries_of(digest):
                hits.append(_new(Hit, (name, version, entry, label)))
        return hits

    def lookup_many(self, algorithm: str, digests: Any, *, lists: Sequence[str] = ()) -> Mask:
        """For each of ``digests`` whether any list holds it.

        ``digests``: a numpy array of dtype ``S<width>`` and shape (n,), or of uint8 and shape (n, width), or an
        iterable of bytes. Returns a bool array of shape (n,). ``lists``, and what is raised, as in `lookup`.
        """
        generation = self._generation
        try:
            searched = generation.searched[algorithm]
        except (KeyError, TypeError):
            raise _misuse("", (), "") from None
        if not isinstance(digests, np.ndarray) and isinstance(digests, Iterable):
            digests = list(digests)
        searched = next((one for one in searched.others if _has_width(digests, one.width)), searched)
        keys = _as_digests(algorithm, searched.width, digests)
        found = np.zeros(len(keys), bool)
        for _, _, stack in (generation.among(searched, lists) if lists else searched).stacks:
            found |= stack.contains(keys)
        return found

    def status(self) -> list[ListStatus]:
        """What is answered from, how old it is, and what keeps a newer generation out."""
        generation, now, error = self._generation, self._clock(), self._last_error
        found = generation.snapshots.items()
        return [list_status(snapshot, generation.vouching[name], now, error) for name, snapshot in found]

    @property
    def versions(self) -> dict[ListName, int]:
        """What is answered from."""
        return {name: snapshot.manifest.version for name, snapshot in self._generation.snapshots.items()}

    @property
    def last_error(self) -> SyncdError | None:
        """Why the last `reload` failed, also one by `watch`; None where it did not."""
        return self._last_error

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """Those that any list holds digests of."""
        return tuple(sorted(self._generation.stacks))

    def reload(self) -> bool:
        """Load what a pull made current since; False where that is what is loaded. Raises as `open`; the old
        generation then goes on answering, as it does during the load."""
        with self._reloading:
            try:
                changed = not self.is_newest()
                if changed:
                    self._generation = load(self._folder, self._root, self._generation)
            except SyncdError as error:
                self._last_error = error
                raise
            except Exception as error:
                self._last_error = StoreError(f"cannot load a new generation: {type(error).__name__}", hint=_REPORT)
                raise self._last_error from error
            self._last_error = None
            return changed

    def is_newest(self) -> bool:
        """Whether what is loaded is what a pull made current last. One `stat`; raises `StoreError`, `UsageError`."""
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
        """Look every ``interval`` seconds, give or take ``jitter``, whether there is a new generation, and load it.

        Looking costs one `stat` on this host. What cannot be loaded is tried again, less and less often, while the old
        generation answers. ``on_change`` and ``on_error`` are called in the thread that watches; `close` ends it.

        Without ``feed`` somebody else pulls. With it this process does: it follows the feed's events, or polls where
        there are none, pulls into the folder (one process of a host at a time), loads at once, and tells the operator
        which versions it answers from. Raises `UsageError` for what cannot be; trouble with the feed is told.
        """
        if not can_wait(interval):
            raise UsageError(f"an interval of {interval} seconds", hint="give seconds, more than 0")
        if not 0 <= jitter <= 1:
            raise UsageError(f"a jitter of {jitter}", hint="give the part of the interval, from 0 to 1")
        if not isinstance(feed, Feed | None):
            raise UsageError(f"a feed is a Feed, not {type(feed).__name__}", hint='give Feed("https://HOST/feed/")')
        self.close()
        look = Look(self, interval, jitter, on_change, on_error)
        if feed is None:
            self._begin = lambda: FolderWatcher(look, wait)
        else:
            source = WatchedFeed(feed, feed.endpoint(), self._root, self._folder.root, self._clock)
            self._begin = lambda: FeedWatcher(look, source)
        self._watcher = self._begin()

    def close(self) -> None:
        """Stop watching. Look-ups still work; the map goes with the last reference to this matcher."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = self._begin = None  # what begins one holds this matcher

    def _start_in_child(self) -> None:
        """After a fork: threads did not come along, and a lock that one held would never be released."""
        self._reloading = threading.Lock()
        if self._watcher is not None and self._begin is not None:
            self._watcher.leave()
            self._watcher = self._begin()


_alive: Final["weakref.WeakSet[Matcher]"] = weakref.WeakSet()


def _start_in_child() -> None:
    for matcher in tuple(_alive):
        matcher._start_in_child()


os.register_at_fork(after_in_child=_start_in_child)


def _root_of(copy: FeedFolder) -> bytes:
    found = copy.read(ROOT)
    if found is None:
        raise UsageError(f"{copy.root} has no {ROOT}", hint="give the trusted root, or pull again")
    return found


def _given_root(path: Path) -> bytes:
    try:
        return read_bytes(path, MAX_METADATA_BYTES)
    except StoreError as error:
        hint = "check the path, and that this user may read it"
        raise UsageError(f"the trusted root: {error.message}", hint=hint) from error


def _misuse(algorithm: str, widths: Sequence[int], given: str) -> UsageError:
    """What is wrong with a look-up. Its arguments are not repeated: exchanged, one would be a digest."""
    if not widths:
        known = ", ".join(KNOWN_ALGORITHMS)
        return UsageError(
            "unknown algorithm",
            hint=f"the first argument is one of {known}, or another that a list here holds",
        )
    wanted = " or ".join(map(str, widths))
    return UsageError(f"a {algorithm} digest has {wanted} bytes, not {given}", hint="give bytes, or hexadecimal text")


def _prepared(algorithm: str, searched: Searched | None, digest: object) -> tuple[Searched, bytes]:
    """What to ask for a digest, as plain bytes of that width."""
    widths = [one.width for one in searched.by_width] if searched else []
    if not isinstance(digest, bytes | str):
        raise UsageError(f"a digest is bytes or text, not {type(digest).__name__}", hint="convert it with bytes()")
    if not searched:
        raise _misuse("", (), "")
    plain = _restored(widths, digest) if isinstance(digest, bytes) else Digest.parse(f"{algorithm}:{digest}").value
    for one in searched.by_width:
        if one.width == len(plain):
            return one, plain
    raise _misuse(algorithm, widths, f"{len(plain)} bytes")


def _restored(widths: Sequence[int], value: bytes) -> bytes:
    """Plain bytes. numpy took the trailing NULs off a digest that it took out of an array."""
    width = next((width for width in widths if width >= len(value)), 0)
    return bytes(value).ljust(width, b"\0") if isinstance(value, np.bytes_) else bytes(value)


def _has_width(digests: Any, width: int) -> bool:
    """Whether digests given to `Matcher.lookup_many` are of this width; of values the longest says it."""
    if isinstance(digests, np.ndarray):
        return int(digests.shape[-1] if digests.dtype == np.uint8 else digests.dtype.itemsize) == width
    lengths = [len(one) for one in digests if isinstance(one, bytes)] if isinstance(digests, list) else []
    return max(lengths, default=0) == width


def _as_digests(algorithm: str, width: int, digests: Any) -> Digests:
    if not isinstance(digests, np.ndarray):
        return _joined(algorithm, width, digests)
    array = np.asarray(digests)  # a mask would answer for what it covers
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == width:  # noqa: PLR2004 - (n, width)
        return np.ascontiguousarray(array).view(f"S{width}").reshape(-1)
    if array.dtype != np.dtype(f"S{width}") or array.ndim != 1:
        given = f"an array of {array.dtype} and shape {array.shape}"
        raise UsageError(f"a {algorithm} digest has {width} bytes, not {given}", hint=_shapes(width))
    return array


def _shapes(width: int) -> str:
    return f"give an iterable of bytes, or an array of S{width}, or of uint8 and shape (n, {width})"


def _joined(algorithm: str, width: int, digests: Iterable[object]) -> Digests:
    if not isinstance(digests, Iterable):
        raise UsageError(f"digests are an array or an iterable, not {type(digests).__name__}", hint=_shapes(width))
    values = []
    for value in digests:
        if not isinstance(value, bytes):
            raise UsageError(f"digests are bytes, not {type(value).__name__}", hint=_shapes(width))
        plain = value if len(value) == width else _restored([width], value)
        if len(plain) != width:
            raise _misuse(algorithm, [width], f"{len(plain)} bytes")
        values.append(plain)
    return np.frombuffer(b"".join(values), f"S{width}")
