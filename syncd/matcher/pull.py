"""Pulling: verify everything, install it, then make it current in one rename."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Final

from syncd.clock import ACCEPT_IN_COPY
from syncd.errors import (
    FeedError,
    MismatchError,
    RefusedError,
    StoreError,
    SyncdError,
    as_known,
    worst_error,
)
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.follow import Follower
from syncd.feed.near_indexes import remove_unneeded
from syncd.feed.proof import SignedManifest, check_follows, check_fresh, prove_manifest, target_of
from syncd.feed.proof_record import FoundFault, ProofRecord
from syncd.feed.reproof import Pause, prove_end_state
from syncd.feed.unfolded import Unfolded
from syncd.fetch import Deadline, Endpoint, open_peer
from syncd.files import install_bytes
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.format.manifest import ManifestRef, SegmentRef
from syncd.locks import lock
from syncd.matcher.clock import accepted_clock
from syncd.matcher.copy import (
    CURRENT,
    ROOT,
    CurrentFile,
    HeldList,
    check_root,
    check_target,
    held_list,
    lists_here,
    next_current,
    read_current,
    write_current,
)
from syncd.matcher.reproof import distrust_damaged, forget_repaired, prove_now, record_of
from syncd.model import ListName
from syncd.trust.values import Floors, TrustedFeed

Progress = Callable[[int, int], None]
"""Called with the bytes fetched so far, and the total."""
FoldLater = Callable[[SegmentRef], bool]
"""Asked about the output of a large fold; returns True if it may be made after the pull."""


def fold_at_once(_: SegmentRef) -> bool:
    """Return False: a `FoldLater` for pulls that no `BackgroundFold` follows."""
    return False


@dataclass(frozen=True)
class ListPull:
    """The outcome for one list: the version in force before and after, and the error that prevented a newer one."""

    list: ListName
    before: int | None
    after: int | None
    forked: bool = False
    """true if the new version does not descend from the old one: its signer was restored from a backup"""
    error: SyncdError | None = None
    retired: datetime | None = None
    """since when the list is no longer published"""


@dataclass(frozen=True)
class PullResult:
    """The outcome of a pull."""

    lists: tuple[ListPull, ...]
    bytes: int = 0
    """bytes of all bodies received from the feed, used or not"""
    trusted: TrustedFeed | None = field(default=None, repr=False)
    clock_was: datetime | None = None
    """the time of the last pull, if ``accept_clock`` of `pull` replaced it"""

    @property
    def changed(self) -> bool:
        """True if any list changed its version."""
        return any(outcome.before != outcome.after for outcome in self.lists)

    @property
    def versions(self) -> dict[ListName, int]:
        """The versions in force now."""
        return {outcome.list: outcome.after for outcome in self.lists if outcome.after is not None}

    @property
    def errors(self) -> list[SyncdError]:
        """The errors of lists that could not be updated."""
        return [outcome.error for outcome in self.lists if outcome.error]


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
    accept_clock: datetime | None = None,
    check: Pause | None = None,
    fold_later: FoldLater = fold_at_once,
) -> PullResult:
    """Bring the copy in ``folder`` up to date with the feed at ``endpoint``, trusted by ``root``.

    ``check``: if given, every segment and end state of the copy is proved first, and the end state of a new version
    before that is made current; it is called after each piece. Damaged segments are fetched again, including those that
    an earlier proof recorded.

    ``fold_later``: called with each large segment that this copy can fold itself. If it returns True, the new version
    becomes current before it is folded, and is read from the inputs of the fold; `BackgroundFold` folds them. It is not
    called if ``check`` is given. Readers in other languages cannot read such a copy.

    ``lists``: the lists to hold; if empty, all lists of the feed. A list with a fault stays at its version while the
    others are updated (`PullResult.errors`). If ``current.json`` was lost, a fault in a list of the copy is raised,
    because no generation may become current without that list. A fault in the metadata is raised and changes nothing:
    `SourceError`, `TrustError`, `RefusedError`, `StoreError`, `UsageError`.

    ``accept_clock``: the present time, if the clock was ahead at the last pull: it replaces the time of that pull as
    the clock floor. The floors of versions stay. Raises `RefusedError` if the last pull does not lie in the future, and
    `UsageError` if ``accept_clock`` does, or is before a verification or timestamp of the copy that does not.
    """
    copy = FeedFolder(folder)
    with _stating_what_is_served(copy):
        check_target(copy)
        with lock(copy.lock, "a pull"):
            if check is not None:
                prove_now(copy, check, lambda: now)
            job = _PullJob(
                copy,
                root,
                tuple(lists),
                now,
                caps=caps,
                progress=progress,
                accept_clock=accept_clock,
                check=check,
                fold_later=fold_later if check is None else fold_at_once,
            )
            return job.run(endpoint, Deadline(deadline))


def pull_if_free(
    endpoint: Endpoint,
    root: bytes,
    folder: Path,
    *,
    now: datetime,
    lists: Sequence[ListName],
    deadline: Deadline,
    already_pulled: Callable[[], bool],
    fold_later: FoldLater = fold_at_once,
) -> PullResult | None:
    """Pull, as one of several processes that share a copy; return None if another process is pulling or has pulled.

    ``already_pulled``: called with the lock held; returns True if another process pulled in the meantime.
    ``fold_later``: as for `pull`.
    """
    copy = FeedFolder(folder)
    with _stating_what_is_served(copy), contextlib.ExitStack() as held:
        check_target(copy)
        try:
            held.enter_context(lock(copy.lock, "a pull"))
        except RefusedError:
            return None
        if already_pulled():
            return None
        return _PullJob(copy, root, tuple(lists), now, fold_later=fold_later).run(endpoint, deadline)


@dataclass(frozen=True)
class _PullJob:
    """The arguments of a pull, to be run with the lock of the copy held."""

    copy: FeedFolder
    root: bytes
    lists: tuple[ListName, ...]
    now: datetime
    caps: Caps = DEFAULT_CAPS
    progress: Progress | None = None
    accept_clock: datetime | None = None
    check: Pause | None = None
    fold_later: FoldLater = fold_at_once

    def run(self, endpoint: Endpoint, deadline: Deadline) -> PullResult:
        known = distrust_damaged(self.copy)
        with open_peer(endpoint, deadline) as peer:
            check_root(self.copy, self.root)
            follower = Follower(self.copy, self.root, peer, self.caps, clock_cure=ACCEPT_IN_COPY)
            current = read_current(self.copy)
            before = clock = current.updated if current else None
            if self.accept_clock is not None:
                clock = accepted_clock(self.copy, current, self.accept_clock, self.now)
            steps = _Pull(
                self.copy,
                self.root,
                follower,
                current,
                clock=clock,
                progress=self.progress,
                known=known,
                check=self.check,
                fold_later=self.fold_later,
            )
            pulled = steps.run(self.lists, self.now)
            return replace(pulled, clock_was=before) if self.accept_clock else pulled


_SERVED_FROM_MEMORY: Final = f"the versions that running matchers have loaded; the copy has no {CURRENT}"


@contextlib.contextmanager
def _stating_what_is_served(copy: FeedFolder) -> Iterator[None]:
    try:
        yield
    except SyncdError as error:
        error.serving = error.serving or _serving(copy)
        raise


def _serving(copy: FeedFolder) -> str:
    try:
        current = read_current(copy)
    except SyncdError:
        return "the versions that running matchers have loaded; the copy on disk cannot be read"
    if current is None and lists_here(copy):
        return _SERVED_FROM_MEMORY
    held = current.lists if current else {}
    return ", ".join(f"{name} version {held[name].version}" for name in sorted(held)) or "nothing yet"


@dataclass
class _Pull:
    copy: FeedFolder
    root: bytes
    follower: Follower
    current: CurrentFile | None
    clock: datetime | None
    """the clock floor: the earliest time that our clock may show, apart from the tolerance"""
    progress: Progress | None
    known: Sequence[FoundFault] = ()
    """recorded faults when the pull began"""
    check: Pause | None = None
    fold_later: FoldLater = fold_at_once
    gained: int = 0

    def run(self, wanted: tuple[ListName, ...], now: datetime) -> PullResult:
        trusted = self.follower.refresh(self._floors(), now)
        self._keep(ROOT, self.root)  # not earlier: a wrong root would then lock out the right one
        for name, content in trusted.files.items():
            self._keep(f"{layout.METADATA}/{name}", content)
        held = dict(self.current.lists) if self.current else {}
        unnamed = frozenset() if self.current else lists_here(self.copy)
        names = wanted or tuple(sorted({*held, *unnamed, *filter(None, map(layout.list_of, trusted.targets))}))
        outcomes = tuple(self._list(trusted, name, held, now) for name in names)
        _refuse_loss([outcome for outcome in outcomes if outcome.list in unnamed])
        if self.current is None and outcomes and not held:  # a matcher that starts now would answer without any list
            return PullResult(outcomes, self.follower.received, trusted)
        current = next_current(self.current, held, trusted, now)
        write_current(self.copy, current)
        self._record_proof(current, unnamed, now)
        self._collect(trusted, current, now)
        return PullResult(tuple(map(self._checked, outcomes)), self.follower.received, trusted)

    def _record_proof(self, current: CurrentFile, unnamed: Collection[ListName], now: datetime) -> None:
        if self.current is None and not unnamed:  # every file is new, and has just been proved
            record_of(self.copy).write(ProofRecord().ended(now))
        else:
            held = {name: held.manifest for name, held in current.lists.items()}
            forget_repaired(self.copy, held, self.known)

    def _checked(self, outcome: ListPull) -> ListPull:
        """Return the outcome, with the fault if the check found one that no download repairs: a wrong end state."""
        if self.check is None or outcome.error is not None:
            return outcome
        left = (fault for fault in record_of(self.copy).read().faults if fault.list == outcome.list)
        return next((replace(outcome, error=fault.error) for fault in left), outcome)

    def _floors(self) -> Floors:
        """Return the versions that ``current.json`` records, in case the metadata client's own folder was lost."""
        if self.current is None:
            return Floors()
        versions = dict(self.current.metadata)
        root, timestamp, snapshot = (versions.pop(role, 0) for role in ("root", "timestamp", "snapshot"))
        return Floors(root, timestamp, snapshot, versions, self.clock)

    def _list(self, trusted: TrustedFeed, name: ListName, held: dict[ListName, HeldList], now: datetime) -> ListPull:
        before = held.get(name)
        version = before.version if before else None
        try:
            check_fresh(trusted, name, now)
            signed = self._signed(trusted, name)
            held_ref = ManifestRef(version=before.version, sha256=before.manifest) if before else None
            forked = check_follows(held_ref, signed)
            unfolded = self._install(name, signed, before)
            if self.check is not None and (before is None or before.manifest != signed.sha256):
                prove_end_state(self.copy, signed.manifest, signed.manifest.stack, self.check)
        except Exception as fault:  # noqa: BLE001 - a fault in one list must not stop the others
            error = as_known(fault)
            error.serving = f"{name} version {version}" if version else f"nothing of {name} yet"
            return ListPull(name, version, version, error=error)
        held[name] = held_list(signed, trusted, unfolded)
        retired = signed.manifest.retired.since if signed.manifest.retired else None
        return ListPull(name, version, signed.manifest.version, forked, retired=retired)

    def _signed(self, trusted: TrustedFeed, name: ListName) -> SignedManifest:
        """Return the newest manifest; fetch it only if it is not here."""
        content = self.copy.read(layout.manifest_path(name, target_of(trusted, name).sha256))
        if content is not None:
            with contextlib.suppress(MismatchError):  # damaged on this disk
                return prove_manifest(trusted, name, content)
        return self.follower.manifest(trusted, name)

    def _collect(self, trusted: TrustedFeed, current: CurrentFile, now: datetime) -> None:
        """Remove files that no generation of the last day names."""
        metadata = set(trusted.files)
        for held in current.lists.values():
            metadata |= {f"{version}.{role}.json" for role, version in held.metadata.items()}
        newest = {name: held.manifest for name, held in current.lists.items()}
        named = garbage.named_by_feed(self.copy, newest, metadata, kept=0)
        for name, held in current.lists.items():
            named |= {layout.segment_path(name, used.sha256) for used in chain(*held.unfolded.values())}
        garbage.collect(self.copy, named, now)
        remove_unneeded(self.copy, {Path(path).stem for path in self.copy.store.names()})
        garbage.remove_old_parts(self.copy.downloads, now)

    def _install(self, name: ListName, signed: SignedManifest, before: HeldList | None) -> Unfolded:
        held = self._held_segments(name, before)
        total = sum(ref.length for ref in self.copy.missing(name, signed.manifest.stack))

        def report(gained: int) -> None:
            self.gained += gained
            if self.progress:
                self.progress(self.gained, max(total, self.gained))

        unfolded = self.follower.obtain(name, signed.manifest, held, report, fold_later=self.fold_later)
        self._keep(layout.manifest_path(name, signed.sha256), signed.content)
        return unfolded

    def _held_segments(self, name: ListName, before: HeldList | None) -> tuple[SegmentRef, ...]:
        if before is None:
            return ()
        inputs = tuple(chain(*before.unfolded.values()))
        try:
            return (*inputs, *self.copy.manifest(name, before.manifest).named_segments())
        except (FeedError, StoreError):  # damaged or gone: it would only save downloads, and will be replaced
            return inputs

    def _keep(self, path: str, content: bytes) -> None:
        """Install a proved file, replacing a file of this name that was damaged on disk."""
        if self.copy.read(path) != content:
            install_bytes(self.copy.path(path), content)


def _refuse_loss(outcomes: Sequence[ListPull]) -> None:
    """Raise the error of a list that was in the copy before ``current.json`` was lost and cannot be fetched now.

    A generation without that list would take it away from every matcher that loads it.
    """
    error = worst_error(outcome.error for outcome in outcomes if outcome.error)
    if error is not None:
        error.serving = _SERVED_FROM_MEMORY
        error.hint = (
            f"{error.hint}; no list becomes current until every list of the copy is complete: correct this and pull "
            "again, or name the lists to hold"
        )
        raise error
