"""Bringing a matcher host's copy up to date: verify everything, install it, then make it current in one rename."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import (
    EquivocationError,
    FeedError,
    MismatchError,
    RefusedError,
    RollbackError,
    StoreError,
    SyncdError,
    as_known,
    worst_error,
)
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.feed.proof import SignedManifest, check_fresh, prove_manifest, target_of
from syncd.fetch import Deadline, Endpoint, open_peer
from syncd.files import install_bytes, lock
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.manifest import ManifestRef, SegmentRef
from syncd.format.relation import Relation, relate
from syncd.matcher.copy import (
    CURRENT,
    ROOT,
    CurrentFile,
    HeldList,
    check_root,
    check_target,
    hold,
    lists_here,
    next_current,
    read_current,
    write_current,
)
from syncd.model import ListName
from syncd.trust.values import Floors, TrustedFeed

Progress = Callable[[int, int], None]
"""Told the bytes fetched, and of how many."""


@dataclass(frozen=True)
class ListPull:
    """What came of one list: the version in force before and after, and what kept a newer one out."""

    list: ListName
    before: int | None
    after: int | None
    forked: bool = False
    """the new version does not descend from the old one: its signer went back to a backup"""
    error: SyncdError | None = None
    retired: datetime | None = None
    """since when the list is no longer published"""


@dataclass(frozen=True)
class PullResult:
    """What came of a pull."""

    lists: tuple[ListPull, ...]
    bytes: int = 0
    """received from the feed: bodies, whatever became of them"""
    trusted: TrustedFeed | None = field(default=None, repr=False)

    @property
    def changed(self) -> bool:
        """Whether any list has another version now."""
        return any(one.before != one.after for one in self.lists)

    @property
    def versions(self) -> dict[ListName, int]:
        """What is in force now."""
        return {one.list: one.after for one in self.lists if one.after is not None}

    @property
    def errors(self) -> list[SyncdError]:
        """What kept lists from going on."""
        return [one.error for one in self.lists if one.error]


def pull(
    endpoint: Endpoint,
    root: bytes,
    folder: Path,
    *,
    now: datetime,
    lists: Sequence[ListName] = (),
    deadline: float = 600.0,
    caps: Caps = DEFAULT_CAPS,
    progress: Progress | None = None,
) -> PullResult:
    """Bring the copy in ``folder`` up to date with the feed at ``endpoint``, trusted by ``root``.

    ``lists``: which to hold; none named: all that the feed has. A fault in one list keeps it at its version and lets
    the others go on (`PullResult.errors`). If ``current.json`` was lost, a fault in a list that was in the copy raises:
    no generation becomes current without it. A fault in the metadata raises, and everything stays as it was:
    `SourceError`, `TrustError`, `RefusedError`, `StoreError`, `UsageError`.
    """
    copy = FeedFolder(folder)
    with _telling_what_serves(copy):
        check_target(copy)
        with lock(copy.lock, "a pull"):
            work = _Work(copy, root, tuple(lists), now, caps, progress)
            return work.run(endpoint, Deadline(deadline))


def pull_in_turn(
    endpoint: Endpoint,
    root: bytes,
    folder: Path,
    *,
    now: datetime,
    lists: Sequence[ListName],
    deadline: Deadline,
    overtaken: Callable[[], bool],
) -> PullResult | None:
    """As `pull`, for one of several processes that keep one copy: None where another one is at it.

    ``overtaken``: whether one was since we decided to; asked once nobody is any more. Then too it is None.
    """
    copy = FeedFolder(folder)
    with _telling_what_serves(copy), contextlib.ExitStack() as turn:
        check_target(copy)
        try:
            turn.enter_context(lock(copy.lock, "a pull"))
        except RefusedError:
            return None
        if overtaken():
            return None
        return _Work(copy, root, tuple(lists), now).run(endpoint, deadline)


@dataclass(frozen=True)
class _Work:
    """What a pull does once the copy is its own."""

    copy: FeedFolder
    root: bytes
    lists: tuple[ListName, ...]
    now: datetime
    caps: Caps = DEFAULT_CAPS
    progress: Progress | None = None

    def run(self, endpoint: Endpoint, deadline: Deadline) -> PullResult:
        with open_peer(endpoint, deadline) as peer:
            check_root(self.copy, self.root)
            follower = Follower(self.copy, self.root, peer, self.caps)
            current = read_current(self.copy)
            return _Pull(self.copy, self.root, follower, current, self.progress).run(self.lists, self.now)


_LOADED: Final = f"what running matchers have loaded; the copy has no {CURRENT}"


@contextlib.contextmanager
def _telling_what_serves(copy: FeedFolder) -> Iterator[None]:
    try:
        yield
    except SyncdError as error:
        error.serving = error.serving or _serving(copy)
        raise


def _serving(copy: FeedFolder) -> str:
    try:
        current = read_current(copy)
    except SyncdError:
        return "what matchers have loaded; the copy on disk cannot be read"
    if current is None and lists_here(copy):
        return _LOADED
    held = current.lists if current else {}
    return ", ".join(f"{name} version {one.version}" for name, one in sorted(held.items())) or "nothing yet"


@dataclass
class _Pull:
    copy: FeedFolder
    root: bytes
    follower: Follower
    current: CurrentFile | None
    progress: Progress | None
    gained: int = 0

    def run(self, wanted: tuple[ListName, ...], now: datetime) -> PullResult:
        trusted = self.follower.refresh(self._floors(), now)
        self._keep(ROOT, self.root)  # not before: a wrong one would keep the right one out
        for name, content in trusted.files.items():
            self._keep(f"{layout.METADATA}/{name}", content)
        held = dict(self.current.lists) if self.current else {}
        unnamed = frozenset() if self.current else lists_here(self.copy)
        names = wanted or tuple(sorted({*held, *unnamed, *filter(None, map(layout.list_of, trusted.targets))}))
        outcomes = tuple(self._list(trusted, name, held, now) for name in names)
        _refuse_loss([one for one in outcomes if one.list in unnamed])
        if self.current is None and outcomes and not held:  # a matcher that starts here would find nothing on no list
            return PullResult(outcomes, self.follower.received, trusted)
        current = next_current(self.current, held, trusted, now)
        write_current(self.copy, current)
        self._collect(trusted, current, now)
        return PullResult(outcomes, self.follower.received, trusted)

    def _floors(self) -> Floors:
        """What ``current.json`` remembers, for when the metadata client's own folder was lost."""
        if self.current is None:
            return Floors()
        versions = dict(self.current.metadata)
        root, timestamp, snapshot = (versions.pop(role, 0) for role in ("root", "timestamp", "snapshot"))
        return Floors(root, timestamp, snapshot, versions, self.current.updated)

    def _list(self, trusted: TrustedFeed, name: ListName, held: dict[ListName, HeldList], now: datetime) -> ListPull:
        before = held.get(name)
        version = before.version if before else None
        try:
            check_fresh(trusted, name, now)
            signed = self._signed(trusted, name)
            forked = _check_follows(before, signed)
            self._install(name, signed, before)
        except Exception as fault:  # noqa: BLE001 - a fault in one list must not keep the others back
            error = as_known(fault)
            error.serving = f"{name} version {version}" if version else f"nothing of {name} yet"
            return ListPull(name, version, version, error=error)
        held[name] = hold(signed, trusted)
        retired = signed.manifest.retired.since if signed.manifest.retired else None
        return ListPull(name, version, signed.manifest.version, forked, retired=retired)

    def _signed(self, trusted: TrustedFeed, name: ListName) -> SignedManifest:
        """The newest manifest. Where the one here is the one signed, the peer is not asked for it."""
        content = self.copy.read(layout.manifest_path(name, target_of(trusted, name).sha256))
        if content is not None:
            with contextlib.suppress(MismatchError):  # damaged here
                return prove_manifest(trusted, name, content)
        return self.follower.manifest(trusted, name)

    def _collect(self, trusted: TrustedFeed, current: CurrentFile, now: datetime) -> None:
        """Let go of what neither this generation nor, for a day, the ones before it name."""
        metadata = set(trusted.files)
        for held in current.lists.values():
            metadata |= {f"{version}.{role}.json" for role, version in held.metadata.items()}
        newest = {name: held.manifest for name, held in current.lists.items()}
        garbage.collect(self.copy, garbage.named_by_feed(self.copy, newest, metadata, kept=0), now)
        garbage.remove_old_parts(self.copy.downloads, now)

    def _install(self, name: ListName, signed: SignedManifest, before: HeldList | None) -> None:
        held = self._held_segments(name, before)
        total = sum(ref.length for ref in self.copy.missing(name, signed.manifest.stack))

        def report(gained: int) -> None:
            self.gained += gained
            if self.progress:
                self.progress(self.gained, max(total, self.gained))

        self.follower.obtain(name, signed.manifest, held, report)
        self._keep(layout.manifest_path(name, signed.sha256), signed.content)

    def _held_segments(self, name: ListName, before: HeldList | None) -> tuple[SegmentRef, ...]:
        try:
            return tuple(self.copy.manifest(name, before.manifest).named_segments()) if before else ()
        except (FeedError, StoreError):  # damaged or gone: it only saves downloads, and the next one replaces it
            return ()

    def _keep(self, path: str, content: bytes) -> None:
        """Install a proved file, also over one of this name that the disk has damaged since."""
        if self.copy.read(path) != content:
            install_bytes(self.copy.path(path), content)


def _check_follows(held: HeldList | None, signed: SignedManifest) -> bool:
    """Refuse a manifest that goes back or contradicts; return True if it does not descend from the version held."""
    manifest = signed.manifest
    if held is None:
        return False
    relation = relate(ManifestRef(version=held.version, sha256=held.manifest), manifest, signed.sha256).relation
    if relation is Relation.OLDER:
        raise RollbackError(
            f"{manifest.list} went back from version {held.version} to {manifest.version}",
            hint="the feed was restored from a backup (its operator runs `syncd recover`), or an old one is replayed",
        )
    if relation is Relation.CONTRADICTS:
        raise EquivocationError(
            f"{manifest.list} version {held.version} was signed twice with different content",
            hint="call the feed's operator: its keys may be in other hands",
        )
    return relation is Relation.FORKED


def _refuse_loss(outcomes: Sequence[ListPull]) -> None:
    """Raise the error of a list that was in the copy before ``current.json`` was lost, and cannot be brought here now.

    Going on without it would take it away from every matcher that loads the new generation.
    """
    error = worst_error(one.error for one in outcomes if one.error)
    if error is not None:
        error.serving = _LOADED
        error.hint = (
            f"{error.hint}; nothing becomes current before every list that was in the copy is here: pull again once "
            "that is mended, or name the lists to hold"
        )
        raise error


def first_error(pulled: PullResult) -> SyncdError | None:
    """The error to show first: a rejected list before an unreachable one."""
    return next((error for error in pulled.errors if isinstance(error, FeedError)), next(iter(pulled.errors), None))
