"""The part of the catalog that keeps holds, and the updates they belong to."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, func, insert, or_, select, update

from syncd.catalog.changes import Records
from syncd.catalog.database import Tables, values_of
from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState, UpdateRecord
from syncd.catalog.tables import holds, updates
from syncd.errors import LostRaceError, StoreError
from syncd.model import ListName
from syncd.outcomes import Lane

KEPT: Final = or_(
    holds.c.state == HoldState.OPEN,
    and_(holds.c.state == HoldState.DISCARDED, or_(holds.c.lane != Lane.SUPPRESSIONS, holds.c.segments != ())),
)
"""Holds whose rows are kept, however old: open, or discarded and still relevant.

Discarded rows stay out, and a refused known-good file is not held again.
"""


class HoldTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def holds(self, name: ListName | None = None) -> tuple[HoldRecord, ...]:
        """Return the open and discarded holds of one published list or of all, oldest first.

        Discarded suppressions are not among them: they are over, and cannot be released any more.
        """
        statement = select(holds).where(KEPT).order_by(holds.c.id)
        if name is not None:
            statement = statement.where(holds.c.list == name)
        return tuple(HoldRecord(**row) for row in self._rows(statement))

    def hold(self, number: int) -> HoldRecord | None:
        """Return one hold, whatever its state; None if the number is unknown."""
        rows = self._rows(select(holds).where(holds.c.id == number))
        return HoldRecord(**rows[0]) if rows else None

    def last_hold_ends(self) -> dict[ListName, datetime]:
        """Return the time at which a hold of each list last ended; lists without an ended hold are left out."""
        statement = select(holds.c.list, func.max(holds.c.ended_at).label("at")).group_by(holds.c.list)
        return {ListName(row["list"]): row["at"] for row in self._rows(statement.where(holds.c.ended_at.is_not(None)))}

    def page_holds(self, now: datetime, every: timedelta) -> tuple[HoldRecord, ...]:
        """Return the open holds that were opened, and last reported, at least ``every`` ago; record that they are now.

        A time in the future was written by a clock that ran ahead: it counts as long ago.
        """
        waiting = [hold for hold in self.holds() if hold.state is HoldState.OPEN]
        due = tuple(hold for hold in waiting if abs(now - (hold.paged_at or hold.opened_at)) >= every)
        if due:
            with self._leading() as connection:
                for hold in due:
                    connection.execute(update(holds).where(holds.c.id == hold.id).values(paged_at=now))
        return due

    def update_of(self, hold: HoldRecord) -> UpdateRecord:
        """Return the update that a hold belongs to. Raises `StoreError` if it was lost."""
        rows = self._rows(select(updates).where(updates.c.id == hold.update_id))
        if not rows:
            raise StoreError(f"{self._database.name} has lost the update of hold {hold.id}", hint="run `syncd verify`")
        return UpdateRecord(**rows[0])


def end_hold(connection: Connection, ended: HoldEnd, now: datetime) -> None:
    """Record how a hold ended. Raises `LostRaceError` if its state has changed since ``ended`` was computed."""
    statement = update(holds).where(holds.c.id == ended.id, holds.c.state == ended.before)
    values = {"state": ended.state, "ended_at": now, "ended_by": ended.by, "ended_reason": ended.reason}
    if connection.execute(statement.values(values)).rowcount != 1:
        raise LostRaceError(f"hold {ended.id} was ended in the meantime", hint="`syncd holds` lists the open holds")


def open_holds(connection: Connection, records: Records) -> tuple[HoldRecord, ...]:
    """Add the update of ``records`` and the holds that belong to it; return these with their numbers."""
    update_id, opened = None, []
    if records.update is not None:
        update_id = _insert_numbered(connection, updates, records.update)
    for hold in records.opened:
        if update_id is None:
            raise ValueError("a hold belongs to an update")
        belonging = replace(hold, update_id=update_id)
        opened.append(replace(belonging, id=_insert_numbered(connection, holds, belonging)))
    return tuple(opened)


def held(connection: Connection, number: int) -> HoldRecord:
    """Return a hold that exists, as this transaction sees it."""
    return HoldRecord(**connection.execute(select(holds).where(holds.c.id == number)).mappings().one())


def _insert_numbered(connection: Connection, table: Table, record: Any) -> int:
    """Insert a record whose ``id`` the database assigns; return that id."""
    values = values_of(record)
    del values["id"]
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    return int(key[0]) if key else 0
