"""Opening the operator's state for work, and publishing from it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry, HeadNote, OriginMove, OriginRecord, Records, head_name
from syncd.errors import StoreError, SyncdError
from syncd.feed import garbage, layout
from syncd.feed.signed import load_repository
from syncd.files import link_file, sha256_file
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName
from syncd.pipeline.folder import StateFolder
from syncd.publish import author
from syncd.publish.change import ListChange
from syncd.publish.compact import fold_due
from syncd.publish.ledger import Current
from syncd.publish.publication import Announce, FeedPublisher, Proposal, Resign, Start, unannounced
from syncd.publish.rotate import online_signers
from syncd.trust.keys import Signers
from syncd.trust.values import lifetime

_KEPT_PUBLICATIONS: Final = 20
_KEPT_RECORDS: Final = 1000
"""Versions of a list that the catalog remembers, each with its manifest (some 10 kB)."""
_PATIENCE: Final = 60.0
"""Seconds to wait for another source's sync that publishes into the same feed."""


@dataclass(frozen=True)
class Publisher:
    """Publishes heads. The catalog is the ledger: the commit point is one of its transactions."""

    folder: StateFolder
    catalog: Catalog
    signers: Signers
    announce: Announce = unannounced
    """receives each version of a head once readers can see it"""

    @property
    def press(self) -> FeedPublisher[Records]:
        """The publication core, on this state's feed and catalog."""
        return FeedPublisher(self.folder.feed, self.catalog, self.signers, self.announce, _PATIENCE)

    def publish(
        self,
        change: ListChange,
        origin: OriginRecord,
        expected_origin: str | None,
        *,
        evidence: bytes | None,
        plan: str,
        sync_id: str,
        now: datetime,
    ) -> Manifest:
        """Publish the next version of a head, with the origin it follows. Raises `StoreError`, `RefusedError`."""
        kept = change.origin.evidence if change.origin else None
        files = ((layout.evidence_path(change.list, kept.sha256), evidence),) if kept and evidence else ()
        note = HeadNote(origin.source, origin.serial, plan, sync_id, change.counts if change.segments else {})
        records = Records((OriginMove(origin, expected_origin),), {change.list: note})

        def propose(_: Start[Records]) -> Proposal[Records]:
            self._link_segments(origin, change)
            return Proposal("publish", (change,), files, records=records)

        manifests = self.press.publish(f"publishing {change.list}", propose, now) or ()
        return manifests[0]

    def compact(self, name: ListName, now: datetime, *, everything: bool = False) -> Manifest | None:
        """Publish a version of a head with a shorter stack and the same end state; None if nothing is due.

        Folding takes place outside the feed's lock. The origin takes the same stack, so that the segments folded away
        can go.
        """
        current = self.current(name)
        folded = fold_due(self.folder.feed, current.manifest, everything=everything) if current else None
        if not folded:
            return None

        def propose(start: Start[Records]) -> Proposal[Records] | None:
            newest = start.current(name)
            change = folded.change_of(newest.manifest) if newest else None
            if newest is None or change is None:
                return None
            origin = self._origin_of(newest.manifest, change)
            note = HeadNote(origin.source, origin.serial, "compaction")
            records = Records((OriginMove(origin, origin.manifest_sha256),), {name: note})
            return Proposal("compact", (change,), records=records)

        manifests = self.press.publish(f"compacting {name}", propose, now)
        return manifests[0] if manifests else None

    def _origin_of(self, head: Manifest, change: ListChange) -> OriginRecord:
        source, _, name = head.list.partition(".")
        origin = self.catalog.origin(source, ListName(name))
        if origin is None:
            raise StoreError(f"the catalog has no origin of {head.list}", hint="run `syncd verify`")
        if dict(origin.end_state) != dict(head.end_state):
            return origin
        for ref in change.stack:
            if self.folder.source(source).missing(origin.list, [ref]):
                target = self.folder.source(source).segment_path(origin.list, ref)
                link_file(self.folder.feed.segment_path(head.list, ref), target)
        return replace(origin, stack=change.stack)

    def relink(self, origin: OriginRecord) -> bool:
        """Have origin and feed take back from each other, by content, files that one of them lost; False where the
        origin's are gone from both. The feed takes those of the version in force alone."""
        source, feed = self.folder.source(origin.source), self.folder.feed
        published = head_name(origin.source, origin.list)
        for ref in source.missing(origin.list, origin.stack):
            _take_back(feed.segment_path(published, ref), source.segment_path(origin.list, ref), ref)
        gone = feed.missing(published, origin.stack)
        current = self.current(published) if gone else None
        for ref in gone:
            if current and ref in current.manifest.stack:
                _take_back(source.segment_path(origin.list, ref), feed.segment_path(published, ref), ref)
        return not source.missing(origin.list, origin.stack)

    def collect_garbage(self, source: str, now: datetime) -> None:
        """Remove what no kept version names, in the feed and in one source's origins, whose lock the caller holds."""
        author.collect_garbage(self.folder.feed, now, _PATIENCE)
        self.catalog.prune_publications(_KEPT_PUBLICATIONS)
        for head in self.catalog.heads():
            self.catalog.prune_versions(head.list, _KEPT_RECORDS)
        folder = self.folder.source(source)
        garbage.collect(folder, _named_by_origins(self.catalog.origins(), source), now)
        garbage.remove_old_parts(folder.downloads, now)

    def move_origin(self, origin: OriginRecord, expected_origin: str | None, now: datetime) -> None:
        """Record a newer origin that changes nothing that is published."""
        records = Records((OriginMove(origin, expected_origin),))
        proposal = Proposal("origin", records=records, visible=False)
        self.press.publish(f"recording {origin.list}", lambda _: proposal, now)

    def resign(self, now: datetime) -> None:
        """Sign the timestamp again, with when each upstream was last verified. Raises `StoreError`, `RefusedError`."""
        self.press.publish("signing the timestamp", lambda _: Proposal("resign"), now)

    def change_metadata(self, purpose: str, resign: Resign, now: datetime, *audit: AuditEntry) -> None:
        """Commit what ``resign`` signs on top of the feed's metadata: rotated keys, a renewed root."""
        press = replace(self.press, patience=0.0)
        records = Records(audit=audit)
        press.publish(purpose, lambda _: Proposal("metadata", resign=resign, records=records), now)

    def last_signed(self) -> datetime:
        """When the feed's timestamp was last signed."""
        return load_repository(self.folder.feed).expiries()["timestamp"] - lifetime("timestamp")

    def served(self, source: str) -> dict[ListName, int]:
        """The version of each list of a source that readers are given now: the feed's word, since the catalog may be
        one commit ahead. Raises `StoreError`."""
        targets = load_repository(self.folder.feed).targets().values()
        named = {layout.list_of(target.name): target.version for target in targets}
        return {name: version for name, version in named.items() if name and name.partition(".")[0] == source}

    def current(self, name: ListName) -> Current | None:
        """The version of a head that is in force."""
        head = self.catalog.head(name)
        version = self.catalog.version(name, head.version) if head else None
        return Current(manifests.parse(version.manifest), version.manifest_sha256) if version else None

    def _link_segments(self, origin: OriginRecord, change: ListChange) -> None:
        source, feed = self.folder.source(origin.source), self.folder.feed
        for ref in feed.missing(change.list, _named(change)):
            link_file(source.segment_path(origin.list, ref), feed.segment_path(change.list, ref))


def _take_back(kept: Path, lost: Path, ref: SegmentRef) -> None:
    """Not one that was damaged: the partner may have it whole."""
    if kept.exists() and sha256_file(kept) == ref.sha256:
        link_file(kept, lost)


def _named(change: ListChange) -> tuple[SegmentRef, ...]:
    return tuple({ref.sha256: ref for ref in (*change.stack, *change.segments)}.values())


def _named_by_origins(origins: Iterable[OriginRecord], source: str) -> set[str]:
    return {
        layout.segment_path(origin.list, ref.sha256)
        for origin in origins
        if origin.source == source
        for ref in origin.stack
    }


@contextmanager
def open_publisher(folder: StateFolder, *, online: bool = True, credentials: Path | None = None) -> Iterator[Publisher]:
    """Open the catalog and the online keys, and finish what a crash interrupted.

    ``credentials``: where systemd hands them over; keys that are there are used rather than those in ``folder``.
    Raises `UsageError`, `RefusedError`, `StoreError`.
    """
    with ExitStack() as opened:
        try:
            publisher = _open_publisher(folder, opened)
            if online:
                signers = online_signers(folder.feed, folder.keys, credentials=credentials)
                publisher = replace(publisher, signers=signers)
        except SyncdError as error:
            error.serving = error.serving or f"{folder.feed.root} as it was published last"
            raise
        yield publisher


def _open_publisher(folder: StateFolder, opened: ExitStack) -> Publisher:
    folder.check_set_up()
    publisher = Publisher(folder, opened.enter_context(Catalog.open(folder.catalog)), {})
    publisher.press.finish()  # before the roles are read, which tell what keys to load
    folder.check_feed()
    return publisher
