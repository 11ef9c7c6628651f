"""The publication core: the one act by which anything in a feed becomes visible.

    finish what a crash interrupted -> next manifests -> sign in memory -> commit the exact bytes -> install (the
    timestamp last) -> announce

A sync, a release, compaction, hourly signing, key rotation, `recover`, a partner's ``feed publish``: each takes the
lock of the feed, reads the state, computes a proposal and hands it over. Nothing here calls back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Generic, TypeVar

from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.locked import FeedLock, with_lock
from syncd.feed.signed import load_repository
from syncd.files import remove_temporaries
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import AuditHead, ListName
from syncd.publish.change import ListChange, head_move, metadata_files, next_manifest, sign
from syncd.publish.installing import install, meet
from syncd.publish.ledger import Commit, CurrentVersion, HeadMove, Ledger, Publication, Records, SignedFiles
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository
from syncd.trust.values import MetadataUpdate, role_of

Done = TypeVar("Done")

_OFFLINE: Final = frozenset({"root", "targets"})

Announce = Callable[[ListName, int], None]
"""Receives a list and its version once readers can see it; called from any thread."""
Resign = Callable[[Repository], MetadataUpdate]
"""Signs a change of the feed's metadata itself: other keys, a renewed root."""


def unannounced(name: ListName, version: int) -> None:
    """Announce to nobody."""
    del name, version


@dataclass(frozen=True)
class Start(Generic[Records]):
    """The published state as it is once the lock is held: its metadata verified, nothing left to install."""

    repository: Repository
    _ledger: Ledger[Records]

    def current(self, name: ListName) -> CurrentVersion | None:
        """Return the version of a list that is in force; None if it was never published."""
        return self._ledger.current(self.repository, name)


@dataclass(frozen=True)
class Proposal(Generic[Records]):
    """The content of one publication. Without changes, files and records, only the timestamp is renewed."""

    kind: str
    changes: tuple[ListChange, ...] = ()
    files: SignedFiles = field(default=(), repr=False)
    """further immutable files, such as evidence: installed before the rest"""
    resign: Resign | None = None
    """signs root, targets or other keys first"""
    above: int = 0
    """every signed version number is higher"""
    records: Records | None = None
    """the ledger's own records of it"""
    visible: bool = True
    """false: only ``records`` are committed, and nothing is signed"""


@dataclass(frozen=True)
class FeedPublisher(Generic[Records]):
    """Publishes one feed through one ledger."""

    feed: FeedFolder
    ledger: Ledger[Records]
    signers: Signers
    announce: Announce = unannounced

    def with_lock(self, purpose: str, act: Callable[[FeedLock], Done], patience: float = 0.0) -> Done:
        """Call ``act`` with the feed's lock held: what it publishes follows all that it reads. As `with_lock`."""
        return with_lock(self.feed, purpose, act, patience, self.ledger.last_commit)

    def start(self, held: FeedLock, *, ahead: bool = False) -> Start[Records]:
        """Install what a crash left, and return the published state.

        Raises `StoreError`, also if other machines can publish into the feed's store and it has a publication that the
        ledger does not know, unless it may be ``ahead``.
        """
        self.feed.store.prove()
        self.install_pending(held)
        if self.feed.store.shared:
            meet(self.feed, self.ledger, ahead=ahead)
        return Start(load_repository(self.feed), self.ledger)

    def publish(
        self, held: FeedLock, proposal: Proposal[Records], now: datetime, start: Start[Records] | None = None
    ) -> tuple[Manifest, ...]:
        """Publish a proposal that was computed under this lock; return the new versions.

        ``start``: the state that the proposal was computed from, if it was read. Raises `LostRaceError` if another
        process published first (`with_lock` then begins again), `RefusedError` (keys are missing), `StoreError`.
        """
        start = start or self.start(held)
        audit = self.ledger.audit_head()
        moves = _moves(start, proposal, audit, now) if proposal.visible else ()
        files = self._signed(start.repository, proposal, moves, audit, now) if proposal.visible else ()
        commit = Commit(proposal.kind, files, now, moves, proposal.records, after=held.last)
        self._install(Publication(self.ledger.commit(commit), now, commit.kind, files))
        return tuple(move.manifest for move in moves)

    def publish_fixed(
        self, purpose: str, proposal: Proposal[Records], now: datetime, patience: float = 0.0
    ) -> tuple[Manifest, ...]:
        """Take the lock and publish a proposal that does not depend on the state. Raises as `with_lock`, `publish`."""
        return self.with_lock(purpose, lambda held: self.publish(held, proposal, now), patience)

    def finish(self, purpose: str = "recovery", patience: float = 0.0) -> int:
        """Install publications committed and not yet installed; return how many.

        Raises `RefusedError` if another publication is under way for longer than ``patience`` seconds, `StoreError`.
        """
        return self.with_lock(purpose, self.install_pending, patience) if self.ledger.pending() else 0

    def install_pending(self, held: FeedLock) -> int:
        """Do the same as `finish` under the lock of the caller."""
        del held
        pending = self.ledger.pending()
        for publication in pending:
            self._install(publication)
        if pending:  # a process was killed while it installed them
            remove_temporaries(self.feed.path(layout.METADATA))
        return len(pending)

    def _signed(
        self,
        repository: Repository,
        proposal: Proposal[Records],
        moves: tuple[HeadMove, ...],
        audit: AuditHead | None,
        now: datetime,
    ) -> SignedFiles:
        first: SignedFiles = ()
        if proposal.resign is not None:
            update = proposal.resign(repository)
            if not moves and not proposal.above:
                return (*proposal.files, *metadata_files(update.files))
            repository = repository.after(update)
            # The snapshot and timestamp of that step are signed again below, under higher numbers.
            first = metadata_files([file for file in update.files if role_of(file[0]) in _OFFLINE])
        moved = [move.manifest for move in moves]
        freshness = self.ledger.freshness(repository, moved, proposal.records, now)
        signed = sign(repository, moves, freshness, self.signers, now, above=proposal.above, audit=audit)
        return (*proposal.files, *first, *signed)

    def _install(self, publication: Publication) -> None:
        install(self.feed, publication.files)
        self.ledger.installed(publication.id)
        for name, version in _published(publication.files).items():
            self.announce(name, version)


def _moves(
    start: Start[Records], proposal: Proposal[Records], audit: AuditHead | None, now: datetime
) -> tuple[HeadMove, ...]:
    min_root = start.repository.versions["root"]
    signed = {target.name: target.version for target in start.repository.targets().values()}
    moves = []
    for change in proposal.changes:
        current, stated, above = start.current(change.list), replace(change, audit=audit), proposal.above
        if current is None:  # a restored ledger may lack a list that already has signed versions
            above = max(above, signed.get(layout.target_name(change.list), 0))
        manifest = next_manifest(current, stated, created=now, min_root=min_root, above=above)
        moves.append(head_move(current, manifest))
    return tuple(moves)


def _published(files: SignedFiles) -> Mapping[ListName, int]:
    """Return the lists whose manifests are among ``files``, with their versions."""
    versions = {}
    for path, content in files:
        if layout.is_manifest(path):
            manifest = manifests.parse(content)
            versions[manifest.list] = manifest.version
    return versions
