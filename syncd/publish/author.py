"""A partner's side: publishing a list from batches of rows.

The feed folder is the only state: its ledger is a journal in the folder's private part.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Final

from syncd.clock import ACCEPT_IN_FEED
from syncd.errors import RefusedError, SyncdError, UsageError, nearest
from syncd.feed import garbage, layout
from syncd.feed.folder import FeedFolder
from syncd.feed.garbage import Collected
from syncd.feed.kept import lists_of, no_list
from syncd.feed.locked import FeedLock
from syncd.feed.signed import load_repository
from syncd.feed.snapshot import Snapshot, open_snapshot
from syncd.files import remove_temporaries
from syncd.format.manifest import Manifest
from syncd.locks import lock
from syncd.model import ListName
from syncd.publish import installing
from syncd.publish.change import ListChange, metadata_files
from syncd.publish.compact import fold_due
from syncd.publish.first_keys import first_keys, forget_first_keys
from syncd.publish.journal import Journal
from syncd.publish.publication import FeedPublisher, Proposal
from syncd.publish.request import MakeBatch, Permit, Published, PublishRequest, permit_all
from syncd.retention import DEFAULTS, RetentionLimits
from syncd.store.store import Store
from syncd.trust.keys import Signers
from syncd.trust.repository import Repository, create
from syncd.trust.values import lifetime, signed_at
from syncd.units import brief, clock_is_behind

ROOT_FILE: Final = "root.json"
_PATIENCE: Final = 60.0
"""Seconds to wait for the feed's lock once the new version is published."""
_MAX_SHOWN: Final = 500
"""Characters of the names of a feed's lists that a message shows; there may be hundreds of lists."""


def keys_folder(feed: Path) -> Path:
    """Return the default folder of a feed's online keys: beside the feed, so that no web server serves them."""
    return feed.parent / f"{feed.name}.keys"


def init(
    feed: Path,
    offline_keys: Path,
    online_keys: Path,
    *,
    count: int,
    threshold: int,
    now: datetime,
    custodians: Sequence[Path] = (),
    store: Store | None = None,
) -> Path:
    """Create a feed and its keys; return the path of the root to hand out. Existing offline keys are used.

    ``custodians``: further folders of offline keys, one for each custodian except the first. Each custodian, also the
    first, then has one root key. ``store``: of its published files, as `FeedFolder` takes it.

    If an earlier call was killed before it wrote ``root.json``, finish it, with the keys that it made. Raises
    `UsageError`, `RefusedError`, `StoreError`.
    """
    folder = FeedFolder(feed, store)
    keep_apart(feed, offline_keys, *custodians, online_keys)
    if online_keys.resolve() in {folder.resolve() for folder in (offline_keys, *custodians)}:
        raise UsageError(
            f"{online_keys} is given for both the offline and the online keys",
            hint="name two folders: the offline keys should leave this machine, the online keys stay",
        )
    with lock(folder.lock, "feed init"):
        begun = folder.store.length(layout.TIMESTAMP) is not None
        if folder.store.length(ROOT_FILE) is not None:
            forget_first_keys(folder)  # a set-up that was killed may not have done so
        if folder.store.length(ROOT_FILE) is not None or (begun and not is_untouched(folder)):
            raise UsageError(
                f"{feed} is a feed already",
                hint=f"`syncd feed status {quote(str(feed))}` shows it; nothing was changed",
            )
        if not 1 <= threshold <= count:
            raise UsageError(
                f"a threshold of {threshold} is not possible: the number of keys is {count}",
                hint="give a threshold from 1 to the number of keys",
            )
        if not begun:
            folder.store.prove()
            offline, online = first_keys(folder, offline_keys, online_keys, count, custodians)
            update = create(offline, online, threshold, now)
            installing.install(folder, metadata_files(update.files))
        folder.store.put(ROOT_FILE, folder.metadata("1.root.json") or b"")
        forget_first_keys(folder)
        for place in (feed, folder.work):
            remove_temporaries(place)
    return folder.path(ROOT_FILE)


def is_untouched(folder: FeedFolder) -> bool:
    """Return True if nothing was signed since `init` created the feed. Raises `StoreError`."""
    return load_repository(folder).versions["timestamp"] == 1


def keep_apart(feed: Path, *others: Path) -> None:
    """Raise `UsageError` if one of ``others`` lies in the feed folder, from which web servers serve every file."""
    for other in others:
        if other.resolve().is_relative_to(feed.resolve()):
            raise UsageError(f"{other} is inside the feed folder, which is public", hint="name a folder outside of it")


def publisher(folder: FeedFolder, signers: Signers) -> FeedPublisher[None]:
    """Return the publisher of a partner's feed."""
    return FeedPublisher(folder, Journal(folder), signers)


def publish_batch(
    folder: FeedFolder,
    name: ListName,
    make_batch: MakeBatch,
    signers: Signers,
    now: datetime,
    *,
    new: bool | None = None,
    permit: Permit = permit_all,
    dry_run: bool = False,
) -> Published:
    """Publish the next version of a list; if its content has not changed, only sign the timestamp again.

    ``new``: True if this must be the first version of the list, False if it must not be (unless the feed has no list
    yet), None if it may be. ``permit`` is asked before anything is signed; without its permission, and in a dry run,
    nothing is. Afterwards, fold the stack if due, as a version of its own, and remove old files. Raises what
    ``make_batch`` raises (nothing was published), `UsageError`, `RefusedError`, `StoreError`.
    """
    core = publisher(folder, signers)
    request = PublishRequest(folder, name, make_batch, permit, dry_run)

    def act(held: FeedLock) -> Published:
        start = core.start(held)
        check_clock(start.repository, now)
        _check_name(folder, start.repository, name, new)
        proposal = request.propose(open_list(folder, start.repository, name))
        return request.published(core.publish(held, proposal, now, start) if proposal else ())

    try:
        published = core.with_lock(f"feed publish {name}", act)
        if published.changed:
            compact(folder, name, signers, now)
            collect_garbage(folder, now, _PATIENCE)
        return published
    except SyncdError as error:
        error.serving = error.serving or _serving(folder, name)
        raise


def sign(folder: FeedFolder, signers: Signers, now: datetime) -> datetime:
    """Sign the timestamp again without changing a list; return the time until which it is valid.

    Raises `UsageError` if the folder is not a feed, `RefusedError` if the key is missing, the clock was set back or the
    feed is in use, `StoreError`.
    """
    core = publisher(folder, signers)

    def act(held: FeedLock) -> datetime:
        start = core.start(held)
        check_clock(start.repository, now)
        core.publish(held, Proposal("resign"), now, start)
        return load_repository(folder).expiries()["timestamp"]

    return core.with_lock("feed sign", act, _PATIENCE)


def _serving(folder: FeedFolder, name: ListName) -> str:
    try:
        target = load_repository(folder).targets().get(layout.target_name(name))
    except SyncdError:
        return f"{folder.root} as last published"
    return f"{name} version {target.version}" if target else f"nothing of {name} yet"


def _check_name(folder: FeedFolder, repository: Repository, name: ListName, new: bool | None) -> None:
    """Raise `UsageError` if a typing error would create a list: it would stay, and nobody would follow it."""
    names = sorted(lists_of(repository))
    if new and name in names:
        raise UsageError(
            f"{folder.root} has a list {name} already", hint="leave out --new: it is only for a list's first version"
        )
    if new is False and names and name not in names:
        meant = nearest(name, names, "list")
        meant = f"{meant} if not," if meant.endswith("?") else f"{brief(meant, _MAX_SHOWN)};"
        raise UsageError(f"{folder.root} has no list {name}", hint=f"{meant} give --new to create a list")


def compact(
    folder: FeedFolder, name: ListName, signers: Signers, now: datetime, *, everything: bool = False
) -> Manifest | None:
    """Publish a version of a list with a shorter stack and the same end state; return None if nothing is due.

    Folds outside the feed's lock. Raises `UsageError` if there is no such list, `RefusedError`, `StoreError`.
    """
    core = publisher(folder, signers)
    core.finish(patience=_PATIENCE)
    current = core.ledger.current(load_repository(folder), name)
    if current is None:
        raise no_list(folder, name, load_repository(folder))
    folded = fold_due(folder, current.manifest, everything=everything)
    if not folded:
        return None

    def act(held: FeedLock) -> Manifest | None:
        start = core.start(held)
        check_clock(start.repository, now)
        newest = start.current(name)
        change = folded.change_of(newest.manifest) if newest else None
        return core.publish(held, Proposal("compact", (change,)), now, start)[0] if change else None

    return core.with_lock(f"feed compact {name}", act, _PATIENCE)


def retire(folder: FeedFolder, name: ListName, signers: Signers, now: datetime) -> Manifest:
    """End a list: its next version is retired and empty. Publishing to it again undoes that.

    Raises `UsageError` if there is no such list, `RefusedError` if it is retired already, `StoreError`.
    """

    core = publisher(folder, signers)

    def act(held: FeedLock) -> Manifest:
        start = core.start(held)
        check_clock(start.repository, now)
        current = start.current(name)
        if current is None:
            raise no_list(folder, name, start.repository)
        if current.manifest.retired is not None:
            raise RefusedError(
                f"{name} was already retired on {current.manifest.retired.since:%Y-%m-%d}",
                hint="nothing was changed; to publish the list again, run "
                f"`syncd feed publish {quote(str(folder.root))} --list {name} --full FILE`",
            )
        proposal = Proposal[None]("retire", (ListChange(name, (), {}, {}, (), retired=now),))
        return core.publish(held, proposal, now, start)[0]

    try:
        manifest = core.with_lock(f"feed retire {name}", act)
    except SyncdError as error:
        error.serving = error.serving or _serving(folder, name)
        raise
    collect_garbage(folder, now, _PATIENCE)
    return manifest


def collect_garbage(
    folder: FeedFolder,
    now: datetime,
    patience: float = 0.0,
    *,
    limits: RetentionLimits = DEFAULTS,
    also: Callable[[], Iterable[str]] = tuple,
    ledger: garbage.UnnamedLedger | None = None,
    dry_run: bool = False,
) -> Collected:
    """Remove files that no kept version names. They are listed before the lock is taken.

    ``also``: returns further files to keep; called with the lock held. ``ledger``: as in `garbage.collect`.

    Raises `RefusedError` if the lock is not free within ``patience`` seconds, and `StoreError`.
    """
    files = folder.store.names()
    with lock(folder.lock, "removing old files", patience):
        if not dry_run:
            folder.remove_stale_scratch()
        named = _named(folder, limits).union(also())
        return garbage.collect(folder, named, now, limits.grace, files=files, ledger=ledger, dry_run=dry_run)


def _named(folder: FeedFolder, limits: RetentionLimits) -> set[str]:
    """Return the paths of all files that the feed needs."""
    repository = load_repository(folder)
    heads = {
        name: target.sha256
        for target in repository.targets().values()
        if (name := layout.list_of(target.name)) is not None
    }
    metadata = [f"{version}.{role}.json" for role, version in repository.versions.items()]
    roots = [f"{version}.root.json" for version in range(1, repository.versions["root"] + 1)]
    files = [*metadata, *roots, "timestamp.json"]
    return garbage.named_by_feed(folder, heads, files, limits.published_versions, limits.evidence)


def check_clock(repository: Repository, now: datetime, *roles: str) -> None:
    """Refuse to sign if the clock was set back: the new documents would expire at once and be older than readers' own.

    ``roles``: ``now`` must not be before their last signature; by default the timestamp's, see `check_timestamp`.
    Raises `RefusedError`.
    """
    expires = repository.expiries()
    if not roles:
        check_timestamp(signed_at("timestamp", expires["timestamp"]), now, ACCEPT_IN_FEED)
        return
    last = max(signed_at(role, expires[role]) for role in roles)
    if clock_is_behind(now - last):
        raise _runs_backwards(last, now, f"{ACCEPT_IN_FEED}; for an operator's feed: see `syncd status`")


def check_timestamp(last: datetime, now: datetime, cure: str) -> None:
    """Refuse to sign the timestamp if the clock is far before its ``last`` signature. Raises `RefusedError`.

    We cannot know whether the clock was ahead then or is behind now. Up to half the timestamp's lifetime it does not
    matter: the new timestamp is valid for the other half at least, and is signed again once the clock is right.
    ``cure``: the hint for a clock that is right now.
    """
    if last - now > lifetime("timestamp") / 2:
        raise _runs_backwards(last, now, cure)


def _runs_backwards(last: datetime, now: datetime, cure: str) -> RefusedError:
    return RefusedError(
        f"the local clock runs backwards: it says {now:%Y-%m-%d %H:%M} UTC, but the feed was last signed at "
        f"{last:%Y-%m-%d %H:%M} UTC",
        hint=f"correct the clock of this machine; {cure}",
    )


def open_list(folder: FeedFolder, repository: Repository, name: ListName) -> Snapshot | None:
    """Open the version of a list that is in force; return None if the list does not exist."""
    target = repository.targets().get(layout.target_name(name))
    return open_snapshot(folder, name, target.sha256) if target else None
