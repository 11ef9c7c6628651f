"""Look-ups in what an operator publishes, now or in a version that is still kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from syncd.catalog.catalog import Catalog
from syncd.catalog.records import VersionRecord
from syncd.errors import RetiredList, UsageError, nearest
from syncd.feed.folder import FeedFolder
from syncd.feed.snapshot import Snapshot, open_stacks
from syncd.format import manifest as manifests
from syncd.model import Digest, Hit, ListName
from syncd.units import CLOCK_TOLERANCE, day, ranges

_LOOKED_AT: Final = 200
"""Newest versions that are looked at to say which of them can be asked."""


@dataclass(frozen=True)
class VersionChoice:
    """The lists to search (() for all), and which version of them: of a number, in force at a time, or the newest."""

    lists: tuple[ListName, ...] = ()
    version: int | None = None
    at: datetime | None = None


def chosen_versions(catalog: Catalog, feed: FeedFolder, choice: VersionChoice, now: datetime) -> list[VersionRecord]:
    """Return the version of each list that ``choice`` means, without lists that were retired or not published then.

    Raises `UsageError` if there is no such list or version, or its files are no longer kept, `RetiredList` if a list
    that ``choice`` names is retired, `StoreError`.
    """
    if choice.at is not None and choice.at > now + CLOCK_TOLERANCE:
        raise UsageError("the time to answer for lies in the future", hint="give --at a time that has passed")
    published = {head.list: head.version for head in catalog.heads()}
    _check_known(choice.lists, published)
    lists = choice.lists or tuple(published)
    if choice.version is not None and len(lists) != 1:
        raise UsageError(
            "--version needs one list: each list counts its own versions", hint=f"--list, one of {', '.join(lists)}"
        )
    found = []
    for name in lists:
        record = _version(catalog, feed, name, choice, published[name])
        if record is not None and _is_searched(record, named=name in choice.lists):
            found.append(record)
    return found


def _check_known(lists: Iterable[ListName], published: Iterable[ListName]) -> None:
    for name in lists:
        if name not in published:
            raise UsageError(f"there is no list {name}", hint=nearest(name, published, "list"))


def _version(
    catalog: Catalog, feed: FeedFolder, name: ListName, choice: VersionChoice, newest: int
) -> VersionRecord | None:
    """Return the chosen version of one list; None if the list was not published yet."""
    if choice.at is not None:
        record = catalog.version_at(name, choice.at)
        if record is None and _began_later(catalog, feed, name, choice.at):
            return None
        if record is not None and _successor_forgotten(catalog, record):
            raise UsageError(
                f"the version of {name} that was in force at {day(choice.at)} UTC is no longer kept",
                hint=_askable(catalog, feed, name),
            )
    else:
        record = catalog.version(name, choice.version or newest)
    if record is None:
        raise UsageError(f"{name} has no version {choice.version or newest}", hint=_askable(catalog, feed, name))
    stack = manifests.parse(record.manifest).stack
    if missing := feed.missing(name, stack):
        raise UsageError(
            f"{len(missing)} of {len(stack)} files of {name} version {record.version} are no longer kept",
            hint=_askable(catalog, feed, name),
        )
    return record


def _successor_forgotten(catalog: Catalog, record: VersionRecord) -> bool:
    """Return True if the version after a kept one was forgotten, so that nobody knows until when it was in force.

    A version that a matcher has loaded is kept longer than those around it.
    """
    if record.version >= catalog.first_kept(record.list):
        return False
    following = catalog.version_after(record.list, record.version)
    previous = manifests.parse(following.manifest).previous if following else None
    return following is not None and (previous is None or previous.version != record.version)


def _began_later(catalog: Catalog, feed: FeedFolder, name: ListName, at: datetime) -> bool:
    """Return True if a list was first published after ``at``. Raises `UsageError` if that is not known any more."""
    oldest = catalog.oldest_version(name)
    if oldest is not None and manifests.parse(oldest.manifest).previous is None:
        return True
    since = f"{name} before version {oldest.version} ({day(oldest.created_at)} UTC)" if oldest else name
    raise UsageError(
        f"nothing is kept of {since}, so that it is not known what was in force at {day(at)} UTC",
        hint=_askable(catalog, feed, name),
    )


def _askable(catalog: Catalog, feed: FeedFolder, name: ListName) -> str:
    """Return the hint that names the versions whose files are still here."""
    kept = [
        record.version
        for record in catalog.versions(name, _LOOKED_AT)
        if not feed.missing(name, manifests.parse(record.manifest).stack)
    ]
    return f"versions of {name} that can be asked: {ranges(kept, ' to ') or 'none'}"


def _is_searched(record: VersionRecord, *, named: bool) -> bool:
    """Return False for a retired list; raise `RetiredList` if it was ``named``."""
    retired = manifests.parse(record.manifest).retired
    if retired and named:
        raise RetiredList(record.list, retired.since)
    return retired is None


def opened(feed: FeedFolder, versions: Iterable[VersionRecord]) -> list[Snapshot]:
    """Map the segments of each version. Raises `StoreError`, `SegmentError`."""
    found = []
    for record in versions:
        manifest = manifests.parse(record.manifest)
        found.append(Snapshot(manifest, record.manifest_sha256, open_stacks(feed, record.list, manifest.stack)))
    return found


def find(snapshots: Sequence[Snapshot], digests: Sequence[Digest]) -> list[tuple[Hit, ...] | None]:
    """Return the entries in force that support each digest; None if no list holds digests of its algorithm.

    Raises `UsageError`, which names a digest by its place only, if its width is not that of the lists.
    """
    return [_hits(snapshots, digest, number) for number, digest in enumerate(digests, 1)]


def _hits(snapshots: Sequence[Snapshot], digest: Digest, number: int) -> tuple[Hit, ...] | None:
    widths = {
        stack.width
        for snapshot in snapshots
        if (stack := snapshot.stacks.get(digest.algorithm)) is not None and stack.width is not None
    }
    if not widths:
        return None
    if len(digest.value) not in widths:
        wanted = " or ".join(map(str, sorted(widths)))
        raise UsageError(
            f"digest {number}: a {digest.algorithm} digest has {wanted} bytes, not {len(digest.value)}",
            hint="check whether it is complete",
        )
    return tuple(_entries(snapshots, digest))


def _entries(snapshots: Iterable[Snapshot], digest: Digest) -> Iterator[Hit]:
    for snapshot in snapshots:
        stack = snapshot.stacks.get(digest.algorithm)
        if stack is not None and stack.width == len(digest.value):
            for entry, label in stack.entries_of(digest.value):
                yield Hit(snapshot.manifest.list, snapshot.manifest.version, entry, label)
