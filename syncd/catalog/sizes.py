"""The part of the catalog that keeps the size of each version of a head, for the windows of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, case, func, insert, or_, select
from sqlalchemy import delete as delete_from

from syncd.catalog.changes import HeadNote
from syncd.catalog.database import Tables, reading, writing
from syncd.catalog.tables import sizes
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
        mine = sizes.c.list == name
        with reading(self._engine, self.path) as connection:
            newest = select(func.max(sizes.c.version)).where(mine)
            reference = connection.execute(newest.where(sizes.c.reference)).scalar_one() or 0
            at_start = connection.execute(newest.where(sizes.c.at < since)).scalar_one() or 0
            counts = and_(sizes.c.at >= since, sizes.c.version > reference)
            statement = (
                select(
                    sizes.c.algorithm,
                    func.max(sizes.c.rows).label("largest"),
                    func.sum(case((counts, sizes.c.added), else_=0)).label("added"),
                    func.sum(case((counts, sizes.c.removed), else_=0)).label("removed"),
                )
                .where(mine, sizes.c.version >= max(reference, at_start))
                .where(or_(sizes.c.at >= since, sizes.c.version == at_start))
                .group_by(sizes.c.algorithm)
            )
            return {
                str(row.algorithm): PastChanges(int(row.largest), int(row.added), int(row.removed))
                for row in connection.execute(statement)
            }

    def prune_sizes(self, before: datetime) -> None:
        """Forget the sizes of versions older than ``before``, which no window looks at."""
        with writing(self._engine, self.path) as connection:
            connection.execute(delete_from(sizes).where(sizes.c.at < before))


def put_sizes(connection: Connection, move: HeadMove, note: HeadNote, now: datetime) -> None:
    """Record the size of a list's next version, unless it changes no row."""
    manifest = move.manifest
    if not note.counts and not note.reference and move.before is not None:
        return
    states = manifest.end_state
    values = []
    for algorithm in sorted({*states, *note.counts}):
        count = Counts() if note.ours or move.before is None else note.counts.get(algorithm, Counts())
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
