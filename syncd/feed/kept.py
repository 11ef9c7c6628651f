"""The versions of a list that a feed still has: each manifest names the one before it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from syncd.errors import UsageError, nearest
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import DamagedError
from syncd.format.arrow import LOST
from syncd.format.manifest import Manifest
from syncd.model import Algorithm, Counts, ListName
from syncd.trust.repository import Repository
from syncd.units import brief, ranges

_MAX_SHOWN = 500
"""Characters of the names of a feed's lists that a message shows; there may be hundreds of lists."""


@dataclass(frozen=True)
class KeptVersion:
    """A version of a list whose manifest is still here."""

    manifest: Manifest
    sha256: str
    counts: Mapping[Algorithm, Counts] | None
    """what it changed, net if it states no delta; None if the version before it is needed for that and gone"""

    @property
    def version(self) -> int:
        """Its number."""
        return self.manifest.version


def lists_of(repository: Repository) -> dict[ListName, str]:
    """Return the lists of a feed by name, each with the SHA-256 of its manifest in force."""
    targets = repository.targets().values()
    return {name: target.sha256 for target in targets if (name := layout.list_of(target.name)) is not None}


def no_list(folder: FeedFolder, name: ListName, repository: Repository) -> UsageError:
    """Return the error for an unknown list."""
    names = sorted(lists_of(repository))
    return UsageError(f"{folder.root} has no list {name}", hint=brief(nearest(name, names, "list"), _MAX_SHOWN))


def kept_versions(folder: FeedFolder, name: ListName, sha256: str) -> Iterator[KeptVersion]:
    """Yield the version with a manifest hash and those before it, newest first, up to the first one that is gone.

    Raises `StoreError`, `MismatchError` and `ManifestError` for a manifest that is damaged.
    """
    manifest: Manifest | None = folder.manifest(name, sha256)
    while manifest is not None:
        before, previous = None, manifest.previous
        if previous and folder.store.length(layout.manifest_path(name, previous.sha256)) is not None:
            before = folder.manifest(name, previous.sha256)
        yield KeptVersion(manifest, sha256, _counts(manifest, before))
        manifest, sha256 = before, previous.sha256 if previous else ""


def _counts(manifest: Manifest, before: Manifest | None) -> Mapping[Algorithm, Counts] | None:
    if manifest.recent:
        return manifest.recent[-1].counts
    if before is None and manifest.previous is not None:
        return None
    growth = {algorithm: state.rows for algorithm, state in manifest.end_state.items()}
    for algorithm, state in before.end_state.items() if before else ():
        growth[algorithm] = growth.get(algorithm, 0) - state.rows
    return {algorithm: Counts(added=max(0, rows), removed=max(0, -rows)) for algorithm, rows in sorted(growth.items())}


def complete_versions(folder: FeedFolder, name: ListName, repository: Repository) -> Iterator[KeptVersion]:
    """Yield the versions of a list whose files are all here, newest first.

    Raises `UsageError` if there is no such list; otherwise as `kept_versions`.
    """
    for kept in _versions(folder, name, repository):
        if not folder.missing(name, kept.manifest.stack):
            yield kept


def _versions(folder: FeedFolder, name: ListName, repository: Repository) -> Iterator[KeptVersion]:
    head = lists_of(repository).get(name)
    if head is None:
        raise no_list(folder, name, repository)
    return kept_versions(folder, name, head)


def newest_version(folder: FeedFolder, name: ListName, repository: Repository) -> int:
    """Return the number of the published version of a list. Raises as `complete_versions`."""
    return next(iter(_versions(folder, name, repository))).version


def complete_version(folder: FeedFolder, name: ListName, repository: Repository, version: int) -> KeptVersion:
    """Return one version whose files are all here.

    Raises `UsageError` that names the versions there are if this one was removed, or never published; `StoreError` if
    it is the newest and files of it are missing; otherwise as `complete_versions`.
    """
    numbers, newest = [], 0
    for kept in _versions(folder, name, repository):
        newest = max(newest, kept.version)
        missing = folder.missing(name, kept.manifest.stack)
        if kept.version == version and not missing:
            return kept
        if missing and kept.version == version == newest:
            raise DamagedError(f"files of {name} version {version} are missing", hint=LOST)
        if not missing:
            numbers.append(kept.version)
    what = "was never published" if version > newest else "is no longer kept: its files were removed"
    raise UsageError(
        f"{name} version {version} {what}",
        hint=f"kept versions: {ranges(numbers, ' to ') or 'none'}; nothing was changed",
    )
