"""The part of the catalog that knows the sources, and how each sync of them went."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from pydantic import JsonValue
from sqlalchemy import Connection, Select, insert, select, update

from syncd.catalog.database import Tables, put, values_of, writing
from syncd.catalog.records import SourceState, SyncFault, SyncRecord
from syncd.catalog.tables import sources, syncs
from syncd.errors import StoreError
from syncd.outcomes import Outcome

_RECORD: Final = tuple(syncs.c[one.name] for one in fields(SyncRecord))


def put_source(connection: Connection, name: str, **changed: Any) -> None:
    """Change these columns of a source, which is remembered from then on."""
    put(connection, sources, {"name": name}, changed)


class SyncTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: a method is one transaction, and raises `StoreError` as that does."""

    def source(self, name: str) -> SourceState:
        """What is remembered of a source; of an unknown one, nothing."""
        found = self._rows(select(sources).where(sources.c.name == name))
        return SourceState(**found[0]) if found else SourceState(name)

    def note_attempt(self, source: str, now: datetime) -> None:
        """Remember that a sync of ``source`` began."""
        with writing(self._engine, self.path) as connection:
            put_source(connection, source, last_attempt_at=now)

    def note_verified(self, source: str, memory: Mapping[str, JsonValue], now: datetime) -> None:
        """Remember that ``source`` was verified, and replace its memory."""
        with writing(self._engine, self.path) as connection:
            put_source(connection, source, memory=memory, last_verified_at=now)

    def note_schedule(
        self, source: str, next_run_at: datetime | None, *, cool_down_until: datetime | None = None, failures: int = 0
    ) -> None:
        """Remember when the daemon syncs ``source`` next, and how often in a row it was not reached."""
        changed = {"next_run_at": next_run_at, "cool_down_until": cool_down_until, "failures": failures}
        with writing(self._engine, self.path) as connection:
            put_source(connection, source, **changed)

    def begin_sync(self, sync_id: str, source: str, now: datetime, *, dry_run: bool = False) -> None:
        """Record a sync that is running."""
        with writing(self._engine, self.path) as connection:
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
        """Record how a running sync ended, ``received`` bytes later; ``faults`` as in `SyncRecord`.

        Raises `StoreError` where it is not running.
        """
        ended = {"outcome": outcome, "reasons": reasons, "message": message, "finished_at": now, "bytes": received}
        statement = (
            update(syncs)
            .where(syncs.c.id == sync_id, syncs.c.outcome == Outcome.RUNNING)
            .values(**ended, faults=faults or {})
        )
        with writing(self._engine, self.path) as connection:
            if connection.execute(statement).rowcount != 1:
                raise StoreError(f"{self.path}: sync {sync_id} is not running", hint="see the outcomes of recent syncs")

    def mark_interrupted(self, now: datetime) -> int:
        """End the syncs that a killed process left running; return how many. The caller holds the state's lock."""
        statement = (
            update(syncs).where(syncs.c.outcome == Outcome.RUNNING).values(outcome=Outcome.INTERRUPTED, finished_at=now)
        )
        with writing(self._engine, self.path) as connection:
            return connection.execute(statement).rowcount

    def recent_syncs(self, source: str | None = None, limit: int = 20) -> tuple[SyncRecord, ...]:
        """The latest syncs, of one source or of all, newest first."""
        statement = _newest().limit(limit)
        if source is not None:
            statement = statement.where(syncs.c.source == source)
        return self._syncs(statement)

    def sync(self, sync_id: str) -> SyncRecord | None:
        """One sync, running or ended."""
        return next(iter(self._syncs(select(*_RECORD).where(syncs.c.id == sync_id))), None)

    def last_ended(self, source: str) -> SyncRecord | None:
        """The latest sync of ``source`` that has ended; dry runs change nothing, and do not count."""
        ended = (syncs.c.source == source, syncs.c.outcome != Outcome.RUNNING, syncs.c.dry_run.is_(False))
        return next(iter(self._syncs(_newest().where(*ended).limit(1))), None)

    def last_success(self, source: str) -> datetime | None:
        """When a sync of ``source`` last verified all that it follows; dry runs do not count."""
        good = syncs.c.outcome.in_((Outcome.PUBLISHED, Outcome.UP_TO_DATE))
        statement = _newest().where(syncs.c.source == source, good, syncs.c.dry_run.is_(False)).limit(1)
        return next((one.finished_at for one in self._syncs(statement)), None)

    def _syncs(self, statement: Select[Any]) -> tuple[SyncRecord, ...]:
        return tuple(SyncRecord(**row) for row in self._rows(statement))


def _newest() -> Select[Any]:
    """Syncs, the one begun last first; with the index on (source, number) those of one source are found at once."""
    return select(*_RECORD).order_by(syncs.c.number.desc())
