"""A partner's request to publish the next version of a list, from the batch to the complete, unsigned version."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from syncd.errors import UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import Snapshot
from syncd.format.batch import Batch
from syncd.format.manifest import Manifest
from syncd.model import Algorithm, Counts, ListName
from syncd.publish.change import ListChange
from syncd.publish.draft import ListDraft
from syncd.publish.publication import Proposal

MakeBatch = Callable[[Path], Batch]
"""Makes the batch to publish, with its files in the given scratch folder; called once the feed's lock is held."""


@dataclass(frozen=True)
class Prospect:
    """The next version of a list before it is signed, with the version that it would replace."""

    list: ListName
    current: Snapshot | None
    change: ListChange
    read: int = 0
    """rows read to make it, bad ones included"""
    skipped: int = 0
    """bad rows among them"""

    @property
    def version(self) -> int:
        """The number that it would get."""
        return (self.current.manifest.version if self.current else 0) + 1


Permit = Callable[[Prospect], bool]
"""Decides whether a version is published; called with the feed's lock held, so that nothing can change meanwhile."""


def permit_all(prospect: Prospect) -> bool:
    """Permit every version."""
    del prospect
    return True


@dataclass(frozen=True)
class Published:
    """The result of a publication. ``version`` is in force now; ``changed`` is true if it is new."""

    list: ListName
    version: int
    changed: bool
    rows: int
    counts: Mapping[Algorithm, Counts]
    skipped: int = 0
    """bad rows set aside while the batch was made"""
    needless: int = 0
    """rows without effect: additions of present entries, removals of absent ones"""


@dataclass
class PublishRequest:
    """A partner's request to publish a list; making the batch fills in the fields below ``dry_run``."""

    folder: FeedFolder
    name: ListName
    make_batch: MakeBatch
    permit: Permit = permit_all
    dry_run: bool = False
    current: Snapshot | None = None
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    skipped: int = 0
    needless: int = 0

    def propose(self, current: Snapshot | None) -> Proposal[None] | None:
        """Return the proposal over the version in force; None if it is not permitted, or only a dry run."""
        self.current = current
        try:
            return self._draft()
        finally:
            self.folder.remove_staging()  # it holds the list in the clear, and takes as much space

    def _draft(self) -> Proposal[None] | None:
        staging = self.folder.make_staging()
        batch, draft = self.make_batch(staging), ListDraft(staging, self.current)
        draft.apply(batch)
        self.skipped, self.needless = batch.skipped, draft.needless
        change = draft.change(self.name)
        if change is None:
            if self.current is None:
                raise UsageError(f"{self.name} would be empty", hint="the first version needs at least one row")
            return None if self.dry_run else Proposal("resign")
        self.counts = change.counts
        permitted = self.permit(Prospect(self.name, self.current, change, batch.read, batch.skipped))
        if self.dry_run or not permitted:
            return None
        for path, ref in draft.written:
            self.folder.store.adopt(path, layout.segment_path(self.name, ref.sha256))
        return Proposal("publish", (change,))

    def published(self, manifests: Sequence[Manifest]) -> Published:
        """Return the result. ``manifests``: those of the new version, or () if nothing changed."""
        if manifests:
            (new,) = manifests
            version, rows, counts = new.version, new.rows, self.counts
        else:
            version, rows = (self.current.manifest.version, self.current.manifest.rows) if self.current else (0, 0)
            counts = {}
        return Published(
            list=self.name,
            version=version,
            changed=bool(manifests),
            rows=rows,
            counts=counts,
            skipped=self.skipped,
            needless=self.needless,
        )
