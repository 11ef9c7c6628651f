"""The part of the catalog that forgets: old versions, syncs, holds and publications, and the start of the audit log.

Rows are removed some hundreds at a time, each in its own transaction, so that no other writer waits long. A process
that is killed in between leaves a catalog that is sound, and the next run continues.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    Table,
    func,
    insert,
    not_,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from syncd.catalog import shorten
from syncd.catalog.database import Tables
from syncd.catalog.holds import KEPT
from syncd.catalog.syncs import verifying
from syncd.catalog.tables import (
    answers,
    heads,
    holds,
    kept_versions,
    loaded,
    origins,
    publications,
    signed_files,
    sources,
    syncs,
    updates,
    versions,
)
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.retention import RetentionLimits

_AT_ONCE: Final = 500
"""Rows removed in one transaction: some milliseconds."""


@dataclass(frozen=True)
class OldRecords:
    """Rows of one table beyond a limit: those that meet all of ``where``."""

    kind: str
    key: Column[Any]
    """unique among these rows"""
    where: tuple[ColumnElement[bool], ...]
    size: Select[Any] | None = None
    """selects their size in bytes, where it matters"""
    list: ListName | None = None
    """for versions"""

    @property
    def table(self) -> Table:
        """The table of the rows."""
        return self.key.table


@dataclass(frozen=True)
class RecordCount:
    """A number of records, and their bytes if these are counted."""

    records: int = 0
    bytes: int | None = None

    def __add__(self, other: "RecordCount") -> "RecordCount":
        both = [size for size in (self.bytes, other.bytes) if size is not None]
        return RecordCount(self.records + other.records, sum(both) if both else None)


class PruningTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: raises `StoreError` as that does."""

    def old_records(self, limits: RetentionLimits, now: datetime) -> tuple[OldRecords, ...]:
        """Return the rows beyond ``limits``, for `count_old` and `forget`."""
        names = self._rows(select(heads.c.list).order_by(heads.c.list))
        followed = self._rows(select(sources.c.name).order_by(sources.c.name))
        return (
            *(old_versions(ListName(row["list"]), limits.versions, now - limits.matchers) for row in names),
            *(_old_syncs(row["name"], limits.syncs) for row in followed),
            _old_holds(limits.holds),
            _old_publications(limits.publications),
            _old_answers(now - limits.answers),
        )

    def count_old(self, old: OldRecords) -> RecordCount:
        """Count rows that `forget` would remove."""
        with self._database.reading() as connection:
            count = connection.execute(select(func.count()).select_from(old.table).where(*old.where)).scalar_one()
            return RecordCount(count, _size(connection, old))

    def forget(self, old: OldRecords) -> RecordCount:
        """Remove rows, and rows that only they refer to. Return how many."""
        with self._database.reading() as connection:
            size = _size(connection, old)
        count = 0
        while True:
            with self._leading() as connection:
                removed = _forget_some(connection, old)
            count += removed
            if removed < _AT_ONCE:
                return RecordCount(count, size)

    def prune_versions(self, name: ListName, keep: int) -> int:
        """Forget all but the newest ``keep`` versions of a list, and never the head's; return how many."""
        return self.forget(old_versions(name, keep, None)).records

    def prune_holds(self, keep: int) -> int:
        """Forget all but the newest ``keep`` ended holds, and updates that no hold names; return how many holds."""
        return self.forget(_old_holds(keep)).records

    def prune_publications(self, keep: int) -> int:
        """Forget all but the newest ``keep`` publications, and none that is not yet installed; return how many."""
        return self.forget(_old_publications(keep)).records

    def needed_versions(self, since: datetime) -> frozenset[tuple[ListName, int]]:
        """Return the versions that matchers have loaded and reported ``since`` then."""
        statement = select(loaded.c.list, loaded.c.version).where(loaded.c.seen_at >= since).distinct()
        return frozenset((ListName(row["list"]), int(row["version"])) for row in self._rows(statement))

    def first_kept(self, name: ListName) -> int:
        """Return the version since which every version of a list is kept; 0: none was ever forgotten."""
        rows = self._rows(select(kept_versions.c.first).where(kept_versions.c.list == name))
        return int(rows[0]["first"]) if rows else 0

    def old_audit(self, before: datetime) -> RecordCount:
        """Count the records of the audit log that `shorten_audit` would remove, if called often enough."""
        with self._database.reading() as connection:
            return RecordCount(shorten.count(connection, before))

    def shorten_audit(self, before: datetime, actor: str, now: datetime) -> int:
        """Remove the oldest records of the audit log, up to the first since ``before``; return how many.

        The same transaction appends a record that states where the chain begins since. Removes a limited number at
        once, and none unless some are a week older: each call adds a record.
        """
        with self._leading() as connection:
            return shorten.shorten(connection, before, actor, now)


def old_versions(name: ListName, keep: int, since: datetime | None) -> OldRecords:
    """Return the versions of a list beyond the newest ``keep``, without those that its head or a matcher needs."""
    same = versions.c.list == name
    head = select(heads.c.version).where(heads.c.list == name)
    where = [same, versions.c.version < _newest(versions.c.version, keep, same), versions.c.version.not_in(head)]
    if since is not None:
        needed = select(loaded.c.version).where(loaded.c.list == name, loaded.c.seen_at >= since)
        where.append(versions.c.version.not_in(needed))
    size = select(func.sum(func.length(versions.c.manifest))).where(*where)
    return OldRecords("versions", versions.c.version, tuple(where), size, name)


def _old_syncs(source: str, keep: int) -> OldRecords:
    """Return the syncs of a source beyond the newest ``keep``, without the last that ended and the last good one."""
    same = syncs.c.source == source
    real = (same, syncs.c.dry_run.is_(False))
    last = select(func.max(syncs.c.number)).where(*real, syncs.c.outcome != Outcome.RUNNING)
    kept = [syncs.c.number.not_in(number) for number in (_present(last), *verifying(source))]
    ended = syncs.c.outcome != Outcome.RUNNING
    return OldRecords(
        "syncs", syncs.c.number, (same, ended, syncs.c.number < _newest(syncs.c.number, keep, same), *kept)
    )


def _present(number: Select[Any]) -> Select[Any]:
    """Select a number, or 0 for none: ``NOT IN (NULL)`` is never true."""
    return select(func.coalesce(number.scalar_subquery(), 0))


def _old_holds(keep: int) -> OldRecords:
    """Return the ended holds beyond the newest ``keep``, without the last of each list: status is judged by it."""
    over, other = not_(KEPT), holds.alias()
    last = select(func.max(other.c.ended_at)).where(other.c.list == holds.c.list).correlate(holds).scalar_subquery()
    return OldRecords(
        "holds", holds.c.id, (over, holds.c.id < _newest(holds.c.id, keep, over), holds.c.ended_at < last)
    )


def _old_answers(before: datetime) -> OldRecords:
    """Return the raw answers from before a time, without those that state the present of a list."""
    present = select(origins.c.answers).where(origins.c.answers.is_not(None))
    return OldRecords("answers", answers.c.id, (answers.c.at < before, answers.c.sha256.not_in(present)))


def _old_publications(keep: int) -> OldRecords:
    old = (publications.c.installed, publications.c.id < _newest(publications.c.id, keep))
    files = signed_files.join(publications)
    size = select(func.sum(func.length(signed_files.c.content))).select_from(files).where(*old)
    return OldRecords("publications", publications.c.id, old, size)


def _newest(key: Column[Any], keep: int, *where: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Select the key of the last row to keep. With fewer rows nothing is less than it: it is NULL."""
    statement = select(key).where(*where).order_by(key.desc()).limit(1).offset(max(keep, 1) - 1)
    return statement.correlate(None).scalar_subquery()


def _size(connection: Connection, old: OldRecords) -> int | None:
    return None if old.size is None else connection.execute(old.size).scalar_one() or 0


def _forget_some(connection: Connection, old: OldRecords) -> int:
    keys = list(connection.execute(select(old.key).where(*old.where).order_by(old.key).limit(_AT_ONCE)).scalars())
    if keys:
        if old.list is not None:
            _mark_first(connection, old.list, keys)
        connection.execute(delete_from(old.table).where(*_same(old, keys)))
    if old.table is holds:
        connection.execute(delete_from(updates).where(updates.c.id.not_in(select(holds.c.update_id))))
    return len(keys)


def _same(old: OldRecords, keys: Collection[int]) -> Iterator[ColumnElement[bool]]:
    yield old.key.in_(keys)
    if old.list is not None:
        yield versions.c.list == old.list


def _mark_first(connection: Connection, name: ListName, forgotten: Collection[int]) -> None:
    """Record that versions up to the newest of ``forgotten`` are not all kept."""
    newer = (versions.c.list == name, versions.c.version > max(forgotten))
    first = connection.execute(select(func.min(versions.c.version)).where(*newer)).scalar_one()
    same = kept_versions.c.list == name
    known = connection.execute(select(kept_versions.c.first).where(same)).scalar_one_or_none()
    if known is None:
        connection.execute(insert(kept_versions).values(list=name, first=first))
    elif first > known:
        connection.execute(update(kept_versions).where(same).values(first=first))
