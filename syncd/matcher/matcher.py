"""Look-ups in a pulled copy.

::

    matcher = Matcher.open("/var/lib/syncd-pull")
    for hit in matcher.lookup("sha256", digest):
        print(hit.list, hit.entry, hit.label)

Segments are mapped, so the processes of a host share one copy in memory, and opening costs the metadata alone.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np

from syncd.errors import RefusedError, UsageError
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder, Snapshot
from syncd.feed.proof import prove_manifest
from syncd.files import read_bytes, storage
from syncd.format.rows import Digests, Mask
from syncd.matcher.copy import CURRENT, ROOT, Held, copy_at, read_current
from syncd.model import Algorithm, Digest, Hit, ListName
from syncd.trust.offline import verify_offline
from syncd.trust.values import TrustedFeed

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class ListStatus:
    """One list as this matcher answers from it."""

    list: ListName
    version: int
    rows: int
    serial: int | None
    """the upstream's own number"""
    verified_at: datetime | None
    """when the feed's operator last verified the upstream"""
    age: timedelta | None
    expired: tuple[str, ...]
    """roles of the signed metadata past their expiry: nobody vouches for freshness any more"""


@dataclass(frozen=True)
class Generation:
    """One proved state of a copy. Replaced whole, never changed."""

    snapshots: Mapping[ListName, Snapshot]
    newest: TrustedFeed
    stamp: tuple[int, int]
    stacks: Mapping[Algorithm, tuple[tuple[ListName, int, Any], ...]] = field(repr=False)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Matcher:
    """Answers look-ups from a pulled copy. Look-ups may run in many threads; `reload` swaps whole generations."""

    def __init__(self, folder: FeedFolder, root: bytes, generation: Generation, clock: Callable[[], datetime]) -> None:
        self._folder, self._root, self._generation, self._clock = folder, root, generation, clock

    def __repr__(self) -> str:
        versions = {name: snapshot.manifest.version for name, snapshot in self._generation.snapshots.items()}
        return f"Matcher({self._folder.root}, {versions})"

    @classmethod
    def open(
        cls, folder: str | Path, *, root: str | Path | None = None, clock: Callable[[], datetime] = _utc_now
    ) -> Self:
        """Prove a copy and map it: signatures, thresholds, manifest hashes, lengths, and that nobody else may write it.

        ``root``: the trusted root; without it, the one that the copy was pulled with. Segment bytes were proved by the
        pull (`syncd verify` proves them again); expiry is reported by `status`, never a reason to answer nothing.
        Raises `UsageError`, `RefusedError`, `TrustError`, `MismatchError`, `StoreError`.
        """
        copy = copy_at(Path(folder))
        _check_private(copy)
        trusted_root = read_bytes(Path(root), MAX_METADATA_BYTES) if root is not None else copy.read(ROOT)
        if trusted_root is None:
            raise UsageError(f"{copy.root} has no {ROOT}", hint="give the trusted root, or pull again")
        return cls(copy, trusted_root, load(copy, trusted_root), clock)

    @property
    def generation(self) -> Generation:
        """What is answered from now."""
        return self._generation

    def lookup(self, algorithm: str, digest: bytes | str) -> list[Hit]:
        """Return every entry in force that supports ``digest`` (bytes, or hex), over all lists; [] where none does.

        Raises `UsageError` for an unknown algorithm or a digest of another width.
        """
        value = digest if isinstance(digest, bytes) else Digest.parse(f"{algorithm}:{digest}").value
        stacks = self._generation.stacks.get(_algorithm(algorithm, len(value)), ())
        return [
            Hit(name, version, entry, label)
            for name, version, stack in stacks
            for entry, label in stack.entries_of(value)
        ]

    def lookup_many(self, algorithm: str, digests: Any) -> Mask:
        """For each of ``digests`` whether any list holds it.

        ``digests``: a numpy array of dtype ``S<width>`` and shape (n,), or of uint8 and shape (n, width), or an
        iterable of bytes. Returns a bool array of shape (n,). Raises `UsageError` as `lookup` does.
        """
        keys = _as_digests(algorithm, digests)
        found = np.zeros(len(keys), bool)
        for _, _, stack in self._generation.stacks.get(Algorithm(algorithm), ()):
            found |= stack.contains(keys)
        return found

    def status(self) -> list[ListStatus]:
        """What is answered from, and how old it is."""
        generation, now = self._generation, self._clock()
        return [_status(snapshot, generation.newest, now) for snapshot in generation.snapshots.values()]

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """Those that any list holds digests of."""
        return tuple(sorted(self._generation.stacks))

    def reload(self) -> bool:
        """Load what a pull made current since; False where that is what is loaded. Raises as `open`; the old
        generation then goes on answering."""
        if _stamp(self._folder) == self._generation.stamp:
            return False
        self._generation = load(self._folder, self._root, self._generation)
        return True


def load(copy: FeedFolder, root: bytes, before: Generation | None = None) -> Generation:
    """Prove and map what ``current.json`` names. Lists that did not change keep their mapped snapshots."""
    stamp = _stamp(copy)
    current = read_current(copy)
    if current is None:
        raise UsageError(f"{copy.root} holds no pulled copy", hint="pull it again")
    proved = _Proofs(copy, root)
    snapshots = {name: _snapshot(copy, name, held, proved, before) for name, held in sorted(current.lists.items())}
    stacks: dict[Algorithm, tuple[tuple[ListName, int, Any], ...]] = {}
    for name, snapshot in snapshots.items():
        for algorithm, stack in snapshot.stacks.items():
            stacks[algorithm] = (*stacks.get(algorithm, ()), (name, snapshot.manifest.version, stack))
    return Generation(snapshots, proved.feed(current.metadata), stamp, stacks)


class _Proofs:
    """Offline verifications of metadata, each made once."""

    def __init__(self, copy: FeedFolder, root: bytes) -> None:
        self._copy, self._root = copy, root
        self._made: dict[tuple[tuple[str, int], ...], TrustedFeed] = {}

    def feed(self, versions: Mapping[str, int]) -> TrustedFeed:
        key = tuple(sorted(versions.items()))
        if key not in self._made:
            self._made[key] = verify_offline(self._copy.metadata, versions, self._root)
        return self._made[key]


def _snapshot(copy: FeedFolder, name: ListName, held: Held, proofs: _Proofs, before: Generation | None) -> Snapshot:
    known = before.snapshots.get(name) if before else None
    if known and known.sha256 == held.manifest:
        return known
    signed = prove_manifest(proofs.feed(held.metadata), name, copy.manifest_bytes(name, held.manifest))
    return Snapshot(signed.manifest, signed.sha256, copy.open_stacks(name, signed.manifest.stack))


def _stamp(copy: FeedFolder) -> tuple[int, int]:
    """Changes whenever ``current.json`` is replaced."""
    try:
        found = copy.path(CURRENT).stat()
    except FileNotFoundError:
        raise UsageError(f"{copy.root} holds no pulled copy", hint="pull it again") from None
    return found.st_ino, found.st_mtime_ns


def _check_private(copy: FeedFolder) -> None:
    """Whoever may write the folder decides what matches: that must be this user or root alone."""
    for path in (copy.root, copy.path(CURRENT), copy.path("metadata"), copy.path("v1")):
        with storage(path, "read"):
            if not path.exists():  # a copy of a feed with no list yet
                continue
            found = path.stat()
        if found.st_mode & _OTHERS_WRITE or found.st_uid not in {0, os.geteuid()}:
            raise RefusedError(f"others may write {path}", hint=f"chmod go-w {path}, and let this user or root own it")


def _status(snapshot: Snapshot, newest: TrustedFeed, now: datetime) -> ListStatus:
    name = snapshot.manifest.list
    fresh = newest.freshness.get(name)
    return ListStatus(
        name,
        snapshot.manifest.version,
        snapshot.manifest.rows,
        fresh.serial if fresh else None,
        fresh.verified_at if fresh else None,
        now - fresh.verified_at if fresh else None,
        newest.stale(now),
    )


def _algorithm(name: str, width: int) -> Algorithm:
    try:
        algorithm = Algorithm(name)
    except ValueError:
        raise UsageError(f"unknown algorithm {name!r}", hint=f"known are {', '.join(Algorithm)}") from None
    if width != algorithm.width:
        raise UsageError(f"a {algorithm} digest has {algorithm.width} bytes, not {width}")
    return algorithm


def _as_digests(algorithm: str, digests: Any) -> Digests:
    if not isinstance(digests, np.ndarray):
        values: Iterable[bytes] = list(digests)
        wrong = {len(value) for value in values} - {_algorithm(algorithm, Algorithm(algorithm).width).width}
        if wrong:
            _algorithm(algorithm, wrong.pop())
        return np.array(values, dtype=f"S{Algorithm(algorithm).width}")
    if digests.dtype == np.uint8 and digests.ndim == 2:  # noqa: PLR2004 - n digests of width bytes
        digests = np.ascontiguousarray(digests).view(f"S{digests.shape[1]}").reshape(-1)
    if digests.dtype.kind != "S" or digests.ndim != 1:
        raise UsageError(f"digests of dtype {digests.dtype} and {digests.ndim} dimensions", hint="see lookup_many")
    _algorithm(algorithm, digests.dtype.itemsize)
    return digests
