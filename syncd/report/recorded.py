"""Syncs as the catalog has them, and as they are: a killed one is still "running" there, but holds no lock."""

from dataclasses import replace
from pathlib import Path

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import SyncRecord
from syncd.errors import RefusedError, StoreError
from syncd.files import lock
from syncd.outcomes import Outcome


def as_it_is(folder: StateFolder, catalog: Catalog, sync: SyncRecord) -> SyncRecord:
    """How a sync stands. Raises `StoreError`."""
    if sync.outcome is not Outcome.RUNNING or _is_locked(folder.source(sync.source).lock):
        return sync
    now = catalog.sync(sync.id)  # it may have ended between the two looks
    return replace(sync, outcome=Outcome.INTERRUPTED) if now is None or now == sync else now


def last_and_running(folder: StateFolder, catalog: Catalog, source: str) -> tuple[SyncRecord | None, SyncRecord | None]:
    """The latest sync of a source that ended, dry runs apart, and the one under way, of either kind.

    Raises `StoreError`.
    """
    newest = next((as_it_is(folder, catalog, one) for one in catalog.recent_syncs(source, 1)), None)
    if newest is not None and newest.outcome is Outcome.INTERRUPTED and not newest.dry_run:
        return newest, None
    last = catalog.last_ended(source)
    running = newest if newest and newest.outcome is Outcome.RUNNING else None
    return last, None if running and last and running.id == last.id else running


def _is_locked(path: Path) -> bool:
    try:
        with lock(path, "syncd status"):
            return False
    except (RefusedError, StoreError):  # a disk that cannot be written says nothing either way
        return True
