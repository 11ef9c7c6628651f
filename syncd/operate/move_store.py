"""Moving the published files and origins of a state from its folder to a bucket, and back.

A move only adds files to the place that it goes to, and the timestamp last. The record of the place, `store.json`,
changes in the end: until then the state is used as before, and an interrupted move is continued by running it again.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from syncd.acts import MovedStore
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import forget_place, record_place, recorded_place
from syncd.errors import ConfigError, RefusedError, StoreError, UsageError
from syncd.feed.folder import MAX_METADATA_BYTES, FeedFolder
from syncd.feed.layout import TIMESTAMP
from syncd.feed.shared import catch_up, signed_version
from syncd.files import TEMPORARY_PREFIX, storage
from syncd.locks import lock
from syncd.publish.author import ROOT_FILE
from syncd.publish.installing import advance

Progress = Callable[[int, int], None]
"""Receives the number of files that are in place, and of all."""

COMMAND: Final = "syncd store copy"


@dataclass(frozen=True)
class StoreMove:
    """A state before and after a move: the same folder, with and without a bucket."""

    before: StateFolder
    after: StateFolder

    @property
    def bucket(self) -> StateFolder:
        """The state with the bucket."""
        return self.after if self.after.bucket is not None else self.before


@dataclass(frozen=True)
class MovedFiles:
    """The files in the new place."""

    files: int
    bytes: int


def plan_move(folder: StateFolder, *, to_folder: bool) -> StoreMove:
    """Check that the state can be moved. ``folder``: with the bucket that the configuration names.

    A bucket that was emptied is filled again. Raises `ConfigError` if the configuration names none, `UsageError` if the
    files are there already, `StoreError`.
    """
    alone = replace(folder, bucket=None)
    if folder.bucket is None:
        raise ConfigError(
            "the configuration does not name a bucket",
            hint='add [store] with type = "s3" to it (docs/object-store.md); nothing was changed',
        )
    recorded = recorded_place(folder.root)
    if recorded is not None and recorded.place == folder.bucket.place and not to_folder and _is_lost(folder):
        forget_place(alone)  # the cache has what the bucket lost, or a backup was unpacked
        recorded = None
    if recorded is not None and recorded.place != folder.bucket.place:
        raise ConfigError(
            f"{folder.root} publishes into {recorded.place}, and the configuration names {folder.bucket.place}",
            hint="move the files to the folder first, with [store] as it was; nothing was changed",
        )
    if to_folder == (recorded is None):
        where = folder.root if to_folder else folder.bucket.place
        raise UsageError(f"the published files are in {where} already", hint="nothing was changed")
    return StoreMove(folder, alone) if to_folder else StoreMove(alone, folder)


def _is_lost(folder: StateFolder) -> bool:
    """Return True if the bucket has no publication, and this machine has one."""
    feed = folder.feed
    return feed.here(TIMESTAMP) is not None and feed.store.current(TIMESTAMP, MAX_METADATA_BYTES) is None


def store_led(move: StoreMove, catalog: Catalog) -> str:
    """Return the place to lead with: that of the last leader, if an interrupted move recorded the new one already."""
    led = catalog.leader()
    return move.after.store_place if led and led.store == move.after.store_place else move.before.store_place


def copy_files(move: StoreMove, catalog: Catalog, progress: Progress) -> MovedFiles:
    """Copy everything to the new place, with the locks of all feeds held, and compare it there.

    Raises `RefusedError` if the bucket has files of another state or newer ones, `ConfigError` if it ignores
    conditions, `StoreError`.
    """
    with ExitStack() as held:
        for feed in (move.before.feed, *_origins(move.before, catalog)):
            held.enter_context(lock(feed.lock, COMMAND))
        return _to_bucket(move, catalog, progress) if move.after.bucket else _to_folder(move, catalog, progress)


def finish_move(move: StoreMove, catalog: Catalog, now: datetime, actor: str) -> None:
    """Record the new place. Raises `StoreError`."""
    catalog.append(actor, MovedStore(move.after.store_place), now)
    catalog.move_store(move.after.store_place)
    if move.after.bucket is None:
        forget_place(move.after)
    else:
        record_place(move.after)


def _origins(folder: StateFolder, catalog: Catalog) -> list[FeedFolder]:
    """Return the folders of all sources: those in the catalog, and others whose files are here."""
    with storage(folder.root / "sources", "list"):
        here = {path.name for path in (folder.root / "sources").glob("*") if path.is_dir()}
    return [folder.source(name) for name in sorted(here | {origin.source for origin in catalog.origins()})]


def _to_bucket(move: StoreMove, catalog: Catalog, progress: Progress) -> MovedFiles:
    target, timestamp = move.after.feed, move.before.feed.here(TIMESTAMP)
    if timestamp is None:
        raise StoreError(
            f"{TIMESTAMP} is missing from {move.before.feed.root}", hint="run `syncd verify`; nothing was changed"
        )
    target.store.prove(afresh=True)
    _check_owner(target, timestamp)
    feeds = [*zip(_origins(move.before, catalog), _origins(move.after, catalog), strict=True)]
    files = [(there, path) for here, there in [*feeds, (move.before.feed, target)] for path in _immutable(here)]
    for number, (there, path) in enumerate([*files, (target, ROOT_FILE)]):
        progress(number, len(files))
        there.store.secure(path)
    move.after.push_private(move.after.history, whole=False)
    move.after.push_private(move.after.known_good, whole=False)
    advance(target, timestamp)
    return _compared(target, timestamp, files)


def _check_owner(target: FeedFolder, timestamp: bytes) -> None:
    """Check that the bucket is empty there, or has what an earlier run of the same move put into it."""
    held = target.store.current(TIMESTAMP, MAX_METADATA_BYTES)
    root = target.store.current(ROOT_FILE, MAX_METADATA_BYTES)
    if root is not None and root.content != target.here(ROOT_FILE):
        raise RefusedError(
            f"{target.store} has the files of another state",
            hint="name an empty prefix in [store]; nothing was changed",
        )
    if held is not None and held.content != timestamp and signed_version(held.content) >= signed_version(timestamp):
        raise RefusedError(
            f"{target.store} has a newer publication than this folder",
            hint="this state was moved there before, and used there: restore that one, or name an empty prefix in "
            "[store]; nothing was changed",
        )


def _immutable(feed: FeedFolder) -> Iterator[str]:
    """Yield the files of a feed's folder in the order in which they may be published."""
    for path in sorted(feed.store.names(), key=lambda path: (path.startswith("metadata/"), path)):
        if path != TIMESTAMP and not path.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
            yield path


def _compared(target: FeedFolder, timestamp: bytes, files: list[tuple[FeedFolder, str]]) -> MovedFiles:
    """Compare the names and lengths of all files in the bucket with those of the folder, and the timestamp."""
    total = 0
    lengths = {feed: feed.store.lengths() for feed, _ in files}
    for feed, path in files:
        with storage(feed.path(path), "read"):
            length = feed.path(path).stat().st_size
        if lengths[feed].get(path) != length:
            raise StoreError(f"{feed.store} does not list {path} in full length", hint="run the command again")
        total += length
    held = target.store.current(TIMESTAMP, MAX_METADATA_BYTES)
    if held is None or held.content != timestamp:
        raise RefusedError(
            f"another process published into {target.store} in the meantime",
            hint="check bucket and prefix in [store]; the state in the folder is as it was",
        )
    return MovedFiles(len(files) + 1, total + len(timestamp))


def _to_folder(move: StoreMove, catalog: Catalog, progress: Progress) -> MovedFiles:
    feed = move.before.feed
    catch_up(feed)
    feeds = [*_origins(move.before, catalog), feed]
    files = [(one, path, length) for one in feeds for path, length in sorted(one.store.lengths().items())]
    total = 0
    for number, (one, path, length) in enumerate(files):
        progress(number, len(files))
        if path != TIMESTAMP:  # which `catch_up` brought
            one.store.present(path, length)
        total += length
    feed.read(ROOT_FILE)
    move.before.bring_private(move.before.history)
    move.before.bring_private(move.before.known_good)
    return MovedFiles(len(files), total)
