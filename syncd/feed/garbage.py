"""Garbage collection: removes files that nothing names any more, 24 hours after that was first noticed.

One mechanism for the feed, the origins and a pulled copy: the caller says which files are named, and a small record in
the private folder states since when each of the others was not. A reader that has mapped a file keeps it in any case;
the delay is for readers that have read a manifest and not yet opened its files.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from syncd.errors import FeedError, StoreError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import TEMPORARY_PREFIX, install_bytes, remove_temporaries, storage
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.retention import RetentionLimits

GRACE: Final = RetentionLimits.grace
EVERY: Final = timedelta(hours=1)
"""How often a sync removes old files: listing all files costs more than the publication of a small delta."""
KEPT_VERSIONS: Final = RetentionLimits.published_versions
"""Versions of a list whose files a feed without a configuration keeps, including the current one."""

_RECORD: Final = "unnamed.json"
_MAX_RECORD: Final = 64 << 20
_REMEMBERED: Final = 1024
"""Older versions whose needs are kept in memory, a few kilobytes each: reading their manifests again after each
publication would cost more than all the rest of it."""


@dataclass(frozen=True)
class FileCount:
    """A number of files, and their bytes."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: "FileCount") -> "FileCount":
        return FileCount(self.files + other.files, self.bytes + other.bytes)


@dataclass(frozen=True)
class Collected:
    """Removed files by kind (see `kind_of`), and unnamed files that are kept until the delay has passed."""

    removed: Mapping[str, FileCount] = field(default_factory=dict)
    waiting: Mapping[str, FileCount] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """The number of removed files."""
        return sum(count.files for count in self.removed.values())

    @property
    def bytes(self) -> int:
        """The size of the removed files."""
        return sum(count.bytes for count in self.removed.values())

    def __add__(self, other: "Collected") -> "Collected":
        return Collected(_total(self.removed, other.removed), _total(self.waiting, other.waiting))


def _total(some: Mapping[str, FileCount], more: Mapping[str, FileCount]) -> dict[str, FileCount]:
    none = FileCount()
    return {kind: some.get(kind, none) + more.get(kind, none) for kind in {**some, **more}}


def kind_of(path: str) -> str:
    """Return the kind of a file of `layout`, for reports."""
    if path.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
        return "temporary"
    if path.startswith(f"{layout.METADATA}/"):
        return "metadata"
    if layout.is_manifest(path):
        return "manifests"
    word = path.split("/")[-2]
    return word if word in {"segments", "evidence", "answers"} else "other"


class UnnamedLedger(Protocol):
    """Keeps one folder's record of unnamed files. Both methods raise `StoreError`."""

    def read(self) -> str:
        """Return the record; '' if there is none."""

    def write(self, record: str) -> None:
        """Replace the record."""


@dataclass(frozen=True)
class FileLedger:
    """The record as a file in the private part of the folder."""

    folder: FeedFolder

    def read(self) -> str:
        """See `UnnamedLedger.read`."""
        return (self.folder.read_private(_RECORD, _MAX_RECORD) or b"").decode(errors="replace")

    def write(self, record: str) -> None:
        """See `UnnamedLedger.write`."""
        install_bytes(self.folder.work / _RECORD, record.encode(), mode=0o600, durable=False)


def collect(
    folder: FeedFolder,
    named: Iterable[str],
    now: datetime,
    grace: timedelta = GRACE,
    *,
    files: Mapping[str, int | None] | None = None,
    ledger: UnnamedLedger | None = None,
    dry_run: bool = False,
) -> Collected:
    """Remove the files below ``v1`` and ``metadata`` that were not ``named`` for ``grace``. Call with the lock held.

    Half-written files of killed processes are removed at once: all writers hold the lock. ``named``: paths of `layout`.
    ``files``: the existing paths, if they were listed before the lock was taken, with their lengths if those are known.
    ``ledger``: keeps since when files are unnamed, by default a file beside them. Raises `StoreError`.

    Files go one by one, those unnamed for longest first, and the record is replaced last. A process that is killed in
    between has removed only files that nothing names; the next one continues. If other machines collect too, the record
    is replaced before anything is removed as well: it is refused to a process that no longer leads.
    """
    keep = set(named)
    ledger = ledger or FileLedger(folder)
    since = _parsed(ledger.read()).unnamed
    if not dry_run:
        remove_temporaries(folder.root)
        remove_temporaries(folder.work)
    existing = folder.store.names() if files is None else files
    unnamed = {path: since.get(path, now.timestamp()) for path in existing if path not in keep}
    unnamed |= {path: 0.0 for path in unnamed if kind_of(path) == "temporary"}
    if folder.store.shared and not dry_run:
        _write(ledger, now, unnamed)
    removed: dict[str, FileCount] = {}
    waiting: dict[str, FileCount] = {}
    for path, noticed in sorted(unnamed.items(), key=lambda item: (item[1], item[0])):
        length = folder.store.length(path) if (known := existing[path]) is None else known
        if length is None:  # gone since the files were listed
            del unnamed[path]
            continue
        old = now.timestamp() - noticed >= grace.total_seconds()
        counts, kind = removed if old else waiting, kind_of(path)
        counts[kind] = counts.get(kind, FileCount()) + FileCount(1, length)
        if old and not dry_run:
            folder.store.remove(path)
            del unnamed[path]
    if not dry_run:
        _write(ledger, now, unnamed)
    return Collected(removed, waiting)


def is_due(ledger: UnnamedLedger, now: datetime, every: timedelta = EVERY) -> bool:
    """Return True unless files were collected less than ``every`` ago. Raises `StoreError`."""
    return not timedelta() <= timedelta(seconds=now.timestamp() - _parsed(ledger.read()).collected) < every


@dataclass(frozen=True)
class _Unnamed:
    collected: float = 0.0
    """when files were last removed, in seconds since 1970"""
    unnamed: Mapping[str, float] = field(default_factory=dict)
    """since when each file was unnamed"""


def _write(ledger: UnnamedLedger, now: datetime, unnamed: Mapping[str, float]) -> None:
    ledger.write(json.dumps({"collected": now.timestamp(), "unnamed": unnamed}))


def _parsed(record: str) -> _Unnamed:
    """Parse a record. A damaged one, or one of an older syncd, costs a day, not a file."""
    try:
        stated = json.loads(record)
        return _Unnamed(float(stated["collected"]), {str(path): float(at) for path, at in stated["unnamed"].items()})
    except (ValueError, AttributeError, TypeError, KeyError):
        return _Unnamed()


def named_by_manifest(manifest: Manifest, sha256: str) -> Iterator[str]:
    """Yield the files that one version needs: manifest, evidence, stack, and the deltas that followers apply."""
    yield layout.manifest_path(manifest.list, sha256)
    if manifest.origin and manifest.origin.evidence:
        yield layout.evidence_path(manifest.list, manifest.origin.evidence.sha256)
    for ref in manifest.named_segments():
        yield layout.segment_path(manifest.list, ref.sha256)


def named_by_version(manifest: Manifest, sha256: str) -> Iterator[str]:
    """Yield the files to roll back to a version and to compare with it: manifest and stack."""
    yield layout.manifest_path(manifest.list, sha256)
    for ref in manifest.stack:
        yield layout.segment_path(manifest.list, ref.sha256)


def named_by_feed(
    folder: FeedFolder,
    heads: dict[ListName, str],
    metadata: Iterable[str],
    kept: int = KEPT_VERSIONS,
    evidence: int = KEPT_VERSIONS,
) -> set[str]:
    """Return the files that a feed, or a copy of one, needs: each list's newest versions, and its signed metadata.

    Each list can be rolled back over ``kept`` versions, with the evidence of ``evidence`` of them. If its manifest
    cannot be read, all its files are needed.
    """
    named = {f"{layout.METADATA}/{file}" for file in metadata}
    for name, head in heads.items():
        try:
            named |= set(named_by_manifest(folder.manifest(name, head), head))
            for position, version in enumerate(_newest(folder, name, head, kept)):
                named |= version.needs
                if position < evidence and version.evidence:
                    named.add(version.evidence)
        except (FeedError, StoreError):  # a damaged or missing manifest: the files it needs are what repairs the list
            named |= {path for path in folder.store.names() if path.startswith(f"v1/{name}/")}
    return named


@dataclass(frozen=True)
class _Version:
    needs: frozenset[str]
    """the files to roll back to it and to compare with it, without those to follow it"""
    evidence: str | None
    previous: str | None
    """the SHA-256 of the previous manifest"""


def _newest(folder: FeedFolder, name: ListName, sha256: str | None, kept: int) -> Iterator[_Version]:
    """Yield the newest ``kept`` versions of a list that are still here, newest first."""
    for _ in range(kept):
        if sha256 is None or folder.store.length(layout.manifest_path(name, sha256)) is None:
            return
        version = _version(folder, name, sha256)
        yield version
        sha256 = version.previous


@lru_cache(_REMEMBERED)
def _version(folder: FeedFolder, name: ListName, sha256: str) -> _Version:
    manifest = folder.manifest(name, sha256)
    evidence = manifest.origin.evidence if manifest.origin else None
    return _Version(
        frozenset(map(sys.intern, named_by_version(manifest, sha256))),
        layout.evidence_path(name, evidence.sha256) if evidence else None,
        manifest.previous.sha256 if manifest.previous else None,
    )


def remove_old_parts(
    folder: Path, now: datetime, age: timedelta = timedelta(days=7), *, dry_run: bool = False
) -> FileCount:
    """Remove partial downloads that were not continued for ``age``. Return how many."""
    removed = FileCount()
    if not folder.is_dir():
        return removed
    for path in folder.iterdir():
        with storage(path, "remove"):
            status = path.stat()
            if now - datetime.fromtimestamp(status.st_mtime, UTC) > age:
                removed += FileCount(1, status.st_size)
                if not dry_run:
                    path.unlink()
    return removed
