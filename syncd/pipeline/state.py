"""Opening the operator's state for work, and publishing from it."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import AuditEntry, Commit, HeadRecord, OriginRecord, VersionRecord
from syncd.errors import StoreError, SyncdError, UsageError
from syncd.feed import author, garbage, layout, publish
from syncd.feed import compact as compaction
from syncd.feed.publish import Current, ListChange
from syncd.feed.rotate import Change, online_signers
from syncd.feed.signed import load_repository
from syncd.files import link_file, lock, sha256_file
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest, SegmentRef
from syncd.model import ListName
from syncd.pipeline.folder import StateFolder
from syncd.pipeline.names import head_name
from syncd.trust.keys import Signers
from syncd.trust.values import Freshness, lifetime

_KEPT_PUBLICATIONS: Final = 20
_KEPT_RECORDS: Final = 1000
"""Versions of a list that the catalog remembers, each with its manifest (some 10 kB)."""
_PATIENCE: Final = 60.0
"""Seconds to wait for another source's sync that publishes into the same feed."""


Announce = Callable[[ListName, int], None]
"""Told a list and its version; from any thread."""


def _no_one(name: ListName, version: int) -> None:
    """Nobody waits for news."""


@dataclass(frozen=True)
class Publisher:
    """Publishes heads: the commit point is one transaction of the catalog that holds the exact signed bytes."""

    folder: StateFolder
    catalog: Catalog
    signers: Signers
    announce: Announce = _no_one
    """told each version of a head once readers can see it"""

    def recover(self) -> int:
        """Install what was committed and not yet installed, by the same code path; returns how many commits."""
        if not self.catalog.pending_publications():
            return 0
        with lock(self.folder.feed.lock, "recovery", _PATIENCE):
            return self.install_pending()

    def install_pending(self) -> int:
        """As `recover`, for who holds the feed's lock."""
        pending = self.catalog.pending_publications()
        for publication in pending:
            publish.install(self.folder.feed, publication.files)
            self.catalog.mark_installed(publication.id)
        if pending:
            for head in self.catalog.heads():  # which of them the publications moved is not recorded
                self.announce(head.list, head.version)
        return len(pending)

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
        feed = self.folder.feed
        with lock(feed.lock, f"publishing {change.list}", _PATIENCE):
            self.install_pending()
            current = self.current(change.list)
            self._link_segments(origin, change)
            repository = load_repository(feed)
            manifest = publish.next_manifest(current, change, created=now, min_root=repository.versions["root"])
            content = manifests.encode(manifest)
            signed = publish.sign(repository, [manifest], self.freshness(origin), self.signers, now)
            kept = change.origin.evidence if change.origin else None
            files = (
                ((layout.evidence_path(change.list, kept.sha256), evidence), *signed) if kept and evidence else signed
            )
            head, version = _records(manifest, content, origin, plan, sync_id, now)
            self.commit(
                Commit(
                    kind="publish",
                    files=files,
                    created_at=now,
                    origin=origin,
                    expected_origin=expected_origin,
                    head=head,
                    expected_head=current.manifest.version if current else None,
                    version=version,
                )
            )
        return manifest

    def compact(self, name: ListName, now: datetime, *, everything: bool = False) -> Manifest | None:
        """Publish a version of a head with a shorter stack and the same end state; None where nothing is due.

        The origin takes the same stack, so that the segments folded away can go.
        """
        feed = self.folder.feed
        with lock(feed.lock, f"compacting {name}", _PATIENCE):
            self.install_pending()
            current = self.current(name)
            change = compaction.compact(feed, current.manifest, everything=everything) if current else None
            if current is None or change is None:
                return None
            origin = self._origin_of(current.manifest, change)
            repository = load_repository(feed)
            manifest = publish.next_manifest(current, change, created=now, min_root=repository.versions["root"])
            signed = publish.sign(repository, [manifest], self.freshness(), self.signers, now)
            head, version = _records(manifest, manifests.encode(manifest), origin, "compaction", None, now)
            self.commit(
                Commit(
                    kind="compact",
                    files=signed,
                    created_at=now,
                    origin=origin,
                    expected_origin=origin.manifest_sha256,
                    head=head,
                    expected_head=current.manifest.version,
                    version=version,
                )
            )
        return manifest

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
        for head in self.catalog.heads():
            self.catalog.prune_versions(head.list, _KEPT_RECORDS)
        folder = self.folder.source(source)
        garbage.collect(folder, _named_by_origins(self.catalog.origins(), source), now)
        garbage.remove_old_parts(folder.downloads, now)

    def commit(self, commit: Commit) -> None:
        """The commit point, then what makes it visible. Call with the feed's lock held."""
        publication = self.catalog.commit(commit)
        publish.install(self.folder.feed, commit.files)
        self.catalog.mark_installed(publication)
        if commit.head is not None:
            self.announce(commit.head.list, commit.head.version)
        self.catalog.prune_publications(_KEPT_PUBLICATIONS)

    def move_origin(self, origin: OriginRecord, expected_origin: str | None, now: datetime) -> None:
        """Record a newer origin that changes nothing that is published."""
        commit = Commit(kind="origin", files=(), created_at=now, origin=origin, expected_origin=expected_origin)
        self.catalog.mark_installed(self.catalog.commit(commit))

    def resign(self, now: datetime) -> None:
        """Sign the timestamp anew, with when each upstream was last verified. Raises `StoreError`, `RefusedError`."""
        feed = self.folder.feed
        with lock(feed.lock, "signing the timestamp", _PATIENCE):
            self.install_pending()
            update = load_repository(feed).resign(self.freshness(), self.signers, now)
            files = publish.metadata_files(update.files)
            self.commit(Commit(kind="resign", files=files, created_at=now))

    def change_metadata(self, purpose: str, change: Change, now: datetime, entry: AuditEntry | None = None) -> None:
        """Commit what ``change`` signs on top of the feed's metadata: rotated keys, a renewed root."""
        feed = self.folder.feed
        with lock(feed.lock, purpose):
            self.install_pending()
            files = publish.metadata_files(change(load_repository(feed)).files)
            self.commit(Commit(kind="metadata", files=files, created_at=now, audit=entry))

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
        """The version of a head that is in force, from the catalog."""
        head = self.catalog.head(name)
        if head is None:
            return None
        version = self.catalog.version(name, head.version)
        if version is None:
            raise UsageError(f"the catalog has no record of {name} version {head.version}", hint="syncd verify")
        return Current(manifests.parse(version.manifest), head.manifest_sha256)

    def freshness(self, newest: OriginRecord | None = None) -> Mapping[str, Freshness]:
        """Per head: when its upstream was last verified, and its serial. ``newest`` is about to be recorded."""
        origins = {head_name(origin.source, origin.list): origin for origin in self.catalog.origins()}
        if newest:
            origins[head_name(newest.source, newest.list)] = newest
        return {
            name: Freshness(manifests.now_in_seconds(origin.verified_at), origin.serial)
            for name, origin in origins.items()
        }

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


def _records(
    manifest: Manifest, content: bytes, origin: OriginRecord, plan: str, sync_id: str | None, now: datetime
) -> tuple[HeadRecord, VersionRecord]:
    sha256 = hashlib.sha256(content).hexdigest()
    counts = manifest.recent[-1].counts if manifest.recent else {}
    head = HeadRecord(manifest.list, origin.source, manifest.version, sha256, origin.serial, now)
    version = VersionRecord(manifest.list, manifest.version, sha256, content, now, sync_id, plan, counts, manifest.rows)
    return head, version


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
    publisher.recover()  # before the roles are read, which tell what keys to load
    folder.check_feed()
    return publisher
