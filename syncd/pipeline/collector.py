"""Removing what is no longer kept from an operator's state: files of the feed and the origins, records of the catalog.

Needed beyond the limits, so never removed: the current version of each list with the deltas that its manifest names,
versions that a matcher has loaded and reported lately, and everything that an origin, a pin, an open or a discarded
hold needs (see ``docs/adr/0024``). The history for `syncd explain` has links of its own to the files that it needs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import PurePath
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.pruning import RecordCount
from syncd.catalog.sizes import KEPT_SIZES
from syncd.errors import RefusedError, StoreError
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.garbage import Collected, FileCount, FileLedger, UnnamedLedger
from syncd.format import manifest as manifests
from syncd.format.derived import remove_indexes
from syncd.format.manifest import Manifest
from syncd.history.keep import keep, unlinked
from syncd.locks import lock
from syncd.model import ListName
from syncd.pipeline.cache import trim_cache
from syncd.pipeline.heads import named_segments, read_state
from syncd.pipeline.held import needed_answers
from syncd.publish import author
from syncd.retention import RetentionLimits

_PATIENCE: Final = 60.0
"""Seconds to wait for the feed's lock."""
_REMEMBERED: Final = 8192
"""Older versions whose needs are kept in memory; a manifest never changes."""
_SYNCD: Final = "syncd"
"""The actor of the audit log's own shortening."""


@dataclass(frozen=True)
class Cleanup:
    """Removed files and records; after a dry run, those that would be removed."""

    feed: Collected = field(default_factory=Collected)
    sources: Collected = field(default_factory=Collected)
    """of the origins; a segment that the feed has too is one file with two names"""
    downloads: FileCount = field(default_factory=FileCount)
    """partial downloads that nobody continued for a week"""
    records: Mapping[str, RecordCount] = field(default_factory=dict)
    """by kind"""
    skipped: tuple[str, ...] = ()
    """sources with a running sync, whose files were left alone"""
    old_audit: int = 0
    """records of the audit log that the next syncs remove"""

    @property
    def files(self) -> FileCount:
        """All removed files."""
        both = FileCount(self.feed.files + self.sources.files, self.feed.bytes + self.sources.bytes)
        return both + self.downloads

    @property
    def record_count(self) -> int:
        """All removed records."""
        return sum(count.records for count in self.records.values())


@dataclass(frozen=True)
class _CatalogLedger:
    """A record of unnamed files in the catalog. A `syncd.feed.garbage.UnnamedLedger`."""

    catalog: Catalog
    place: str

    def read(self) -> str:
        return self.catalog.unnamed_files(self.place)

    def write(self, record: str) -> None:
        self.catalog.note_unnamed_files(self.place, record)


@dataclass(frozen=True)
class Collector:
    """Removes old files and records of one state."""

    folder: StateFolder
    catalog: Catalog
    limits: RetentionLimits

    def after_sync(self, source: str, now: datetime) -> None:
        """Remove old records, and old files of the feed and of one source, whose lock the caller holds.

        The sync has just verified metadata that a partner signed lately. So the clock is right, and records of the
        audit log are as old as they seem. Raises `StoreError`, `RefusedError`.
        """
        self._keep_history(now)
        self.records(now)
        if self.limits.audit is not None:
            self.catalog.shorten_audit(now - self.limits.audit, _SYNCD, now)
        self._feed(now)
        self._source(self.folder.source(source), source, now)
        self.leftovers(now)
        trim_cache(self.folder, self.catalog)

    def everything(self, now: datetime, *, dry_run: bool = False) -> Cleanup:
        """Remove all old records and files, except those of sources with a running sync.

        Raises `StoreError`, `RefusedError`.
        """
        if not dry_run:
            self._keep_history(now)
        records = self.records(now, dry_run=dry_run)
        feed, downloads, skipped = self._feed(now, dry_run=dry_run), FileCount(), []
        sources = Collected()
        for name in self._source_names():
            folder = self.folder.source(name)
            try:
                with lock(folder.lock, f"removing old files of {name}"):
                    collected, parts = self._source(folder, name, now, dry_run=dry_run)
            except RefusedError:
                skipped.append(name)
                continue
            sources, downloads = sources + collected, downloads + parts
        return Cleanup(feed, sources, downloads, records, tuple(skipped), self._old_audit(now))

    def _old_audit(self, now: datetime) -> int:
        return 0 if self.limits.audit is None else self.catalog.old_audit(now - self.limits.audit).records

    def _keep_history(self, now: datetime) -> None:
        """Bring the history up to date first: it still needs some old files. If that fails, they are not removed."""
        with suppress(StoreError, RefusedError):
            keep(self.folder, self.catalog, now)

    def leftovers(self, now: datetime) -> None:
        """Remove the files of sources without a followed list, which no sync of theirs will do.

        A source with a running sync is skipped, because its first list may be on its way. Raises `StoreError`.
        """
        followed = {origin.source for origin in self.catalog.origins()}
        followed |= {hold.source for hold in self.catalog.holds()}
        for name in self._source_names():
            if name not in followed:
                folder = self.folder.source(name)
                with suppress(RefusedError), lock(folder.lock, f"removing old files of {name}"):
                    self._source(folder, name, now)

    def records(self, now: datetime, *, dry_run: bool = False) -> dict[str, RecordCount]:
        """Forget records of the catalog beyond the limits; the audit log is left alone. Raises `StoreError`."""
        work: Callable[..., RecordCount] = self.catalog.count_old if dry_run else self.catalog.forget
        total: dict[str, RecordCount] = {}
        for old in self.catalog.old_records(self.limits, now):
            total[old.kind] = total.get(old.kind, RecordCount()) + work(old)
        if not dry_run:
            self.catalog.prune_sizes(now - KEPT_SIZES)
        return total

    def ledger(self, source: str | None = None) -> UnnamedLedger:
        """Return the ledger of unnamed files of a source, or of the feed: in the catalog if others collect too."""
        folder = self.folder.feed if source is None else self.folder.source(source)
        if not folder.store.shared:
            return FileLedger(folder)
        return _CatalogLedger(self.catalog, "feed" if source is None else f"origins/{source}")

    def _source_names(self) -> list[str]:
        here = {path.name for path in self.folder.root.glob("sources/*")}
        return sorted(here | ({origin.source for origin in self.catalog.origins()} if self.folder.bucket else set()))

    def _feed(self, now: datetime, *, dry_run: bool = False) -> Collected:
        return author.collect_garbage(
            self.folder.feed,
            now,
            _PATIENCE,
            limits=self.limits,
            ledger=self.ledger(),
            also=lambda: {*self._needed_of_feed(now), *(() if dry_run else self._needed_of_history(None))},
            dry_run=dry_run,
        )

    def _source(
        self, folder: FeedFolder, name: str, now: datetime, *, dry_run: bool = False
    ) -> tuple[Collected, FileCount]:
        # A release or another act of an operator holds the feed's lock only, and may need an old file again.
        with lock(self.folder.feed.lock, f"removing old files of {name}", _PATIENCE):
            own = self._needed_of_source(name)
            needed = own.union(() if dry_run else self._needed_of_history(name))
            collected = garbage.collect(
                folder, needed, now, self.limits.grace, ledger=self.ledger(name), dry_run=dry_run
            )
        if not dry_run:
            remove_indexes(folder.root, {PurePath(path).stem for path in own})
        return collected, garbage.remove_old_parts(folder.downloads, now, dry_run=dry_run)

    def _needed_of_source(self, source: str) -> set[str]:
        """Return the files that a source's folder needs, also for a list whose first version is held."""
        lists = {origin.list for origin in self.catalog.origins() if origin.source == source}
        lists |= {ListName(hold.list.partition(".")[2]) for hold in self.catalog.holds() if hold.source == source}
        states = [read_state(self.folder, self.catalog, source, name) for name in lists]
        named = {layout.segment_path(state.own_name, ref.sha256) for state in states for ref in named_segments(state)}
        return named.union(*(needed_answers(self.catalog, state) for state in states), self._kept_answers(source))

    def _kept_answers(self, source: str) -> set[str]:
        return {layout.answers_path(kept.list, kept.sha256) for kept in self.catalog.answers(source)}

    def _needed_of_history(self, source: str | None) -> Iterator[str]:
        """Yield files of a source, or of the feed for None, that the history could not link to yet.

        A dry run does not ask: the run that follows links them first.
        """
        for record, ref in unlinked(self.folder, self.catalog):
            if source is None:
                yield layout.segment_path(record.list, ref.sha256)
            elif source == record.source:
                yield layout.segment_path(ListName(record.list.removeprefix(f"{source}.")), ref.sha256)

    def _needed_of_feed(self, now: datetime) -> Iterator[str]:
        """Yield files of older versions that the feed's own chain of manifests does not name as needed."""
        for name, version in self.catalog.needed_versions(now - self.limits.matchers):
            yield from _of_version(self.catalog, name, version).stack
        for head in self.catalog.heads():
            yield from self._older_deltas(head.list, head.version)
            if self.limits.evidence > self.limits.published_versions:
                yield from self._older_evidence(head.list)

    def _older_deltas(self, name: ListName, version: int | None) -> Iterator[str]:
        """Yield the deltas that lead to the newest versions: each manifest names those of the last 64."""
        left = self.limits.deltas
        while version is not None and left > 0:
            needs = _of_version(self.catalog, name, version)
            yield from (path for step in needs.deltas[:left] for path in step)
            left, version = left - max(1, len(needs.deltas)), needs.before_deltas

    def _older_evidence(self, name: ListName) -> Iterator[str]:
        for summary in self.catalog.history(name, self.limits.evidence):
            yield from _of_version(self.catalog, name, summary.version).evidence


@dataclass(frozen=True)
class _Needs:
    """The files of one version, by what needs them. All empty if its record was forgotten."""

    stack: tuple[str, ...] = ()
    """the manifest too"""
    evidence: tuple[str, ...] = ()
    deltas: tuple[tuple[str, ...], ...] = ()
    """of each recent version, the newest first"""
    before_deltas: int | None = None
    """the version from which the oldest of them leads; without deltas, the previous version"""


def _of_version(catalog: Catalog, name: ListName, version: int) -> _Needs:
    try:
        return _recorded(catalog, name, version)
    except KeyError:
        return _Needs()


@lru_cache(_REMEMBERED)
def _recorded(catalog: Catalog, name: ListName, version: int) -> _Needs:
    """Read the needs of a version from its record. Raises `KeyError`, which is not cached: it may yet be published."""
    record = catalog.version(name, version)
    if record is None:
        raise KeyError(version)
    return _needs(manifests.parse(record.manifest), record.manifest_sha256)


def _needs(manifest: Manifest, sha256: str) -> _Needs:
    evidence = manifest.origin.evidence if manifest.origin else None
    before = manifest.recent[0].previous if manifest.recent else manifest.previous
    return _Needs(
        stack=tuple(garbage.named_by_version(manifest, sha256)),
        evidence=(layout.evidence_path(manifest.list, evidence.sha256),) if evidence else (),
        deltas=tuple(_paths(manifest.list, step.segments) for step in reversed(manifest.recent)),
        before_deltas=before.version if before else None,
    )


def _paths(name: ListName, refs: Iterable[manifests.SegmentRef]) -> tuple[str, ...]:
    return tuple(layout.segment_path(name, ref.sha256) for ref in refs)
