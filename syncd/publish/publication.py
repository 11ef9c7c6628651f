"""The publication core: the one act by which anything in a feed becomes visible.

    lock -> finish what a crash interrupted -> next manifests -> sign in memory -> commit the exact bytes -> install
    (the timestamp last) -> announce

A sync, a release, compaction, hourly signing, key rotation, `recover`, a partner's ``feed publish``: each only makes a
proposal, computed from the state that it reads once the lock is held.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Generic

from syncd.errors import LostRaceError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.files import lock
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import AuditHead, ListName
from syncd.publish.change import ListChange, head_move, metadata_files, next_manifest, sign
from syncd.publish.ledger import Commit, CurrentVersion, HeadMove, Ledger, Publication, Records, SignedFiles
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository
from syncd.trust.values import MetadataUpdate, role_of

_RACES: Final = 3
"""Attempts at a publication when other processes publish first."""
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
    """The state that a publication is computed from: read under the lock, its metadata verified once."""

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


Propose = Callable[[Start[Records]], Proposal[Records] | None]
"""Computes a publication from the current state; None if nothing is to be done. May be called more than once."""


@dataclass(frozen=True)
class FeedPublisher(Generic[Records]):
    """Publishes one feed through one ledger."""

    feed: FeedFolder
    ledger: Ledger[Records]
    signers: Signers
    announce: Announce = unannounced
    patience: float = 0.0
    """seconds to wait for another publication to end"""

    def publish(self, purpose: str, propose: Propose[Records], now: datetime) -> tuple[Manifest, ...] | None:
        """Publish the proposal of ``propose``; return the new versions, or None if it proposed nothing.

        If another process publishes first, compute everything again from the new state. Raises what ``propose``
        raises, `RefusedError` (another publication is under way, or keys are missing) and `StoreError`.
        """
        with lock(self.feed.lock, purpose, self.patience):
            for _ in range(_RACES - 1):
                try:
                    return self._publish(propose, now)
                except LostRaceError:
                    continue
            return self._publish(propose, now)

    def finish(self, purpose: str = "recovery") -> int:
        """Install publications committed and not yet installed; return how many. Raises as `publish`."""
        if not self.ledger.pending():
            return 0
        with lock(self.feed.lock, purpose, self.patience):
            return self.install_pending()

    def install_pending(self) -> int:
        """Do the same as `finish`; the caller must hold the feed's lock."""
        pending = self.ledger.pending()
        for publication in pending:
            self._install(publication)
        return len(pending)

    def _publish(self, propose: Propose[Records], now: datetime) -> tuple[Manifest, ...] | None:
        self.install_pending()
        start = Start(load_repository(self.feed), self.ledger)
        proposal = propose(start)
        if proposal is None:
            return None
        audit = self.ledger.audit_head()
        moves = _moves(start, proposal, audit, now) if proposal.visible else ()
        files = self._signed(start.repository, proposal, moves, audit, now) if proposal.visible else ()
        commit = Commit(proposal.kind, files, now, moves, proposal.records)
        self._install(Publication(self.ledger.commit(commit), now, commit.kind, files))
        return tuple(move.manifest for move in moves)

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
    moves = []
    for change in proposal.changes:
        current, stated = start.current(change.list), replace(change, audit=audit)
        manifest = next_manifest(current, stated, created=now, min_root=min_root, above=proposal.above)
        moves.append(head_move(current, manifest))
    return tuple(moves)


def install(feed: FeedFolder, files: SignedFiles) -> None:
    """Install committed files durably, in order. Idempotent. Raises `StoreError`."""
    for path, content in files:
        if path == layout.TIMESTAMP:
            if feed.read(path) != content:
                feed.store.replace(path, content, feed.store.tag(path))
        else:
            feed.store.put(path, content)


def _published(files: SignedFiles) -> Mapping[ListName, int]:
    """Return the lists whose manifests are among ``files``, with their versions."""
    versions = {}
    for path, content in files:
        if layout.is_manifest(path):
            manifest = manifests.parse(content)
            versions[manifest.list] = manifest.version
    return versions
