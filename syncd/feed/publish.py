"""From a change of a list to signed files, and from signed files to a feed that readers see.

Signing happens in memory. Whoever publishes then commits *the exact signed bytes* (the operator in the catalog, a
partner in a journal beside the feed): that is the commit point. Installing comes after it, and again after a crash.
No version number is ever signed twice.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import StoreError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import install_bytes, read_bytes, storage, sync_folder
from syncd.format import manifest as manifests
from syncd.format.manifest import RECENT, EndState, Fold, Manifest, ManifestRef, Origin, SegmentRef, Step
from syncd.model import Algorithm, Counts, ListName
from syncd.trust.keys import Signers
from syncd.trust.repository import Freshness, Repository, SignedTarget

SignedFiles = tuple[tuple[str, bytes], ...]
"""(path in the feed, exact bytes), in the order in which they are installed: the timestamp last."""

_JOURNAL: Final = "journal.json"
_MAX_JOURNAL: Final = 64 << 20


@dataclass(frozen=True)
class ListChange:
    """The next version of a list before it has a number: the delta, what it does, and what it leads to."""

    list: ListName
    segments: tuple[SegmentRef, ...]
    """the delta; empty where only the stack changes (compaction) or there was no version before"""
    counts: Mapping[Algorithm, Counts]
    end_state: Mapping[Algorithm, EndState]
    stack: tuple[SegmentRef, ...]
    """what to load, the delta included"""
    folds: tuple[Fold, ...] = ()
    """how segments of the stack were folded, where this change did so"""
    origin: Origin | None = None
    whole: bool = False
    """no delta leads here: followers load the stack"""


@dataclass(frozen=True)
class Current:
    """The version that a change applies to."""

    manifest: Manifest
    sha256: str

    @property
    def ref(self) -> ManifestRef:
        """Its version and hash."""
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)


def next_manifest(
    current: Current | None, change: ListChange, *, created: datetime, min_root: int, above: int = 0
) -> Manifest:
    """Return the manifest that follows ``current``. ``above``: a version number already given away. Pure."""
    before = current.manifest if current else None
    version = max(before.version if before else 0, above) + 1
    recent = before.recent if before and not change.whole else ()
    if current and not change.whole:
        step = Step(
            version=version,
            previous=current.ref,
            segments=change.segments,
            counts=dict(change.counts),
            end_state=dict(change.end_state),
        )
        recent = (*recent, step)[-RECENT:]
    return Manifest(
        list=change.list,
        version=version,
        previous=current.ref if current else None,
        created=manifests.now_in_seconds(created),
        min_root=min_root,
        end_state=dict(change.end_state),
        stack=change.stack,
        recent=recent,
        folds=_useful_folds((*(before.folds if before else ()), *change.folds), change.stack),
        origin=change.origin,
    )


def _useful_folds(folds: Sequence[Fold], stack: Sequence[SegmentRef]) -> tuple[Fold, ...]:
    """Those that lead, also through one another, to a segment of the stack."""
    wanted = {ref.sha256 for ref in stack}
    kept: list[Fold] = []
    for fold in reversed(folds):  # newest first: an output is an input only of later folds
        if fold.output in wanted:
            kept.insert(0, fold)
            wanted |= set(fold.inputs)
    used: set[str] = set()
    lasting: list[Fold] = []
    for fold in kept[-RECENT:]:
        used |= set(fold.inputs)
        if fold.output not in used:  # rows came and went: the same bytes again, which need no recipe
            lasting.append(fold)
    return tuple(lasting)


def sign(
    repository: Repository,
    published: Sequence[Manifest],
    freshness: Mapping[str, Freshness],
    signers: Signers,
    now: datetime,
    above: int = 0,
) -> SignedFiles:
    """Sign ``published`` manifests into the feed, in memory. The result is what the commit point keeps.

    ``above``: metadata versions already given away, as in `Repository.publish`.
    """
    contents = {manifest.list: manifests.encode(manifest) for manifest in published}
    targets = {}
    for manifest in published:
        content = contents[manifest.list]
        name = layout.target_name(manifest.list)
        targets[name] = SignedTarget(name, manifest.version, hashlib.sha256(content).hexdigest(), len(content))
    update = repository.publish(targets, freshness, signers, now, above)
    documents = [
        (layout.manifest_path(name, hashlib.sha256(content).hexdigest()), content) for name, content in contents.items()
    ]
    return (*documents, *metadata_files(update.files))


def metadata_files(files: Sequence[tuple[str, bytes]]) -> SignedFiles:
    """Signed metadata at its place in the feed."""
    return tuple((f"{layout.METADATA}/{name}", content) for name, content in files)


def install(folder: FeedFolder, files: SignedFiles) -> None:
    """Install committed files durably, in order. Doing it again changes nothing. Raises `StoreError`."""
    for path, content in files:
        if not _is_there(folder.path(path), content):
            install_bytes(folder.path(path), content)


def _is_there(path: Path, content: bytes) -> bool:
    """Evidence may be larger than what is read of other files, and a limit here would end every recovery."""
    with storage(path, "read"):
        if not path.exists() or path.stat().st_size != len(content):
            return False
    return read_bytes(path, len(content)) == content


def write_journal(folder: FeedFolder, files: SignedFiles) -> None:
    """The commit point of a feed without a catalog: keep the exact signed bytes before any is visible."""
    document = [[path, base64.b64encode(content).decode()] for path, content in files]
    install_bytes(folder.work / _JOURNAL, json.dumps(document).encode(), mode=0o600)


def has_journal(folder: FeedFolder) -> bool:
    """Whether a publication waits to be finished."""
    return (folder.work / _JOURNAL).exists()


def clear_journal(folder: FeedFolder) -> None:
    """Everything in the journal is installed."""
    with storage(folder.work, "write"):
        (folder.work / _JOURNAL).unlink(missing_ok=True)
        sync_folder(folder.work)


def recover(folder: FeedFolder) -> bool:
    """Finish what a crash interrupted after the commit point, by the same code path; False: there was nothing."""
    content = folder.read(f"{folder.work.name}/{_JOURNAL}", _MAX_JOURNAL)
    if content is None:
        return False
    try:
        files = tuple((str(path), base64.b64decode(encoded)) for path, encoded in json.loads(content))
    except (ValueError, TypeError):
        raise StoreError(
            f"the journal in {folder.work} is damaged", hint="restore the folder from a backup, then publish again"
        ) from None
    install(folder, files)
    clear_journal(folder)
    return True
