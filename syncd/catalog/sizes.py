"""The part of the catalog that keeps the size of each version of a head, for the windows of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Table, and_, case, func, insert, or_, select
from sqlalchemy import delete as delete_from

from syncd.catalog.changes import HeadNote
from syncd.catalog.database import Tables
from syncd.catalog.tables import label_sizes, sizes
from syncd.model import Counts, ListName
from syncd.publish.ledger import HeadMove

KEPT_SIZES: Final = timedelta(days=30)


@dataclass(frozen=True)
class PastChanges:
    """Published changes of one algorithm of a head in a past period."""

    largest: int
    """the most rows that a version in force in the period had"""
    added: int
    removed: int


class SizeTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def past_changes(self, name: ListName, since: datetime) -> Mapping[str, PastChanges]:
        """Return the changes of a head since a time, by algorithm.

        Changes before the newest version that an operator accepted do not count, nor do the operator's own.
        """
        return self._past(sizes, "algorithm", name, since)

    def past_label_changes(self, name: ListName, since: datetime) -> Mapping[str, PastChanges]:
        """Return the net changes of a head since a time, by label, as `past_changes`.

        Of labels that had limits of their own when a version was published.
        """
        return self._past(label_sizes, "label", name, since)

    def _past(self, table: Table, part: str, name: ListName, since: datetime) -> Mapping[str, PastChanges]:
        mine = table.c.list == name
        with self._database.reading() as connection:
            accepted = select(func.max(sizes.c.version)).where(sizes.c.list == name, sizes.c.reference)
            reference = connection.execute(accepted).scalar_one() or 0
            before = select(func.max(table.c.version)).where(mine, table.c.at < since)
            at_start = connection.execute(before).scalar_one() or 0
            counts = and_(table.c.at >= since, table.c.version > reference)
            statement = (
                select(
                    table.c[part].label("part"),
                    func.max(table.c.rows).label("largest"),
                    func.sum(case((counts, table.c.added), else_=0)).label("added"),
                    func.sum(case((counts, table.c.removed), else_=0)).label("removed"),
                )
                .where(mine, table.c.version >= max(reference, at_start))
                .where(or_(table.c.at >= since, table.c.version == at_start))
                .group_by(table.c[part])
            )
            return {
                str(row.part): PastChanges(int(row.largest), int(row.added), int(row.removed))
                for row in connection.execute(statement)
            }

    def prune_sizes(self, before: datetime) -> None:
        """Forget the sizes of versions older than ``before``, which no window looks at."""
        with self._leading() as connection:
            for table in (sizes, label_sizes):
                connection.execute(delete_from(table).where(table.c.at < before))


def put_sizes(connection: Connection, move: HeadMove, note: HeadNote, now: datetime) -> None:
    """Record the size of a list's next version, unless it changes no row."""
    manifest = move.manifest
    counts = note.counts or note.net
    if not counts and not note.reference and move.before is not None:
        return
    states = manifest.end_state
    values = []
    for algorithm in sorted({*states, *counts}):
        count = Counts() if note.ours or move.before is None else counts.get(algorithm, Counts())
        values.append(
            {
                "list": manifest.list,
                "version": manifest.version,
                "algorithm": str(algorithm),
                "at": now,
                "rows": states[algorithm].rows if algorithm in states else 0,
                "added": count.added,
                "removed": count.removed,
                "reference": note.reference,
            }
        )
    if values:
        connection.execute(insert(sizes), values)
    _put_label_sizes(connection, move, note, now)


def _put_label_sizes(connection: Connection, move: HeadMove, note: HeadNote, now: datetime) -> None:
    values = []
    for label, size in note.limited.items():
        change = 0 if note.ours or move.before is None else size.change
        values.append(
            {
                "list": move.manifest.list,
                "version": move.manifest.version,
                "label": label,
                "at": now,
                "rows": size.rows,
                "added": max(0, change),
                "removed": max(0, -change),
            }
        )
    if values:
        connection.execute(insert(label_sizes), values)
