"""The part of the catalog that keeps the state of each source, and its syncs."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import Connection, Select, insert, or_, select, update

from syncd.catalog.database import Tables, put, values_of
from syncd.catalog.records import SourceState, SyncFault, SyncRecord
from syncd.catalog.tables import sources, syncs
from syncd.errors import StoreError
from syncd.outcomes import Outcome

_GOOD: Final = (Outcome.PUBLISHED, Outcome.UP_TO_DATE)
"""Outcomes of a sync that verified all lists of its source, and held nothing."""
_LOOKED_AT: Final = 20
_RECORD: Final = tuple(syncs.c[field.name] for field in fields(SyncRecord))


def put_source(connection: Connection, name: str, **changed: Any) -> None:
    """Change columns of a source; add the source if it is new."""
    put(connection, sources, {"name": name}, changed)


class SyncTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def source(self, name: str) -> SourceState:
        """Return the state of a source; an empty one if the source is unknown."""
        rows = self._rows(select(sources).where(sources.c.name == name))
        return SourceState(**rows[0]) if rows else SourceState(name)

    def source_states(self) -> tuple[SourceState, ...]:
        """Return the state of each source that was ever synced, sorted by name."""
        return tuple(SourceState(**row) for row in self._rows(select(sources).order_by(sources.c.name)))

    def note_attempt(self, source: str, now: datetime) -> None:
        """Record that a sync of ``source`` began."""
        with self._leading() as connection:
            put_source(connection, source, last_attempt_at=now)

    def note_verified(self, source: str, memory: Mapping[str, JsonValue], now: datetime) -> None:
        """Record that ``source`` was verified, and replace its memory."""
        with self._leading() as connection:
            put_source(connection, source, memory=memory, last_verified_at=now)

    def note_schedule(
        self, source: str, next_run_at: datetime | None, *, cool_down_until: datetime | None = None, failures: int = 0
    ) -> None:
        """Record when the daemon syncs ``source`` next, and how many consecutive syncs did not reach it."""
        changed = {"next_run_at": next_run_at, "cool_down_until": cool_down_until, "failures": failures}
        with self._leading() as connection:
            put_source(connection, source, **changed)

    def begin_sync(self, sync_id: str, source: str, now: datetime, *, dry_run: bool = False) -> None:
        """Record that a sync is running."""
        with self._leading() as connection:
            connection.execute(insert(syncs).values(values_of(SyncRecord(sync_id, source, now, dry_run=dry_run))))

    def finish_sync(
        self,
        sync_id: str,
        outcome: Outcome,
        *,
        reasons: tuple[str, ...] = (),
        message: str = "",
        now: datetime,
        received: int = 0,
        faults: Mapping[str, SyncFault] | None = None,
    ) -> None:
        """Record the end of a running sync. ``received``: bytes of response bodies; ``faults`` as in `SyncRecord`.

        Raises `StoreError` if it is not running.
        """
        ended = {"outcome": outcome, "reasons": reasons, "message": message, "finished_at": now, "bytes": received}
        statement = (
            update(syncs)
            .where(syncs.c.id == sync_id, syncs.c.outcome == Outcome.RUNNING)
            .values(**ended, faults=faults or {})
        )
        with self._leading() as connection:
            if connection.execute(statement).rowcount != 1:
                raise StoreError(
                    f"{self._database.name}: sync {sync_id} is not running", hint="`syncd status` shows how it ended"
                )

    def mark_interrupted(self, now: datetime) -> int:
        """Mark syncs that a killed process left running; return how many. The caller must hold the state's lock."""
        statement = (
            update(syncs).where(syncs.c.outcome == Outcome.RUNNING).values(outcome=Outcome.INTERRUPTED, finished_at=now)
        )
        with self._leading() as connection:
            return connection.execute(statement).rowcount

    def recent_syncs(self, source: str | None = None, limit: int = 20) -> tuple[SyncRecord, ...]:
        """Return the latest syncs of one source or of all, newest first."""
        statement = _newest().limit(limit)
        if source is not None:
            statement = statement.where(syncs.c.source == source)
        return self._syncs(statement)

    def sync(self, sync_id: str) -> SyncRecord | None:
        """Return one sync, running or ended; None if it is unknown."""
        return next(iter(self._syncs(select(*_RECORD).where(syncs.c.id == sync_id))), None)

    def last_ended(self, source: str) -> SyncRecord | None:
        """Return the latest ended sync of ``source``, or None. Ignores dry runs: they change nothing."""
        ended = (syncs.c.source == source, syncs.c.outcome != Outcome.RUNNING, syncs.c.dry_run.is_(False))
        return next(iter(self._syncs(_newest().where(*ended).limit(1))), None)

    def last_success(self, source: str) -> datetime | None:
        """Return when a sync of ``source`` last verified all its lists; None if it never did. Ignores dry runs.

        A sync that only held rows verified its lists. Of such syncs the newest are looked at: if each of them had
        another fault as well, the time of the last sync without any fault is returned.
        """
        numbers = or_(*(syncs.c.number.in_(last) for last in verifying(source)))
        found = self._syncs(select(*_RECORD).where(numbers))  # a few in any order: SQL would sort them in a table
        verified = [sync for sync in found if all(fault.outcome is Outcome.HELD for fault in sync.faults.values())]
        return max((sync.finished_at for sync in verified if sync.finished_at), default=None)

    def _syncs(self, statement: Select[Any]) -> tuple[SyncRecord, ...]:
        return tuple(SyncRecord(**row) for row in self._rows(statement))


def verifying(source: str) -> tuple[Select[Any], ...]:
    """Select the numbers of the syncs that tell when a source was last verified, for each outcome. No dry runs.

    The index finds them without reading the others: a source may have failed for months.
    """
    return (*(_last_of(source, outcome, 1) for outcome in _GOOD), _last_of(source, Outcome.HELD, _LOOKED_AT))


def _last_of(source: str, outcome: Outcome, limit: int) -> Select[Any]:
    same = (syncs.c.source == source, syncs.c.dry_run.is_(False), syncs.c.outcome == outcome)
    return select(syncs.c.number).where(*same).order_by(syncs.c.number.desc()).limit(limit)


def _newest() -> Select[Any]:
    """Select syncs, the last begun first. The index on (source, number) finds those of one source."""
    return select(*_RECORD).order_by(syncs.c.number.desc())
