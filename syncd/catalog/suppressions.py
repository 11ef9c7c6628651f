"""The part of the catalog that keeps suppressions: the operator's corrections, and the only digests in the catalog."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, or_, select, update

from syncd.catalog.database import Tables, values_of
from syncd.catalog.decisions import Suppression, SuppressionChange, SuppressionState
from syncd.catalog.tables import suppressions
from syncd.errors import LostRaceError
from syncd.model import Algorithm, ListName


class SuppressionTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def suppressions(self, *states: SuppressionState) -> tuple[Suppression, ...]:
        """Return suppressions in these states (none given: all), in the order in which they were made."""
        statement = select(suppressions).order_by(suppressions.c.id)
        if states:
            statement = statement.where(suppressions.c.state.in_(states))
        return tuple(Suppression(**row) for row in self._rows(statement))

    def suppression(self, number: int) -> Suppression | None:
        """Return one suppression, whatever its state; None if the number is unknown."""
        rows = self._rows(select(suppressions).where(suppressions.c.id == number))
        return Suppression(**rows[0]) if rows else None

    def suppressions_of(self, algorithm: Algorithm, digest: str) -> tuple[Suppression, ...]:
        """Return every suppression that ever named a digest (in hex), in the order in which they were made."""
        same = (suppressions.c.algorithm == algorithm, suppressions.c.digest == digest)
        return tuple(Suppression(**row) for row in self._rows(select(suppressions).where(*same).order_by("id")))

    def suppressions_in_hold(self, number: int) -> tuple[Suppression, ...]:
        """Return the suppressions that wait, or waited, in a hold for a second operator."""
        statement = select(suppressions).where(suppressions.c.hold_id == number).order_by(suppressions.c.id)
        return tuple(Suppression(**row) for row in self._rows(statement))

    def last_suppression(self) -> int:
        """Return the highest number of a suppression; 0 if there is none. Numbers are never used again."""
        (row,) = self._rows(select(func.max(suppressions.c.id).label("last")))
        return int(row["last"] or 0)

    def suppression_counts(self) -> dict[ListName | None, int]:
        """Return the number of active suppressions by published list; under None those of all lists."""
        active = suppressions.c.state == SuppressionState.ACTIVE
        statement = select(suppressions.c.list, func.count().label("number")).where(active)
        rows = self._rows(statement.group_by(suppressions.c.list))
        return {ListName(row["list"]) if row["list"] else None: int(row["number"]) for row in rows}

    def suppressions_ending(self, before: datetime | None, limit: int) -> tuple[Suppression, ...]:
        """Return active suppressions, at most ``limit``, the soonest to expire first.

        ``before``: only those that expire until then; None: all, those that do not expire last.
        """
        column = suppressions.c.expires_at
        statement = select(suppressions).where(suppressions.c.state == SuppressionState.ACTIVE)
        if before is not None:
            statement = statement.where(column.is_not(None), column <= before)
        statement = statement.order_by(column.is_(None), column, suppressions.c.id).limit(limit)
        return tuple(Suppression(**row) for row in self._rows(statement))

    def count_ending(self, before: datetime) -> int:
        """Return the number of active suppressions that expire until a time."""
        column, active = suppressions.c.expires_at, suppressions.c.state == SuppressionState.ACTIVE
        statement = select(func.count().label("number")).where(active, column.is_not(None), column <= before)
        (row,) = self._rows(statement)
        return int(row["number"])

    def note_suppressions(self, numbers: Iterable[int], column: str, now: datetime | None) -> None:
        """Record when something about suppressions was announced: ``announced_at`` or ``others_at``; None: not yet."""
        with self._leading() as connection:
            for number in numbers:  # one by one: a statement can name some thousands at most
                connection.execute(update(suppressions).where(suppressions.c.id == number).values({column: now}))


def active_in(name: ListName) -> Select[Any]:
    """Select the active suppressions that cover a published list."""
    covers = or_(suppressions.c.list.is_(None), suppressions.c.list == name)
    return select(suppressions).where(suppressions.c.state == SuppressionState.ACTIVE, covers).order_by("id")


def put_suppressions(connection: Connection, added: Iterable[Suppression], hold_id: int | None) -> None:
    """Add suppressions; those that wait belong to the hold ``hold_id``."""
    rows = [
        values_of(replace(one, hold_id=hold_id if one.state is SuppressionState.WAITING else None)) for one in added
    ]
    if rows:
        connection.execute(insert(suppressions), rows)


def change_suppression(connection: Connection, change: SuppressionChange) -> None:
    """Record the next state of a suppression. Raises `LostRaceError` if it changed since that was computed."""
    one = change.suppression
    same = (suppressions.c.id == one.id, suppressions.c.state == change.before)
    if connection.execute(update(suppressions).where(*same).values(values_of(one))).rowcount != 1:
        raise LostRaceError(
            f"suppression {one.id} was changed in the meantime", hint="`syncd suppressions` lists those in force"
        )
