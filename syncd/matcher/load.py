"""Proving and mapping one generation of a pulled copy."""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from syncd.errors import EquivocationError, RefusedError, RetiredList, RollbackError, SyncdError, UsageError, nearest
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.proof import prove_manifest
from syncd.feed.snapshot import Snapshot
from syncd.files import storage
from syncd.format.manifest import Manifest, ManifestRef, SegmentRef
from syncd.format.relation import Relation, relate
from syncd.format.segment import Lookup, Segment
from syncd.format.stack import Stack
from syncd.matcher.copy import CURRENT, CurrentFile, HeldList, others_may_write, read_current
from syncd.model import KNOWN_ALGORITHMS, Algorithm, ListName
from syncd.trust.offline import verify_offline
from syncd.trust.values import TrustedFeed

Stamp = tuple[int, int]
"""Changes whenever ``current.json`` is replaced."""

AGENT: Final = "syncd-pull"
"""The user that pulls for all services of a host (systemd/syncd-pull@.service); root alone makes users."""

_TRIES: Final = 3


@dataclass(frozen=True)
class Searched:
    """What a look-up of one algorithm asks: each list's stack."""

    width: int
    """bytes of a digest"""
    stacks: tuple[tuple[ListName, int, Stack], ...]
    """list, version, stack"""
    lookups: tuple[tuple[ListName, int, Lookup], ...]
    """the same once more for single look-ups: list, version, `Stack.entries_of`"""
    others: tuple["Searched", ...] = ()
    """lists whose digests of this name are wider: the width of an algorithm that is not known is each list's own"""

    @property
    def by_width(self) -> tuple["Searched", ...]:
        """This and the others, narrowest first."""
        return self, *self.others


@dataclass(frozen=True)
class Generation:
    """One proved state of a copy. Replaced whole, never changed."""

    snapshots: Mapping[ListName, Snapshot]
    vouching: Mapping[ListName, TrustedFeed]
    """by list, the metadata that it was last brought up to date with: the newest says nothing of a list that lags"""
    newest: TrustedFeed
    stamp: Stamp
    searched: Mapping[str, Searched] = field(repr=False)
    """by every algorithm that is known or that a list holds"""

    @property
    def stacks(self) -> dict[Algorithm, tuple[tuple[ListName, int, Stack], ...]]:
        """List, version and stack of each list that holds digests of an algorithm."""
        found = {Algorithm(name): [*chain(*(one.stacks for one in of.by_width))] for name, of in self.searched.items()}
        return {algorithm: tuple(stacks) for algorithm, stacks in found.items() if stacks}

    def among(self, searched: Searched, lists: Sequence[str]) -> Searched:
        """The part of ``searched`` that belongs to some lists. Raises `UsageError` and `RetiredList`."""
        wanted = {lists} if isinstance(lists, str) else set(lists)
        for name in wanted:
            snapshot = self.snapshots.get(ListName(name))
            if snapshot is None:
                raise UsageError("the copy has no list of that name", hint=nearest(name, self.snapshots, "list"))
            if snapshot.manifest.retired:
                raise RetiredList(name, snapshot.manifest.retired.since)
        stacks = tuple(one for one in searched.stacks if one[0] in wanted)
        return Searched(searched.width, stacks, tuple(one for one in searched.lookups if one[0] in wanted))


def stamp_of(copy: FeedFolder) -> Stamp:
    """What tells this ``current.json`` from the one before; raises `UsageError` where there is none."""
    path = copy.path(CURRENT)
    with storage(path, "look at"):
        try:
            found = path.stat()
        except FileNotFoundError:
            raise UsageError(f"{copy.root} holds no pulled copy", hint="pull it again") from None
    return found.st_ino, found.st_mtime_ns


def load(copy: FeedFolder, root: bytes, before: Generation | None = None) -> Generation:
    """Prove and map what ``current.json`` names. What ``before`` has mapped already is shared with it.

    A pull that replaced ``current.json`` meanwhile may have taken away what the old one named: then again, from the
    new one. Raises as `Matcher.open`.
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
        raise UsageError(f"{copy.root} holds no pulled copy", hint="pull it again")
    _check_none_lost(current, before)
    loader = _Loader(copy, root, before)
    snapshots = {name: loader.snapshot(name, held) for name, held in sorted(current.lists.items())}
    vouching = {name: loader.feed(held.metadata) for name, held in current.lists.items()}
    algorithms = {*KNOWN_ALGORITHMS, *chain(*(snapshot.stacks for snapshot in snapshots.values()))}
    searched = {str(algorithm): _searched(algorithm, snapshots.values()) for algorithm in algorithms}
    return Generation(snapshots, vouching, loader.feed(current.metadata), stamp, searched)


class _Loader:
    """Proves metadata and manifests, each once, and maps segments, each once for all generations."""

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
        if known and known.sha256 == held.manifest:
            return known
        signed = prove_manifest(self.feed(held.metadata), name, self._copy.manifest_bytes(name, held.manifest))
        _check_onward(signed.manifest, signed.sha256, known)
        _check_private(*self._places(name, signed.manifest))
        return Snapshot(signed.manifest, signed.sha256, self._stacks(name, signed.manifest, known))

    def _places(self, name: ListName, manifest: Manifest) -> Iterator[Path]:
        """Nothing but file modes guards segments between the pull and the map."""
        segments = {self._copy.segment_path(name, ref) for ref in manifest.stack}
        folders = {path.parent for path in segments}
        yield from {self._copy.path("v1"), *segments, *folders, *(folder.parent for folder in folders)}

    def _stacks(self, name: ListName, manifest: Manifest, known: Snapshot | None) -> dict[Algorithm, Stack]:
        mapped = {
            segment.ref: segment for stack in (known.stacks if known else {}).values() for segment in stack.segments
        }
        segments: dict[Algorithm, list[Segment]] = {}
        for ref in manifest.stack:
            segments.setdefault(ref.algorithm, []).append(mapped.get(ref) or self._open(name, ref))
        return {algorithm: Stack(algorithm, found) for algorithm, found in segments.items()}

    def _open(self, name: ListName, ref: SegmentRef) -> Segment:
        return Segment.open(self._copy.segment_path(name, ref), ref)


def _check_none_lost(current: CurrentFile, before: Generation | None) -> None:
    """Refuse a generation that lacks a list which is answered from now: its hits would end without a word.

    No pull takes a list away from a copy. Whoever rebuilds a copy with fewer lists on purpose restarts its processes.
    """
    lost = sorted(before.snapshots.keys() - current.lists.keys()) if before else []
    if lost:
        raise RollbackError(
            f"the copy no longer holds {', '.join(lost)}",
            hint="pull again; if the copy is to hold fewer lists from now on, restart this process",
        )


def _check_onward(manifest: Manifest, sha256: str, known: Snapshot | None) -> None:
    """Versions only rise (docs/format.md, section 8): an older copy put in this one's place was signed too."""
    if known is None:
        return
    held = ManifestRef(version=known.manifest.version, sha256=known.sha256)
    hint = "was an older copy put in its place? Pull again: that brings it up to date"
    match relate(held, manifest, sha256).relation:
        case Relation.CONTRADICTS:
            raise EquivocationError(f"the copy holds another version {manifest.version} of {manifest.list}", hint=hint)
        case Relation.OLDER:
            raise RollbackError(
                f"the copy went back to version {manifest.version} of {manifest.list} from {held.version}", hint=hint
            )


def _searched(algorithm: Algorithm, snapshots: Iterable[Snapshot]) -> Searched:
    stacks: dict[int, list[tuple[ListName, int, Stack]]] = {}
    for snapshot in snapshots:
        stack = snapshot.stacks.get(algorithm)
        if stack is not None and stack.width is not None:
            found = stacks.setdefault(stack.width, [])
            found.append((snapshot.manifest.list, snapshot.manifest.version, stack))
    if not stacks:
        return Searched(algorithm.width, (), ())
    first, *others = (_of_width(width, found) for width, found in sorted(stacks.items()))
    return replace(first, others=tuple(others))


def _of_width(width: int, stacks: list[tuple[ListName, int, Stack]]) -> Searched:
    lookups = tuple((name, version, stack.entries_of) for name, version, stack in stacks)
    return Searched(width, tuple(stacks), lookups)


def _check_private(*paths: Path) -> None:
    """Whoever may write the copy decides what matches: that must be this user, root or the host's agent alone."""
    for path in paths:
        if others_may_write(path) or not _is_trusted(path):
            raise RefusedError(f"others may write {path}", hint=f"chmod go-w {path}, and let this user or root own it")


def _is_trusted(path: Path) -> bool:
    with storage(path, "look at"):
        user = path.stat().st_uid
    if user in {0, os.geteuid()}:
        return True
    try:
        return pwd.getpwuid(user).pw_name == AGENT
    except KeyError:
        return False
