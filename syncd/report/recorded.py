"""Sync records with their true state: a killed sync is still "running" in the catalog, but holds no lock.

Of several daemons on one catalog only the leader syncs, maybe on another machine, and its lease stands for the lock.
"""

from dataclasses import replace
from pathlib import Path

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import SyncRecord
from syncd.errors import RefusedError, StoreError
from syncd.locks import lock
from syncd.outcomes import Outcome


def checked_record(folder: StateFolder, catalog: Catalog, sync: SyncRecord) -> SyncRecord:
    """Return a sync's record, with outcome `INTERRUPTED` if its process is gone. Raises `StoreError`."""
    if sync.outcome is not Outcome.RUNNING or _runs(folder, catalog, sync.source):
        return sync
    now = catalog.sync(sync.id)  # it may have ended in the meantime
    return replace(sync, outcome=Outcome.INTERRUPTED) if now is None or now == sync else now


def last_and_running(folder: StateFolder, catalog: Catalog, source: str) -> tuple[SyncRecord | None, SyncRecord | None]:
    """Return the latest ended sync of a source, except dry runs, and the running one, of either kind.

    Raises `StoreError`.
    """
    newest = next((checked_record(folder, catalog, sync) for sync in catalog.recent_syncs(source, 1)), None)
    if newest is not None and newest.outcome is Outcome.INTERRUPTED and not newest.dry_run:
        return newest, None
    last = catalog.last_ended(source)
    running = newest if newest and newest.outcome is Outcome.RUNNING else None
    return last, None if running and last and running.id == last.id else running


def _runs(folder: StateFolder, catalog: Catalog, source: str) -> bool:
    """Return True if a sync of a source that the catalog says is running may be.

    Of several daemons the leader holds the lock, maybe on another machine; a new one first marks what was interrupted.
    """
    leader = catalog.leader()
    return _is_locked(folder.source(source).lock) if leader is None else leader.in_force


def _is_locked(path: Path) -> bool:
    try:
        with lock(path, "syncd status"):
            return False
    except (RefusedError, StoreError):  # a disk that cannot be written tells nothing
        return True
