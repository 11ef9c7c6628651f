"""Publishing a list from files: what a partner does, and the gateway for partners that sign nothing.

The feed folder is all the state there is; a journal in its private corner is the commit point.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError, SyncdError, UsageError
from syncd.feed import compact as compaction
from syncd.feed import garbage, layout, publish
from syncd.feed.draft import Draft, Edit
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.feed.garbage import Collected
from syncd.feed.publish import Current
from syncd.feed.signed import load_repository
from syncd.feed.snapshot import Snapshot, open_snapshot
from syncd.files import install_bytes, install_file, lock, make_folder, read_bytes
from syncd.format.manifest import Manifest, now_in_seconds
from syncd.model import Algorithm, Counts, ListName
from syncd.trust import keys
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository, create
from syncd.trust.values import Freshness, lifetime

Progress = Callable[[int, int], None]
"""Told the bytes read so far, and of how many."""

ROOT_FILE: Final = "root.json"
_CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Published:
    """What came of a publication. ``version`` is that in force; ``changed`` says whether it is a new one."""

    list: ListName
    version: int
    changed: bool
    rows: int
    counts: Mapping[Algorithm, Counts]
    skipped: int = 0
    """bad rows written aside"""
    needless: int = 0
    """rows that asked for nothing: adds of what is there, removals of what is not"""


def keys_folder(feed: Path) -> Path:
    """Where the online keys of a feed lie by default: beside it, so that no web server serves them."""
    return feed.parent / f"{feed.name}.keys"


def init(feed: Path, offline_keys: Path, online_keys: Path, *, count: int, threshold: int, now: datetime) -> Path:
    """Make a feed folder and its keys; returns the root to hand out. Existing offline keys are used.

    What was killed when only ``root.json`` was missing is finished. Raises `UsageError`, `RefusedError`, `StoreError`.
    """
    folder = FeedFolder(feed)
    keep_apart(feed, offline_keys, online_keys)
    if offline_keys.resolve() == online_keys.resolve():
        raise UsageError(
            f"{offline_keys} is given for offline and online keys",
            hint="offline keys leave this machine, online keys stay: name two folders",
        )
    with lock(folder.lock, "feed init"):
        root = folder.path(ROOT_FILE)
        if root.exists() or _signed_again(folder):
            raise UsageError(f"{feed} is a feed already", hint="`syncd feed status` shows it; nothing was changed")
        if not 1 <= threshold <= count:
            raise UsageError(f"a threshold of {threshold} with {count} keys", hint="give 1 <= threshold <= keys")
        if not folder.path(layout.TIMESTAMP).exists():
            update = create(_offline(offline_keys, count), keys.make_online_keys(online_keys), threshold, now)
            publish.install(folder, publish.metadata_files(update.files))
        install_bytes(root, read_bytes(folder.path(f"{layout.METADATA}/1.root.json"), MAX_METADATA_BYTES))
    return root


def _signed_again(folder: FeedFolder) -> bool:
    return folder.path(layout.TIMESTAMP).exists() and not is_untouched(folder)


def is_untouched(folder: FeedFolder) -> bool:
    """Whether nothing was signed since `init` made the feed. Raises `StoreError`."""
    return load_repository(folder).versions["timestamp"] == 1


def keep_apart(feed: Path, *others: Path) -> None:
    """Refuse, with `UsageError`, what is no list for readers and would lie where they are served from."""
    for other in others:
        if other.resolve().is_relative_to(feed.resolve()):
            raise UsageError(f"{other} lies in the feed that is served", hint="name a folder outside of it")


def _offline(folder: Path, count: int) -> Signers:
    existing = keys.load_signers(folder, keys.OFFLINE_ROLES) if folder.is_dir() else {}
    if all(existing.get(role) for role in keys.OFFLINE_ROLES):
        return existing
    return keys.make_offline_keys(make_folder(folder, 0o700), count)


def publish_edit(
    folder: FeedFolder, name: ListName, edit: Edit, signers: Signers, now: datetime, progress: Progress | None = None
) -> Published:
    """Publish the next version of a list; where the content is the same, only sign that it still is.

    Afterwards the stack is folded where that is due, under a version of its own, and old files are removed.
    Raises `RowError` (nothing was published), `UsageError`, `RefusedError`, `StoreError`.
    """
    if edit.skip_bad is not None:
        keep_apart(folder.root, edit.skip_bad)
    try:
        with lock(folder.lock, f"feed publish {name}"):
            try:
                published = _publish(folder, name, edit, signers, now, progress)
            finally:
                folder.remove_staging()  # the list in the clear, and as large
            if published.changed:
                _compact(folder, name, signers, now)
                _collect_garbage(folder, now)
        return published
    except SyncdError as error:
        error.serving = error.serving or _serving(folder, name)
        raise


def _serving(folder: FeedFolder, name: ListName) -> str:
    try:
        target = load_repository(folder).targets().get(layout.target_name(name))
    except SyncdError:
        return f"{folder.root} as it was published last"
    return f"{name} version {target.version}" if target else f"nothing of {name} yet"


def _publish(
    folder: FeedFolder, name: ListName, edit: Edit, signers: Signers, now: datetime, progress: Progress | None
) -> Published:
    publish.recover(folder)
    repository = load_repository(folder)
    check_clock(repository, now)
    current = open_list(folder, repository, name)
    draft = Draft(folder.make_staging(), current)
    skipped = draft.load(edit, progress)
    change = draft.change(name)
    if change is None:
        version, rows = (current.manifest.version, current.manifest.rows) if current else (0, 0)
        if current is None:
            raise UsageError(f"{name} would be an empty list", hint="the first version needs at least one row")
        update = repository.resign(_signed_now(repository, now), signers, now)
        commit(folder, publish.metadata_files(update.files))
        return Published(name, version, False, rows, {}, skipped, draft.needless)
    for path, ref in draft.written:
        target = folder.segment_path(name, ref)
        if not target.exists():
            install_file(path, target)
    basis = Current(current.manifest, current.sha256) if current else None
    manifest = publish.next_manifest(basis, change, created=now, min_root=repository.versions["root"])
    freshness = {**_signed_now(repository, now), name: Freshness(now_in_seconds(now), manifest.version)}
    commit(folder, publish.sign(repository, [manifest], freshness, signers, now))
    return Published(name, manifest.version, True, manifest.rows, change.counts, skipped, draft.needless)


def compact(
    folder: FeedFolder, name: ListName, signers: Signers, now: datetime, *, everything: bool = False
) -> Manifest | None:
    """Publish a version of a list with a shorter stack and the same end state; None where nothing is due.

    Raises `UsageError` where there is no such list, `RefusedError`, `StoreError`.
    """
    with lock(folder.lock, f"feed compact {name}"):
        return _compact(folder, name, signers, now, everything=everything)


def _compact(
    folder: FeedFolder, name: ListName, signers: Signers, now: datetime, *, everything: bool = False
) -> Manifest | None:
    publish.recover(folder)
    repository = load_repository(folder)
    check_clock(repository, now)
    current = open_list(folder, repository, name)
    if current is None:
        raise UsageError(f"{folder.root} has no list {name}", hint="`syncd feed status` names those there are")
    change = compaction.compact(folder, current.manifest, everything=everything)
    if change is None:
        return None
    basis = Current(current.manifest, current.sha256)
    manifest = publish.next_manifest(basis, change, created=now, min_root=repository.versions["root"])
    freshness = {**_signed_now(repository, now), name: Freshness(now_in_seconds(now), manifest.version)}
    commit(folder, publish.sign(repository, [manifest], freshness, signers, now))
    return manifest


def collect_garbage(folder: FeedFolder, now: datetime, patience: float = 0.0) -> Collected:
    """Remove what no kept version names. Raises `RefusedError` where the folder is not free within ``patience``
    seconds, and `StoreError`."""
    with lock(folder.lock, "removing old files", patience):
        return _collect_garbage(folder, now)


def _collect_garbage(folder: FeedFolder, now: datetime) -> Collected:
    repository = load_repository(folder)
    heads = {
        name: target.sha256
        for target in repository.targets().values()
        if (name := layout.list_of(target.name)) is not None
    }
    metadata = [f"{version}.{role}.json" for role, version in repository.versions.items()]
    roots = [f"{version}.root.json" for version in range(1, repository.versions["root"] + 1)]
    named = garbage.named_by_feed(folder, heads, [*metadata, *roots, "timestamp.json"])
    return garbage.collect(folder, named, now)


def check_clock(repository: Repository, now: datetime, *roles: str) -> None:
    """What a clock that was set back signs is expired at once, and older than what readers hold.

    ``roles``: whose last signature ``now`` must not be before; default: the timestamp's. Raises `RefusedError`.
    """
    expires = repository.expiries()
    last = max(expires[role] - lifetime(role) for role in roles or ("timestamp",))
    if now < last - _CLOCK_TOLERANCE:
        renew = (
            "; where it is right, and ran ahead then: `syncd feed renew`" if "timestamp" in roles or not roles else ""
        )
        raise RefusedError(
            f"the local clock runs backwards: it says {now:%Y-%m-%d %H:%M} UTC, and the feed was last signed at "
            f"{last:%Y-%m-%d %H:%M} UTC",
            hint=f"set the clock of this machine{renew}",
        )


def commit(folder: FeedFolder, files: publish.SignedFiles) -> None:
    """Keep the signed bytes, then make them visible. Call with the folder's lock held."""
    publish.write_journal(folder, files)
    publish.install(folder, files)
    publish.clear_journal(folder)


def open_list(folder: FeedFolder, repository: Repository, name: ListName) -> Snapshot | None:
    """Open the version of a list that is in force, or None."""
    target = repository.targets().get(layout.target_name(name))
    return open_snapshot(folder, name, target.sha256) if target else None


def _signed_now(repository: Repository, now: datetime) -> dict[str, Freshness]:
    """A feed with no upstream vouches for all its lists whenever it signs."""
    lists = {layout.list_of(target.name): target.version for target in repository.targets().values()}
    return {name: Freshness(now_in_seconds(now), version) for name, version in lists.items() if name}
