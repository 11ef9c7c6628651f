"""The part of the catalog that keeps each list: its origin, its head and its published versions."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy import delete as delete_from

from syncd.catalog.canaries import mark_of
from syncd.catalog.changes import HeadNote, ListRecords, OriginDrop
from syncd.catalog.database import Tables, put_record, values_of
from syncd.catalog.decisions import HoldRecord, HoldState, Suppression
from syncd.catalog.records import HeadRecord, OriginRecord, VersionRecord, VersionSummary, head_name
from syncd.catalog.suppressions import active_in
from syncd.catalog.tables import heads, holds, origins, sources, versions
from syncd.errors import LostRaceError, StoreError
from syncd.model import ListName
from syncd.outcomes import Lane
from syncd.publish.ledger import HeadMove
from syncd.units import CLOCK_TOLERANCE

_AT_ONCE: Final = 200
"""Versions read at once: about 2 MB of manifests."""
_VERIFIED: Final = (origins.c.verified_at, sources.c.last_verified_at)


def replace_future(connection: Connection, time: datetime, now: datetime) -> None:
    """Replace verification times that are after ``now``, beyond the tolerance, with ``time``."""
    for column in _VERIFIED:
        connection.execute(update(column.table).where(column > now + CLOCK_TOLERANCE).values({column: time}))


class ListTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def origin(self, source: str, name: ListName) -> OriginRecord | None:
        """Return the verified state of a source's list; None if nothing of it was verified yet."""
        rows = self._rows(select(origins).where(origins.c.source == source, origins.c.list == name))
        return OriginRecord(**rows[0]) if rows else None

    def origins(self) -> tuple[OriginRecord, ...]:
        """Return every origin, sorted by source and list."""
        rows = self._rows(select(origins).order_by(origins.c.source, origins.c.list))
        return tuple(OriginRecord(**row) for row in rows)

    def touch_verified(self, source: str, serials: Mapping[ListName, int], now: datetime) -> None:
        """Record that each list was verified to be still at its serial; skip lists that have moved since."""
        with self._leading() as connection:
            for name, serial in serials.items():
                connection.execute(
                    update(origins)
                    .where(origins.c.source == source, origins.c.list == name, origins.c.serial == serial)
                    .values(verified_at=now)
                )

    def correct_verified(self, now: datetime) -> bool:
        """Replace verification times in the future, left by a clock that ran ahead, by ``now``; return True if any was.

        The verification took place before ``now`` in any case, and its age can be computed again.
        """
        ahead = now + CLOCK_TOLERANCE
        if not any(self._rows(select(column).where(column > ahead).limit(1)) for column in _VERIFIED):
            return False  # called every minute: a write transaction each time would block other writers
        with self._leading() as connection:
            replace_future(connection, now, now)
        return True

    def head(self, name: ListName) -> HeadRecord | None:
        """Return the published state of a list; None if it was never published."""
        rows = self._rows(select(heads).where(heads.c.list == name))
        return HeadRecord(**rows[0]) if rows else None

    def list_records(self, source: str, name: ListName) -> ListRecords:
        """Return origin, version in force and live holds of one list of a source, read at the same moment."""
        published = head_name(source, name)
        mine = (origins.c.source == source, origins.c.list == name)
        live = (holds.c.list == published, holds.c.state.in_((HoldState.OPEN, HoldState.DISCARDED)))
        own = holds.c.lane != Lane.SUPPRESSIONS
        with self._database.reading() as connection:
            origin = connection.execute(select(origins).where(*mine)).mappings().first()
            version = self._version_in_force(connection, published)
            waiting = connection.execute(select(holds).where(*live, own).order_by(holds.c.id)).mappings().all()
            suppressed = connection.execute(active_in(published)).mappings().all()
            mark = mark_of(connection, published)
        return ListRecords(
            OriginRecord(**origin) if origin else None,
            VersionRecord(**version) if version else None,
            tuple(HoldRecord(**row) for row in waiting),
            tuple(Suppression(**row) for row in suppressed),
            mark,
        )

    def heads(self) -> tuple[HeadRecord, ...]:
        """Return every head, sorted by list."""
        return tuple(HeadRecord(**row) for row in self._rows(select(heads).order_by(heads.c.list)))

    def version(self, name: ListName, version: int) -> VersionRecord | None:
        """Return one published version; None if it is unknown or was forgotten."""
        rows = self._rows(select(versions).where(versions.c.list == name, versions.c.version == version))
        return VersionRecord(**rows[0]) if rows else None

    def version_at(self, name: ListName, at: datetime) -> VersionRecord | None:
        """Return the version of a list in force at a time; None if none that is kept was published by then."""
        statement = select(versions).where(versions.c.list == name, versions.c.created_at <= at)
        rows = self._rows(statement.order_by(versions.c.version.desc()).limit(1))
        return VersionRecord(**rows[0]) if rows else None

    def version_after(self, name: ListName, version: int) -> VersionRecord | None:
        """Return the kept version that follows ``version``, whose direct successor may have been forgotten."""
        newer = select(versions).where(versions.c.list == name, versions.c.version > version)
        rows = self._rows(newer.order_by(versions.c.version).limit(1))
        return VersionRecord(**rows[0]) if rows else None

    def oldest_version(self, name: ListName) -> VersionRecord | None:
        """Return the oldest kept version of a list; None if there is no such list."""
        rows = self._rows(select(versions).where(versions.c.list == name).order_by(versions.c.version).limit(1))
        return VersionRecord(**rows[0]) if rows else None

    def versions(self, name: ListName, limit: int | None = None) -> tuple[VersionRecord, ...]:
        """Return the published versions of a list with their manifests, newest first."""
        statement = select(versions).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(limit)
        return tuple(VersionRecord(**row) for row in self._rows(statement))

    def each_version(self, name: ListName, since: int = 0) -> Iterator[VersionRecord]:
        """Yield the published versions of a list from number ``since`` on, oldest first, some at a time."""
        while True:
            newer = (versions.c.list == name, versions.c.version >= since)
            rows = self._rows(select(versions).where(*newer).order_by(versions.c.version).limit(_AT_ONCE))
            for row in rows:
                yield VersionRecord(**row)
            if len(rows) < _AT_ONCE:
                return
            since = rows[-1]["version"] + 1

    def head_rows(self, name: ListName | None = None) -> dict[ListName, int]:
        """Return the number of entries in force in each head, or in that of ``name``, without reading the manifests."""
        of_head = (versions.c.list == heads.c.list, versions.c.version == heads.c.version)
        rows = select(versions.c.rows).where(*of_head).scalar_subquery()  # a join would read every version there is
        statement = select(heads.c.list, heads.c.version, rows.label("rows"))
        found = self._rows(statement if name is None else statement.where(heads.c.list == name))
        for row in found:
            if row["rows"] is None:
                raise self._lacks(row["list"], row["version"])
        return {ListName(row["list"]): int(row["rows"]) for row in found}

    def _version_in_force(self, connection: Connection, name: ListName) -> RowMapping | None:
        """Return the version that a list's head names; None if it was never published.

        Raises `StoreError` if somebody removed the row of the head or of the version: the list is published all the
        same, and must not be treated as a new one.
        """
        of_head = (versions.c.list == heads.c.list) & (versions.c.version == heads.c.version)
        statement = select(versions).join(heads, of_head).where(heads.c.list == name)
        found = connection.execute(statement).mappings().first()
        if found is None:
            head = select(heads.c.version).where(heads.c.list == name)
            newest = select(func.max(versions.c.version)).where(versions.c.list == name)
            named = connection.execute(select(func.coalesce(head.scalar_subquery(), newest.scalar_subquery()))).scalar()
            if named is not None:
                raise self._lacks(name, named)
        return found

    def _lacks(self, name: str, version: int) -> StoreError:
        return StoreError(
            f"the catalog lacks a row about version {version} of {name}, which is published",
            hint=f"`syncd verify` names every fault; {self._database.restore}",
        )

    def history(self, name: ListName, limit: int) -> tuple[VersionSummary, ...]:
        """Return the newest ``limit`` versions of a list without their manifests, oldest first."""
        wanted = [versions.c[field.name] for field in fields(VersionSummary)]
        statement = select(*wanted).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(limit)
        return tuple(VersionSummary(**row) for row in reversed(self._rows(statement)))


def compare_origin(connection: Connection, source: str, name: ListName, before: int) -> None:
    """Raise `LostRaceError` if an origin is no longer at revision ``before`` (0: absent)."""
    key = (origins.c.source == source, origins.c.list == name)
    revision = connection.execute(select(origins.c.revision).where(*key)).scalar_one_or_none() or 0
    _refuse_unless(revision == before, name)


def drop_origin(connection: Connection, dropped: OriginDrop) -> None:
    """Delete the origin of a list that is no longer followed."""
    key = (origins.c.source == dropped.source, origins.c.list == dropped.list)
    connection.execute(delete_from(origins).where(*key))


def compare_head(connection: Connection, move: HeadMove) -> None:
    """Raise `LostRaceError` if a head is no longer the version that ``move`` was computed from."""
    name = move.manifest.list
    head = connection.execute(select(heads.c.version).where(heads.c.list == name)).scalar_one_or_none()
    _refuse_unless(head == move.before, name)
    newest = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == name)).scalar_one()
    _refuse_unless(newest is None or newest < move.manifest.version, name)


def _refuse_unless(unchanged: bool, name: ListName) -> None:
    if not unchanged:
        raise LostRaceError(
            f"another process published {name} in the meantime",
            hint="nothing was changed; the next sync continues from the newer version",
        )


def put_head(connection: Connection, move: HeadMove, note: HeadNote, now: datetime) -> None:
    """Add a list's next version and move its head there."""
    manifest = move.manifest
    labels = note.labels
    if labels is None and move.before is not None:
        before = (versions.c.list == manifest.list, versions.c.version == move.before)
        labels = connection.execute(select(versions.c.labels).where(*before)).scalar_one_or_none()
    version = VersionRecord(
        list=manifest.list,
        version=manifest.version,
        manifest_sha256=move.sha256,
        manifest=move.content,
        created_at=now,
        sync_id=note.sync_id,
        plan=note.plan,
        counts=note.counts,
        rows=manifest.rows,
        labels=labels,
    )
    head = HeadRecord(
        list=manifest.list,
        source=note.source,
        version=manifest.version,
        manifest_sha256=move.sha256,
        origin_serial=note.origin_serial,
        published_at=now,
        retired_at=manifest.retired.since if manifest.retired else None,
    )
    connection.execute(insert(versions).values(values_of(version)))
    put_record(connection, heads, head)
