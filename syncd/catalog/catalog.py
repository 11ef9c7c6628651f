"""The catalog: origins, heads, versions, what is to be installed; `SyncTables`, `MatcherTables` and `AuditTables` add
sources with their syncs, matchers, and the audit log.

Every method is one short transaction: after a kill at any statement the catalog is as before it or as after it.
All raise `StoreError` where the disk is full, read-only or damaged, or another process holds the write lock too long.
Nothing here logs, and no digest of a list is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import JsonValue
from sqlalchemy import Connection, Select, Table, func, insert, select, update
from sqlalchemy import delete as delete_from

from syncd.catalog import database
from syncd.catalog.audit import AuditTables, append
from syncd.catalog.database import copy, make_engine, make_file, put, reading, values_of, writing
from syncd.catalog.matchers import MatcherTables
from syncd.catalog.records import (
    RETRUSTED,
    AuditEntry,
    HeadNote,
    HeadRecord,
    HoldEnd,
    HoldRecord,
    HoldState,
    ListRecords,
    OriginDrop,
    OriginRecord,
    Records,
    UpdateRecord,
    VersionRecord,
    VersionSummary,
    head_name,
)
from syncd.catalog.schema import bring_up
from syncd.catalog.syncs import SyncTables, put_source
from syncd.catalog.tables import heads, holds, origins, publications, signed_files, sources, updates, versions
from syncd.errors import LostRaceError, StoreError, UsageError
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.publish.ledger import Commit, CurrentVersion, HeadMove, Publication, SignedFiles
from syncd.trust.values import Freshness
from syncd.units import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from syncd.trust.repository import Repository

LOCK_WAIT: Final = 10.0
"""Seconds that a writer waits for another; no transaction here takes a hundredth of that."""


class Catalog(SyncTables, MatcherTables, AuditTables):
    """The SQL database of one state folder. Safe to share between threads and between processes."""

    @classmethod
    def open(cls, path: Path, *, lock_wait: float = LOCK_WAIT) -> Self:
        """Open the catalog at ``path``, made or migrated where needed.

        An older catalog is kept as ``<name>.before-<revision>``. Raises `UsageError` where a newer syncd wrote it or
        the file is no catalog, and `StoreError`.
        """
        make_file(path)
        bring_up(path, lock_wait)
        return cls(path, make_engine(path, lock_wait))

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # lists

    def origin(self, source: str, name: ListName) -> OriginRecord | None:
        """The verified state of a source's list."""
        found = self._rows(select(origins).where(origins.c.source == source, origins.c.list == name))
        return OriginRecord(**found[0]) if found else None

    def origins(self) -> tuple[OriginRecord, ...]:
        """Every origin, by source and list."""
        found = self._rows(select(origins).order_by(origins.c.source, origins.c.list))
        return tuple(OriginRecord(**row) for row in found)

    def touch_verified(self, source: str, serials: Mapping[ListName, int], now: datetime) -> None:
        """Record that each list was verified to be still at its serial; one that has moved since is left alone."""
        with writing(self._engine, self.path) as connection:
            for name, serial in serials.items():
                connection.execute(
                    update(origins)
                    .where(origins.c.source == source, origins.c.list == name, origins.c.serial == serial)
                    .values(verified_at=now)
                )

    def correct_verified(self, now: datetime) -> bool:
        """Record ``now`` for what was verified later than that, by a clock that ran ahead; return True if anything was.

        The verification was before ``now`` in any case, and from here on its age is told.
        """
        ahead = now + CLOCK_TOLERANCE
        verified = (origins.c.verified_at, sources.c.last_verified_at)
        if not any(self._rows(select(column).where(column > ahead).limit(1)) for column in verified):
            return False  # asked every minute: a write transaction would be in the way of others
        with writing(self._engine, self.path) as connection:
            for column in verified:
                connection.execute(update(column.table).where(column > ahead).values({column: now}))
        return True

    def head(self, name: ListName) -> HeadRecord | None:
        """What is published of a list now."""
        found = self._rows(select(heads).where(heads.c.list == name))
        return HeadRecord(**found[0]) if found else None

    def standing(self, source: str, name: ListName) -> ListRecords:
        """How one list of a source stands, at one moment."""
        published = head_name(source, name)
        mine = (origins.c.source == source, origins.c.list == name)
        alive = (holds.c.list == published, holds.c.state.in_((HoldState.OPEN, HoldState.DISCARDED)))
        with reading(self._engine, self.path) as connection:
            origin = connection.execute(select(origins).where(*mine)).mappings().first()
            version = connection.execute(_in_force(published)).mappings().first()
            waiting = connection.execute(select(holds).where(*alive).order_by(holds.c.id)).mappings().all()
        return ListRecords(
            OriginRecord(**origin) if origin else None,
            VersionRecord(**version) if version else None,
            tuple(HoldRecord(**row) for row in waiting),
        )

    def heads(self) -> tuple[HeadRecord, ...]:
        """Every head, by list."""
        return tuple(HeadRecord(**row) for row in self._rows(select(heads).order_by(heads.c.list)))

    def version(self, name: ListName, version: int) -> VersionRecord | None:
        """One published version."""
        found = self._rows(select(versions).where(versions.c.list == name, versions.c.version == version))
        return VersionRecord(**found[0]) if found else None

    def versions(self, name: ListName, limit: int | None = None) -> tuple[VersionRecord, ...]:
        """The published versions of a list, newest first, each with its manifest."""
        statement = select(versions).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(limit)
        return tuple(VersionRecord(**row) for row in self._rows(statement))

    def head_rows(self) -> dict[ListName, int]:
        """Entries in force in each head: all at once, and without the manifests."""
        statement = select(heads.c.list, versions.c.rows).join(
            versions, (versions.c.list == heads.c.list) & (versions.c.version == heads.c.version)
        )
        return {ListName(row["list"]): int(row["rows"]) for row in self._rows(statement)}

    def history(self, name: ListName, limit: int) -> tuple[VersionSummary, ...]:
        """The newest versions of a list, the oldest of them first, without their manifests."""
        wanted = [versions.c[one.name] for one in fields(VersionSummary)]
        statement = select(*wanted).where(versions.c.list == name).order_by(versions.c.version.desc()).limit(limit)
        return tuple(VersionSummary(**row) for row in reversed(self._rows(statement)))

    def prune_versions(self, name: ListName, keep: int) -> int:
        """Forget all but the newest ``keep`` versions of a list, never the head's; return how many."""
        newest = select(versions.c.version).where(versions.c.list == name).order_by(versions.c.version.desc())
        old = delete_from(versions).where(
            versions.c.list == name, versions.c.version.not_in(newest.limit(max(keep, 1)))
        )
        head = select(heads.c.version).where(heads.c.list == name)
        with writing(self._engine, self.path) as connection:
            return connection.execute(old.where(versions.c.version.not_in(head))).rowcount

    # holds

    def holds(self, name: ListName | None = None) -> tuple[HoldRecord, ...]:
        """The holds that are open or discarded, of one published list or of all, oldest first."""
        statement = select(holds).where(holds.c.state.in_((HoldState.OPEN, HoldState.DISCARDED))).order_by(holds.c.id)
        if name is not None:
            statement = statement.where(holds.c.list == name)
        return tuple(HoldRecord(**row) for row in self._rows(statement))

    def hold(self, number: int) -> HoldRecord | None:
        """One hold, however it stands."""
        found = self._rows(select(holds).where(holds.c.id == number))
        return HoldRecord(**found[0]) if found else None

    def last_hold_ends(self) -> dict[ListName, datetime]:
        """When a hold of each list ended last; lists of which none ever did are not named."""
        statement = select(holds.c.list, func.max(holds.c.ended_at).label("at")).group_by(holds.c.list)
        return {ListName(row["list"]): row["at"] for row in self._rows(statement.where(holds.c.ended_at.is_not(None)))}

    def update_of(self, hold: HoldRecord) -> UpdateRecord:
        """The update that a hold belongs to. Raises `StoreError` if it was lost."""
        found = self._rows(select(updates).where(updates.c.id == hold.update_id))
        if not found:
            raise StoreError(f"{self.path} has no update of hold {hold.id}", hint="run `syncd verify`")
        return UpdateRecord(**found[0])

    def prune_holds(self, keep: int) -> int:
        """Forget all but the newest ``keep`` ended holds, and updates that no hold names; return how many holds."""
        over = holds.c.state.not_in((HoldState.OPEN, HoldState.DISCARDED))
        newest = select(holds.c.id).where(over).order_by(holds.c.id.desc()).limit(max(keep, 1))
        with writing(self._engine, self.path) as connection:
            count = connection.execute(delete_from(holds).where(over, holds.c.id.not_in(newest))).rowcount
            named = select(holds.c.update_id)
            connection.execute(delete_from(updates).where(updates.c.id.not_in(named)))
            return count

    # publications

    def commit(self, commit: Commit[Records]) -> int:
        """The commit point: compare, then write origins, heads, versions and signed files; return the publication's id.

        Raises `LostRaceError`, and changes nothing, if an origin or a head is no longer what the caller started from.
        """
        records = commit.records or Records()
        with writing(self._engine, self.path) as connection:
            for moved in records.origins:
                _compare_origin(connection, moved.origin.source, moved.origin.list, moved.before)
            for dropped in records.dropped:
                _compare_origin(connection, dropped.source, dropped.list, dropped.before)
            for head in commit.heads:
                _compare_head(connection, head)
            for ended in records.ended:
                _end_hold(connection, ended, commit.created_at)
            _open_holds(connection, records)
            for moved in records.origins:
                _replace(connection, origins, moved.origin)
            for dropped in records.dropped:
                _drop_origin(connection, dropped)
            for head in commit.heads:
                _put_head(connection, head, records.notes[head.manifest.list], commit.created_at)
            if records.audit:
                append(connection, *records.audit)
            return _put_publication(connection, commit)

    def pending(self) -> tuple[Publication, ...]:
        """Publications committed and not yet installed, oldest first: the order in which to install them."""
        statement = select(publications).where(publications.c.installed.is_(False)).order_by(publications.c.id)
        with reading(self._engine, self.path) as connection:
            return tuple(
                Publication(row.id, row.created_at, row.kind, _files(connection, row.id))
                for row in connection.execute(statement).all()
            )

    def current(self, repository: "Repository", name: ListName) -> CurrentVersion | None:
        """See `Ledger.current`: the catalog knows it without the feed's metadata."""
        del repository
        found = self._rows(_in_force(name))
        return CurrentVersion(manifests.parse(found[0]["manifest"]), found[0]["manifest_sha256"]) if found else None

    def freshness(
        self, repository: "Repository", moved: Sequence[Manifest], records: Records | None, now: datetime
    ) -> dict[str, Freshness]:
        """See `Ledger.freshness`: that of the origins, once ``records`` are committed."""
        del repository, moved, now
        records = records or Records()
        following = [*self.origins(), *(one.origin for one in records.origins)]
        dropped = {(one.source, one.list) for one in records.dropped}
        return {
            head_name(one.source, one.list): Freshness(manifests.now_in_seconds(one.verified_at), one.serial)
            for one in following
            if (one.source, one.list) not in dropped
        }

    def installed(self, publication: int) -> None:
        """Record that every file of a publication is in place. Raises `StoreError` where there is no such one."""
        statement = update(publications).where(publications.c.id == publication).values(installed=True)
        with writing(self._engine, self.path) as connection:
            if connection.execute(statement).rowcount != 1:
                raise StoreError(f"{self.path} has no publication {publication}", hint="was it restored meanwhile?")

    def prune_publications(self, keep: int) -> int:
        """Forget all but the newest ``keep`` publications, never the newest nor one not installed; return how many."""
        newest = select(publications.c.id).order_by(publications.c.id.desc()).limit(max(keep, 1))
        statement = delete_from(publications).where(publications.c.installed, publications.c.id.not_in(newest))
        with writing(self._engine, self.path) as connection:
            return connection.execute(statement).rowcount

    # the file itself

    def damage(self) -> tuple[str, ...]:
        """What SQLite finds wrong with the file and its references; () where it is sound. Reads all of it."""
        with reading(self._engine, self.path) as connection:
            return database.damage(connection)

    def retrust(self, source: str, memory: Mapping[str, JsonValue], entry: AuditEntry) -> None:
        """Trust a source in another way, as its new memory says, in one transaction with the audit entry.

        Every serial of its lists is reset: what comes first under the new trust is compared with what is held, whatever
        its number.
        """
        with writing(self._engine, self.path) as connection:
            put_source(connection, source, memory=memory)
            reset = update(origins).where(origins.c.source == source)
            connection.execute(reset.values(serial=RETRUSTED, fork=None, revision=origins.c.revision + 1))
            append(connection, entry)

    def backup(self, target: Path) -> None:
        """Put a consistent copy at ``target``, durably; syncs may go on. Raises `UsageError` where a file is there."""
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} exists already", hint="name a file that does not exist; nothing was written")
        copy(self._engine, target)


def _in_force(name: ListName) -> Select[Any]:
    """The version of a list that its head is at."""
    of = (versions.c.list == heads.c.list) & (versions.c.version == heads.c.version)
    return select(versions).join(heads, of).where(heads.c.list == name)


def _compare_origin(connection: Connection, source: str, name: ListName, before: int) -> None:
    key = (origins.c.source == source, origins.c.list == name)
    found = connection.execute(select(origins.c.revision).where(*key)).scalar_one_or_none() or 0
    _refuse_unless(found == before, name)


def _drop_origin(connection: Connection, dropped: OriginDrop) -> None:
    key = (origins.c.source == dropped.source, origins.c.list == dropped.list)
    connection.execute(delete_from(origins).where(*key))


def _compare_head(connection: Connection, move: HeadMove) -> None:
    name = move.manifest.list
    head = connection.execute(select(heads.c.version).where(heads.c.list == name)).scalar_one_or_none()
    _refuse_unless(head == move.before, name)
    newest = connection.execute(select(func.max(versions.c.version)).where(versions.c.list == name)).scalar_one()
    _refuse_unless(newest is None or newest < move.manifest.version, name)


def _refuse_unless(unchanged: bool, name: ListName) -> None:
    if not unchanged:
        raise LostRaceError(
            f"another process published {name} in the meantime",
            hint="nothing was changed; the next sync starts from there",
        )


def _end_hold(connection: Connection, ended: HoldEnd, now: datetime) -> None:
    statement = update(holds).where(holds.c.id == ended.id, holds.c.state == ended.before)
    values = {"state": ended.state, "ended_at": now, "ended_by": ended.by, "ended_reason": ended.reason}
    if connection.execute(statement.values(values)).rowcount != 1:
        raise LostRaceError(f"hold {ended.id} was ended in the meantime", hint="`syncd holds` shows those that wait")


def _open_holds(connection: Connection, records: Records) -> None:
    update_id = None
    if records.update is not None:
        update_id = _number(connection, updates, records.update)
    for hold in records.opened:
        if update_id is None:
            raise ValueError("a hold belongs to an update")
        _number(connection, holds, replace(hold, update_id=update_id))


def _number(connection: Connection, table: Table, record: Any) -> int:
    """Insert a record whose ``id`` the database gives; return that."""
    values = values_of(record)
    del values["id"]
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    return int(key[0]) if key else 0


def _put_head(connection: Connection, move: HeadMove, note: HeadNote, now: datetime) -> None:
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
    _replace(connection, heads, head)


def _replace(connection: Connection, table: Table, record: Any) -> None:
    values = values_of(record)
    key = {column.name: values.pop(column.name) for column in table.primary_key}
    put(connection, table, key, values)


def _put_publication(connection: Connection, commit: Commit[Records]) -> int:
    statement = insert(publications).values(created_at=commit.created_at, kind=commit.kind, installed=False)
    key = connection.execute(statement).inserted_primary_key
    publication_id: int = key[0]  # type: ignore[index]  # None only after an insert of several rows
    for position, (path, content) in enumerate(commit.files):
        file = {"publication_id": publication_id, "position": position, "path": path, "content": content}
        connection.execute(insert(signed_files).values(file))
    return publication_id


def _files(connection: Connection, publication_id: int) -> SignedFiles:
    statement = (
        select(signed_files.c.path, signed_files.c.content)
        .where(signed_files.c.publication_id == publication_id)
        .order_by(signed_files.c.position)
    )
    return tuple((path, content) for path, content in connection.execute(statement))
