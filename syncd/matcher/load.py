"""Proving and mapping one generation of a pulled copy."""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Final

from syncd.errors import (
    EquivocationError,
    RefusedError,
    RetiredList,
    RollbackError,
    StoreError,
    SyncdError,
    UsageError,
    nearest,
)
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import prove_manifest
from syncd.feed.snapshot import Snapshot
from syncd.feed.unfolded import stack_here
from syncd.files import storage
from syncd.format.freshness import FARTHEST
from syncd.format.manifest import Manifest, ManifestRef, SegmentRef
from syncd.format.relation import Relation, relate
from syncd.format.segment import Lookup, Segment
from syncd.format.stack import Stack
from syncd.matcher.copy import CURRENT, CurrentFile, HeldList, others_may_write, read_current
from syncd.model import Algorithm, ListName
from syncd.trust.offline import verify_offline
from syncd.trust.values import TrustedFeed

Stamp = tuple[int, int]
"""Identifies one version of ``current.json``; it changes whenever the file is replaced."""

AGENT: Final = "syncd-pull"
"""The user that pulls for all services of a host (systemd/syncd-pull@.service). Only root can create users."""

_TRIES: Final = 3


@dataclass(frozen=True)
class SearchSet:
    """The stacks of all lists that a look-up of one algorithm searches."""

    width: int
    """bytes of a digest"""
    stacks: tuple[tuple[ListName, int, Stack], ...]
    """list, version, stack"""
    lookups: tuple[tuple[ListName, int, Lookup], ...]
    """the same for single look-ups: list, version, `Stack.entries_of`"""
    others: tuple["SearchSet", ...] = ()
    """sets of lists with wider digests: each list has its own width for an algorithm that is not known"""

    @property
    def by_width(self) -> tuple["SearchSet", ...]:
        """This set and the others, narrowest first."""
        return self, *self.others


@dataclass(frozen=True)
class Generation:
    """One proved state of a copy. It is replaced as a whole, never changed."""

    snapshots: Mapping[ListName, Snapshot]
    vouching: Mapping[ListName, TrustedFeed]
    """by list, the metadata of its last update; the newest metadata does not vouch for a list that lags behind"""
    newest: TrustedFeed
    stamp: Stamp
    search_sets: Mapping[str, SearchSet] = field(repr=False)
    """by each algorithm that a list holds"""

    @cached_property
    def distances(self) -> Mapping[ListName, int]:
        """The most bits in which a near match may differ, of each list whose manifest states that."""
        manifests = (snapshot.manifest for snapshot in self.snapshots.values())
        return {one.list: one.max_distance for one in manifests if one.max_distance < FARTHEST}

    @property
    def stacks(self) -> dict[Algorithm, tuple[tuple[ListName, int, Stack], ...]]:
        """The list, version and stack of each list with digests of an algorithm, by algorithm."""
        return {
            Algorithm(name): tuple(chain(*(one_width.stacks for one_width in search_set.by_width)))
            for name, search_set in self.search_sets.items()
        }

    def search_set(self, algorithm: str, lists: Sequence[str]) -> SearchSet | None:
        """Return what a look-up of ``algorithm`` searches: ``lists``, or all if empty; None if none of them holds it.

        Raises `UsageError` and `RetiredList`.
        """
        found = self.search_sets.get(algorithm)
        if not lists:
            return found
        wanted = {lists} if isinstance(lists, str) else set(lists)
        for name in wanted:
            snapshot = self.snapshots.get(ListName(name))
            if snapshot is None:
                raise UsageError("the copy has no list of that name", hint=nearest(name, self.snapshots, "list"))
            if snapshot.manifest.retired:
                raise RetiredList(name, snapshot.manifest.retired.since)
        return _of_lists(wanted, found.by_width if found else ())


def _of_lists(wanted: Set[str], sets: Iterable[SearchSet]) -> SearchSet | None:
    kept = [
        SearchSet(
            one_width.width,
            tuple(stack for stack in one_width.stacks if stack[0] in wanted),
            tuple(lookup for lookup in one_width.lookups if lookup[0] in wanted),
        )
        for one_width in sets
        if any(stack[0] in wanted for stack in one_width.stacks)
    ]
    return replace(kept[0], others=tuple(kept[1:])) if kept else None


def stamp_of(copy: FeedFolder) -> Stamp:
    """Return the stamp of ``current.json``. Raises `UsageError` if the file does not exist."""
    path = copy.path(CURRENT)
    with storage(path, "read the state of"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise _not_a_copy(copy) from None
    return stat.st_ino, stat.st_mtime_ns


def _not_a_copy(copy: FeedFolder) -> UsageError:
    return UsageError(f"{copy.root} is not a pulled copy: it has no {CURRENT}", hint="pull it again")


def load(copy: FeedFolder, root: bytes, before: Generation | None = None) -> Generation:
    """Prove and map the generation in ``current.json``. Segments that ``before`` has mapped are shared with it.

    If a pull replaces ``current.json`` in the meantime, files of the old generation may be gone; loading then starts
    again with the new one. Raises as `Matcher.open`.
    """
    for _ in range(_TRIES):
        stamp = stamp_of(copy)
        try:
            return _load(copy, root, before, stamp)
        except SyncdError:
            if stamp_of(copy) == stamp:
                raise
    return _load(copy, root, before, stamp_of(copy))


def _load(copy: FeedFolder, root: bytes, before: Generation | None, stamp: Stamp) -> Generation:
    _check_private(copy.root, copy.path(CURRENT), copy.path(layout.METADATA))
    current = read_current(copy)
    if current is None:
        raise _not_a_copy(copy)
    _check_no_list_lost(current, before)
    loader = _Loader(copy, root, before)
    snapshots = {name: loader.snapshot(name, held) for name, held in sorted(current.lists.items())}
    vouching = {
        name: replace(loader.feed(held.metadata), counts_until=held.timestamp_counts_until)
        for name, held in current.lists.items()
    }
    algorithms = set(chain(*(snapshot.stacks for snapshot in snapshots.values())))
    sets = {str(algorithm): _search_set(algorithm, snapshots.values()) for algorithm in algorithms}
    search_sets = {algorithm: search_set for algorithm, search_set in sets.items() if search_set}
    return Generation(snapshots, vouching, loader.feed(current.metadata), stamp, search_sets)


class _Loader:
    """Proves metadata and manifests once each, and maps segments once for all generations."""

    def __init__(self, copy: FeedFolder, root: bytes, before: Generation | None) -> None:
        self._copy, self._root = copy, root
        self._before = before.snapshots if before else {}
        self._proved: dict[tuple[tuple[str, int], ...], TrustedFeed] = {}

    def feed(self, versions: Mapping[str, int]) -> TrustedFeed:
        key = tuple(sorted(versions.items()))
        if key not in self._proved:
            self._proved[key] = verify_offline(self._copy.metadata, versions, self._root)
        return self._proved[key]

    def snapshot(self, name: ListName, held: HeldList) -> Snapshot:
        known = self._before.get(name)
        if known and known.sha256 == held.manifest and not any(map(_was_replaced, _segments(known))):
            return known
        signed = prove_manifest(self.feed(held.metadata), name, self._copy.manifest_bytes(name, held.manifest))
        _check_not_older(signed.manifest, signed.sha256, known)
        stack = stack_here(self._copy, signed.manifest, held.unfolded)
        self._check_present(name, stack)
        # Nothing but their modes guards segments between the pull and the map.
        segments = {self._copy.segment_path(name, ref) for ref in stack}
        folders = {path.parent for path in segments}
        _check_private(*{self._copy.path("v1"), *segments, *folders, *(folder.parent for folder in folders)})
        return Snapshot(signed.manifest, signed.sha256, self._stacks(name, stack, known))

    def _check_present(self, name: ListName, stack: Iterable[SegmentRef]) -> None:
        for ref in stack:
            path = self._copy.segment_path(name, ref)
            with storage(path, "read the state of"):
                present = path.exists()
            if not present:
                raise StoreError(
                    f"segment {path.name} of {name} is missing from {self._copy.root}",
                    hint="pull again: only the missing files are fetched",
                )

    def _stacks(self, name: ListName, stack: Iterable[SegmentRef], known: Snapshot | None) -> dict[Algorithm, Stack]:
        mapped = {segment.ref: segment for segment in _segments(known) if not _was_replaced(segment)}
        segments: dict[Algorithm, list[Segment]] = {}
        for ref in stack:
            segments.setdefault(ref.algorithm, []).append(
                mapped.get(ref) or Segment.open(self._copy.segment_path(name, ref), ref)
            )
        return {algorithm: Stack(algorithm, found) for algorithm, found in segments.items()}


def _segments(snapshot: Snapshot | None) -> Iterator[Segment]:
    for stack in snapshot.stacks.values() if snapshot else ():
        yield from stack.segments


def _was_replaced(segment: Segment) -> bool:
    """Return True if another file now has its path, since a repair replaced it. The map of a lost file is kept."""
    try:
        return not segment.maps_current_file()
    except SyncdError:
        return False


def _check_no_list_lost(current: CurrentFile, before: Generation | None) -> None:
    """Refuse a generation without a list that is loaded now: its hits would silently end.

    A pull never takes a list away from a copy. To drop a list on purpose, rebuild the copy and restart the processes.
    """
    lost = sorted(before.snapshots.keys() - current.lists.keys()) if before else []
    if lost:
        raise RollbackError(
            f"the copy no longer holds {', '.join(lost)}",
            hint="pull again; if the lists were removed on purpose, restart this process",
        )


def _check_not_older(manifest: Manifest, sha256: str, known: Snapshot | None) -> None:
    """Refuse an older or contradicting version: versions only rise (docs/format.md, section 8)."""
    if known is None:
        return
    held = ManifestRef(version=known.manifest.version, sha256=known.sha256)
    hint = "pull again to bring it up to date, and check whether the copy was replaced by an older one"
    match relate(held, manifest, sha256).relation:
        case Relation.CONTRADICTS:
            raise EquivocationError(
                f"version {manifest.version} of {manifest.list} in the copy differs from the one loaded", hint=hint
            )
        case Relation.OLDER:
            raise RollbackError(
                f"the copy went back from version {held.version} of {manifest.list} to {manifest.version}", hint=hint
            )


def _search_set(algorithm: Algorithm, snapshots: Iterable[Snapshot]) -> SearchSet | None:
    stacks: dict[int, list[tuple[ListName, int, Stack]]] = {}
    for snapshot in snapshots:
        stack = snapshot.stacks.get(algorithm)
        if stack is not None and stack.width is not None:
            same_width = stacks.setdefault(stack.width, [])
            same_width.append((snapshot.manifest.list, snapshot.manifest.version, stack))
    if not stacks:
        return None
    first, *others = (
        SearchSet(width, tuple(found), tuple((name, version, stack.entries_of) for name, version, stack in found))
        for width, found in sorted(stacks.items())
    )
    return replace(first, others=tuple(others))


def _check_private(*paths: Path) -> None:
    """Check that only this user, root or the host's agent can write the copy: writers decide what matches."""
    for path in paths:
        if others_may_write(path) or not _is_trusted(path):
            raise RefusedError(
                f"users other than this one and root may write {path}",
                hint=f"run `chmod go-w {quote(str(path))}`, and make this user or root its owner",
            )


def _is_trusted(path: Path) -> bool:
    with storage(path, "read the owner of"):
        user = path.stat().st_uid
    if user in {0, os.geteuid()}:
        return True
    try:
        return pwd.getpwuid(user).pw_name == AGENT
    except KeyError:
        return False
