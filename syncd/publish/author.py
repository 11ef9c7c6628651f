"""Publishing a list from batches of rows: what a partner does.

The feed folder is all the state there is: its ledger is a journal in the private corner.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import RefusedError, SyncdError, UsageError, nearest
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.garbage import Collected
from syncd.feed.signed import load_repository
from syncd.feed.snapshot import Snapshot, open_snapshot
from syncd.files import lock, make_folder
from syncd.format.batch import Batch
from syncd.format.manifest import Manifest
from syncd.model import Algorithm, Counts, ListName
from syncd.publish import publication
from syncd.publish.change import ListChange, metadata_files
from syncd.publish.compact import fold_due
from syncd.publish.draft import ListDraft
from syncd.publish.journal import Journal
from syncd.publish.publication import FeedPublisher, Proposal, Start
from syncd.trust import keys
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository, create
from syncd.trust.values import lifetime
from syncd.units import brief, clock_is_behind

MakeBatch = Callable[[Path], Batch]
"""Makes what is to be published, with files in the scratch folder given; called once the feed's lock is held."""

ROOT_FILE: Final = "root.json"
_PATIENCE: Final = 60.0
"""Seconds to wait for another process's short work, once the new version is published."""
_SHOWN: Final = 500
"""Characters of the names of a feed's lists, of which there may be hundreds."""


@dataclass(frozen=True)
class Published:
    """What came of a publication. ``version`` is that in force; ``changed`` says whether it is a new one."""

    list: ListName
    version: int
    changed: bool
    rows: int
    counts: Mapping[Algorithm, Counts]
    skipped: int = 0
    """bad rows set aside while the batch was made"""
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
        if folder.store.length(ROOT_FILE) is not None or _signed_again(folder):
            raise UsageError(f"{feed} is a feed already", hint="`syncd feed status` shows it; nothing was changed")
        if not 1 <= threshold <= count:
            raise UsageError(f"a threshold of {threshold} with {count} keys", hint="give 1 <= threshold <= keys")
        if folder.store.length(layout.TIMESTAMP) is None:
            update = create(_offline(offline_keys, count), keys.make_online_keys(online_keys), threshold, now)
            publication.install(folder, metadata_files(update.files))
        folder.store.put(ROOT_FILE, folder.metadata("1.root.json") or b"")
    return folder.path(ROOT_FILE)


def _signed_again(folder: FeedFolder) -> bool:
    return folder.store.length(layout.TIMESTAMP) is not None and not is_untouched(folder)


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


def publisher(folder: FeedFolder, signers: Signers, patience: float = 0.0) -> FeedPublisher[None]:
    """Return what publishes a partner's feed."""
    return FeedPublisher(folder, Journal(folder), signers, patience=patience)


def publish_batch(
    folder: FeedFolder,
    name: ListName,
    make_batch: MakeBatch,
    signers: Signers,
    now: datetime,
    *,
    new: bool | None = None,
) -> Published:
    """Publish the next version of a list; if the content is the same, only sign that it still is.

    ``new``: True if this must be the first version of the list, False if it must not be (unless the feed has no list
    yet), None if it may be. Afterwards the stack is folded if that is due, under a version of its own, and old files
    are removed. Raises what ``make_batch`` does (nothing was published), `UsageError`, `RefusedError`, `StoreError`.
    """
    try:
        asked = _Request(folder, name, make_batch, now, new)
        manifests = publisher(folder, signers).publish(f"feed publish {name}", asked.propose, now)
        published = asked.published(manifests or ())
        if published.changed:
            compact(folder, name, signers, now)
            collect_garbage(folder, now, _PATIENCE)
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


@dataclass
class _Request:
    """What a partner asks to publish, and what making it came to."""

    folder: FeedFolder
    name: ListName
    make_batch: MakeBatch
    now: datetime
    new: bool | None
    current: Snapshot | None = None
    counts: Mapping[Algorithm, Counts] = field(default_factory=dict)
    skipped: int = 0
    needless: int = 0

    def propose(self, start: Start[None]) -> Proposal[None]:
        check_clock(start.repository, self.now)
        _check_name(self.folder, start.repository, self.name, self.new)
        self.current = open_list(self.folder, start.repository, self.name)
        try:
            return self._draft()
        finally:
            self.folder.remove_staging()  # the list in the clear, and as large

    def _draft(self) -> Proposal[None]:
        staging = self.folder.make_staging()
        batch, draft = self.make_batch(staging), ListDraft(staging, self.current)
        draft.apply(batch)
        self.skipped, self.needless = batch.skipped, draft.needless
        change = draft.change(self.name)
        if change is None:
            if self.current is None:
                raise UsageError(f"{self.name} would be an empty list", hint="the first version needs at least one row")
            return Proposal("resign")
        self.counts = change.counts
        for path, ref in draft.written:
            self.folder.store.adopt(path, layout.segment_path(self.name, ref.sha256))
        return Proposal("publish", (change,))

    def published(self, manifests: Sequence[Manifest]) -> Published:
        """What came of it; ``manifests``: the new versions."""
        if manifests:
            (new,) = manifests
            return Published(self.name, new.version, True, new.rows, self.counts, self.skipped, self.needless)
        version, rows = (self.current.manifest.version, self.current.manifest.rows) if self.current else (0, 0)
        return Published(self.name, version, False, rows, {}, self.skipped, self.needless)


def _check_name(folder: FeedFolder, repository: Repository, name: ListName, new: bool | None) -> None:
    """A list that was made by a slip of the finger would stay, and nobody would follow it. Raises `UsageError`."""
    names = sorted(filter(None, map(layout.list_of, repository.targets())))
    if new and name in names:
        raise UsageError(
            f"{folder.root} has a list {name} already", hint="--new is for its first version alone: leave it out"
        )
    if new is False and names and name not in names:
        meant = nearest(name, names, "list")
        meant = f"{meant} if not," if meant.endswith("?") else f"{brief(meant, _SHOWN)};"
        raise UsageError(f"{folder.root} has no list {name}", hint=f"{meant} --new makes the first version of a list")


def compact(
    folder: FeedFolder, name: ListName, signers: Signers, now: datetime, *, everything: bool = False
) -> Manifest | None:
    """Publish a version of a list with a shorter stack and the same end state; None if nothing is due.

    Folding takes place outside the feed's lock. Raises `UsageError` if there is no such list, `RefusedError`,
    `StoreError`.
    """
    press = publisher(folder, signers, _PATIENCE)
    press.finish()
    current = press.ledger.current(load_repository(folder), name)
    if current is None:
        raise UsageError(f"{folder.root} has no list {name}", hint="`syncd feed status` names those there are")
    folded = fold_due(folder, current.manifest, everything=everything)
    if not folded:
        return None

    def propose(start: Start[None]) -> Proposal[None] | None:
        check_clock(start.repository, now)
        newest = start.current(name)
        change = folded.change_of(newest.manifest) if newest else None
        return Proposal("compact", (change,)) if change else None

    manifests = press.publish(f"feed compact {name}", propose, now)
    return manifests[0] if manifests else None


def retire(folder: FeedFolder, name: ListName, signers: Signers, now: datetime) -> Manifest:
    """End a list: its next version is retired and empty. Publishing to it again undoes that.

    Raises `UsageError` if there is no such list, `RefusedError` if it is retired already, `StoreError`.
    """

    def propose(start: Start[None]) -> Proposal[None]:
        check_clock(start.repository, now)
        current = start.current(name)
        if current is None:
            names = sorted(filter(None, map(layout.list_of, start.repository.targets())))
            raise UsageError(f"{folder.root} has no list {name}", hint=brief(nearest(name, names, "list"), _SHOWN))
        if current.manifest.retired is not None:
            raise RefusedError(
                f"{name} was retired on {current.manifest.retired.since:%Y-%m-%d} already",
                hint=f"`syncd feed publish {folder.root} --list {name}` makes it a list again; nothing was changed",
            )
        return Proposal("retire", (ListChange(name, (), {}, {}, (), retired=now),))

    try:
        (manifest,) = publisher(folder, signers).publish(f"feed retire {name}", propose, now) or ()
    except SyncdError as error:
        error.serving = error.serving or _serving(folder, name)
        raise
    collect_garbage(folder, now, _PATIENCE)
    return manifest


def collect_garbage(folder: FeedFolder, now: datetime, patience: float = 0.0) -> Collected:
    """Remove what no kept version names. Files are listed before the lock is taken.

    Raises `RefusedError` if the folder is not free within ``patience`` seconds, and `StoreError`.
    """
    files = tuple(folder.store.names())
    with lock(folder.lock, "removing old files", patience):
        folder.remove_stale_scratch()
        return garbage.collect(folder, _named(folder), now, files=files)


def _named(folder: FeedFolder) -> set[str]:
    """The files that a feed needs."""
    repository = load_repository(folder)
    heads = {
        name: target.sha256
        for target in repository.targets().values()
        if (name := layout.list_of(target.name)) is not None
    }
    metadata = [f"{version}.{role}.json" for role, version in repository.versions.items()]
    roots = [f"{version}.root.json" for version in range(1, repository.versions["root"] + 1)]
    return garbage.named_by_feed(folder, heads, [*metadata, *roots, "timestamp.json"])


def check_clock(repository: Repository, now: datetime, *roles: str) -> None:
    """Refuse to sign by a clock that was set back: what it signs is expired at once, and older than what readers hold.

    ``roles``: whose last signature ``now`` must not be before; default: the timestamp's, for which see
    `check_timestamp`. Raises `RefusedError`.
    """
    expires = repository.expiries()
    if not roles:
        check_timestamp(expires["timestamp"] - lifetime("timestamp"), now)
        return
    last = max(expires[role] - lifetime(role) for role in roles)
    if clock_is_behind(now - last):
        raise _runs_backwards(last, now, renewable="timestamp" in roles)


def check_timestamp(last: datetime, now: datetime) -> None:
    """Refuse to sign the timestamp by a clock that is long before its ``last`` signature. Raises `RefusedError`.

    Whether the clock ran ahead then or is behind now, nobody can tell. Up to half the timestamp's life it does not
    matter: what is signed is valid for the other half at least, and is signed again once the clock is right.
    """
    if last - now > lifetime("timestamp") / 2:
        raise _runs_backwards(last, now, renewable=True)


def _runs_backwards(last: datetime, now: datetime, *, renewable: bool) -> RefusedError:
    renew = "; where it is right, and ran ahead then: `syncd feed renew`" if renewable else ""
    return RefusedError(
        f"the local clock runs backwards: it says {now:%Y-%m-%d %H:%M} UTC, and the feed was last signed at "
        f"{last:%Y-%m-%d %H:%M} UTC",
        hint=f"set the clock of this machine{renew}",
    )


def open_list(folder: FeedFolder, repository: Repository, name: ListName) -> Snapshot | None:
    """Open the version of a list that is in force, or None."""
    target = repository.targets().get(layout.target_name(name))
    return open_snapshot(folder, name, target.sha256) if target else None
