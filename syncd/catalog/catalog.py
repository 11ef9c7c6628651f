"""The catalog: one SQL database with the operator's state, and the ledger in which publications are committed.

`ListTables`, `SizeTables`, `HoldTables`, `SuppressionTables`, `CanaryTables`, `HistoryTables`, `SyncTables`,
`MatcherTables`, `AuditTables`, `FleetTables`, `OrderTables`, `UnnamedTables`, `SignInTables`, `NextKeyTables` and
`AnswersTables` each keep one subject, `PruningTables` forgets; `Catalog` joins them and adds the commit point.

Every method is one short transaction: if the process is killed at any statement, the catalog is as before it or as
after it. All raise `StoreError` if the disk is full, read-only or damaged, or if another process holds the write lock
too long. Nothing here logs; the only digests stored are those that an operator
suppressed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import JsonValue
from sqlalchemy import Connection, Row, func, insert, select, update

from syncd.acts import Act
from syncd.catalog.answers import AnswersTables, put_answers
from syncd.catalog.audit import AuditTables, append
from syncd.catalog.canaries import CanaryTables, put_mark
from syncd.catalog.changes import Records
from syncd.catalog.database import LOCK_WAIT, CatalogPlace, open_database, put_record
from syncd.catalog.effects import effects
from syncd.catalog.fleet import FleetTables
from syncd.catalog.history import HistoryTables, put_history
from syncd.catalog.holds import HoldTables, end_hold, held, open_holds
from syncd.catalog.lead import database_time
from syncd.catalog.lists import (
    ListTables,
    compare_head,
    compare_origin,
    drop_origin,
    put_head,
    replace_future,
)
from syncd.catalog.matchers import MatcherTables
from syncd.catalog.next_keys import NextKeyTables, end_announcements
from syncd.catalog.orders import OrderTables
from syncd.catalog.postgres import ConnectionLost
from syncd.catalog.pruning import PruningTables
from syncd.catalog.records import RETRUSTED, AuditEntry, head_name
from syncd.catalog.schema import bring_up
from syncd.catalog.sign_ins import SignInTables
from syncd.catalog.sizes import SizeTables, put_sizes
from syncd.catalog.suppressions import SuppressionTables, change_suppression, put_suppressions
from syncd.catalog.syncs import SyncTables, put_source
from syncd.catalog.tables import origins, publications, signed_files
from syncd.catalog.transfer import count_rows, is_copied, move, write_file
from syncd.catalog.unnamed import UnnamedTables
from syncd.errors import LostRaceError, StoreError, UsageError
from syncd.feed.layout import TIMESTAMP
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.model import ListName
from syncd.publish.ledger import Commit, CurrentVersion, Publication, SignedFiles
from syncd.trust.values import Freshness

if TYPE_CHECKING:
    from syncd.trust.repository import Repository


class Catalog(
    ListTables,
    SizeTables,
    HoldTables,
    SuppressionTables,
    CanaryTables,
    HistoryTables,
    SyncTables,
    MatcherTables,
    AuditTables,
    PruningTables,
    FleetTables,
    OrderTables,
    UnnamedTables,
    SignInTables,
    NextKeyTables,
    AnswersTables,
):
    """The SQL database of one state folder. Safe to share between threads and between processes."""

    @classmethod
    def open(cls, place: CatalogPlace, *, lock_wait: float = LOCK_WAIT) -> Self:
        """Open the catalog at ``place``; create or migrate it if needed.

        A file is copied to ``<name>.before-<revision>`` before it is migrated. Raises `UsageError` if a newer syncd
        wrote it or it is not a catalog, `ConfigError`, and `StoreError`.
        """
        database = open_database(place, lock_wait)
        try:
            bring_up(database)
        except BaseException:
            database.engine.dispose()
            raise
        return cls(database)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # publications

    def commit(self, commit: Commit[Records]) -> int:
        """Commit a publication: compare, then write origins, heads, versions and signed files; return its id.

        Raises `LostRaceError`, and changes nothing, if another publication was committed since ``commit.after``, or an
        origin or a head is no longer what the caller started from. If the connection to a server is lost while it
        commits, this reads back whether it did; raises `StoreError` if that cannot be read either.
        """
        made: list[int] = []
        try:
            with self._leading() as connection:
                made.append(self._write(connection, commit))
        except ConnectionLost as lost:
            if not made or not self._is_committed(made[0], commit, lost):
                raise
        return made[0]

    def _is_committed(self, number: int, commit: Commit[Records], lost: ConnectionLost) -> bool:
        """Return True if a publication was committed although nobody said so; wait until that is certain."""
        try:
            with self._database.writing() as connection:  # its lock is free once the lost transaction has ended
                row = connection.execute(select(publications).where(publications.c.id == number)).first()
                found = None if row is None else _publication(connection, row)
        except StoreError:
            raise ConnectionLost(
                f"{lost.message}; it is not known whether a publication was committed",
                hint=f"nothing of it is visible yet, and the next sync reads back whether it was; {lost.hint}",
            ) from lost
        same = (commit.created_at, commit.kind, commit.files)
        return found is not None and (found.created_at, found.kind, found.files) == same

    def _write(self, connection: Connection, commit: Commit[Records]) -> int:
        records = commit.records or Records()
        _compare_last(connection, commit.after)
        for moved in records.origins:
            compare_origin(connection, moved.origin.source, moved.origin.list, moved.before)
        for dropped in records.dropped:
            compare_origin(connection, dropped.source, dropped.list, dropped.before)
        for head in commit.heads:
            compare_head(connection, head)
        for ended in records.ended:
            end_hold(connection, ended, commit.created_at)
        opened = open_holds(connection, records)
        over = [held(connection, ended.id) for ended in records.ended]
        put_suppressions(connection, records.suppressed, opened[0].id if opened else None)
        for correction in records.corrected:
            change_suppression(connection, correction)
        if records.rotated:
            end_announcements(connection, records.rotated)
        put_history(connection, commit)
        _put_origins(connection, records)
        put_answers(connection, records.answers)
        for head in commit.heads:
            note = records.notes[head.manifest.list]
            put_head(connection, head, note, commit.created_at)
            put_sizes(connection, head, note, commit.created_at)
        append(connection, *effects(commit, opened, over), *records.audit)
        return _put_publication(connection, commit)

    def last_commit(self) -> int:
        """See `Ledger.last_commit`."""
        with self._database.reading() as connection:
            return _last_commit(connection)

    def last_published(self) -> Publication | None:
        """See `Ledger.last_published`."""
        timestamps = select(func.max(signed_files.c.publication_id)).where(signed_files.c.path == TIMESTAMP)
        statement = select(publications).where(publications.c.id == timestamps.scalar_subquery())
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
            return None if row is None else _publication(connection, row)

    def pending(self) -> tuple[Publication, ...]:
        """Return publications committed and not yet installed, oldest first: the order in which to install them."""
        statement = select(publications).where(publications.c.installed.is_(False)).order_by(publications.c.id)
        with self._database.reading() as connection:
            return tuple(_publication(connection, row) for row in connection.execute(statement).all())

    def current(self, repository: "Repository", name: ListName) -> CurrentVersion | None:
        """See `Ledger.current`: the catalog knows it without the feed's metadata."""
        del repository
        return self.in_force(name)

    def in_force(self, name: ListName) -> CurrentVersion | None:
        """Return the version of a list that is in force; None if it was never published."""
        with self._database.reading() as connection:
            row = self._version_in_force(connection, name)
        return CurrentVersion(manifests.parse(row["manifest"]), row["manifest_sha256"]) if row else None

    def freshness(
        self, repository: "Repository", moved: Sequence[Manifest], records: Records | None, now: datetime
    ) -> dict[str, Freshness]:
        """See `Ledger.freshness`: that of the origins, once ``records`` are committed."""
        del repository, moved, now
        records = records or Records()
        following = [*self.origins(), *(move.origin for move in records.origins)]
        dropped = {(drop.source, drop.list) for drop in records.dropped}
        return {
            head_name(origin.source, origin.list): Freshness(
                manifests.now_in_seconds(origin.verified_at), origin.serial
            )
            for origin in following
            if (origin.source, origin.list) not in dropped
        }

    def installed(self, publication: int) -> None:
        """Record that every file of a publication is in place. Raises `StoreError` if it is unknown."""
        statement = (
            update(publications)
            .where(publications.c.id == publication)
            .values(installed=True, installed_at=database_time())
        )
        with self._database.writing() as connection:
            self._database.notify(connection)
            if connection.execute(statement).rowcount != 1:
                raise StoreError(
                    f"{self._database.name} does not know publication {publication}",
                    hint="check whether the catalog was restored from a backup while syncd was running",
                )

    def retrust(self, source: str, memory: Mapping[str, JsonValue], entry: AuditEntry) -> None:
        """Pin another trust root for a source, as its new memory says, in one transaction with the audit entry.

        The serial of each of its lists is reset: the first version under the new root is compared with the one held,
        whatever its number.
        """
        with self._leading() as connection:
            put_source(connection, source, memory=memory)
            reset = update(origins).where(origins.c.source == source)
            connection.execute(reset.values(serial=RETRUSTED, fork=None, revision=origins.c.revision + 1))
            append(connection, entry)

    def accept_clock(
        self, time: datetime, memories: Mapping[str, Mapping[str, JsonValue]], now: datetime, entry: AuditEntry
    ) -> None:
        """Replace memories of sources, replace verification times in the future with ``time``, and add the entry."""
        with self._leading() as connection:
            for name, memory in memories.items():
                put_source(connection, name, memory=memory)
            replace_future(connection, time, now)
            append(connection, entry)

    # the database itself

    def damage(self) -> tuple[str, ...]:
        """Return the faults that the database finds in itself; () if it is sound. Reads all of it."""
        with self._database.reading() as connection:
            return self._database.damage(connection)

    def row_counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        with self._database.reading() as connection:
            return count_rows(connection)

    def copy_to(self, place: CatalogPlace, actor: str, act: Act, now: datetime) -> int:
        """Copy the whole catalog to an empty database, with an act that says so; return the number of rows.

        Does nothing if that was done already. Raises `ConfigError`, `RefusedError` if the database is not empty,
        `StoreError`.
        """
        target = open_database(place, LOCK_WAIT)
        try:
            if is_copied(self._database, target, act):
                return sum(self.row_counts().values())
            return move(self._database, target, AuditEntry(now, actor, act))
        finally:
            target.engine.dispose()

    def backup(self, target: Path) -> None:
        """Write a consistent copy to ``target``, a file of SQLite, durably; syncs may go on.

        Raises `UsageError` if ``target`` exists.
        """
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} exists already", hint="name a file that does not exist; nothing was written")
        write_file(self._database, target)


def _last_commit(connection: Connection) -> int:
    return connection.execute(select(func.max(publications.c.id))).scalar_one() or 0


def _compare_last(connection: Connection, after: int | None) -> None:
    if after is not None and _last_commit(connection) != after:
        raise LostRaceError("another process published in the meantime", hint="nothing was changed; run this again")


def _put_origins(connection: Connection, records: Records) -> None:
    for moved in records.origins:
        put_record(connection, origins, moved.origin)
    for dropped in records.dropped:
        drop_origin(connection, dropped)
    for mark in records.marks:
        put_mark(connection, mark)


def _put_publication(connection: Connection, commit: Commit[Records]) -> int:
    statement = insert(publications).values(created_at=commit.created_at, kind=commit.kind, installed=False)
    key = connection.execute(statement).inserted_primary_key
    publication_id: int = key[0]  # type: ignore[index]  # None only after an insert of several rows
    for position, (path, content) in enumerate(commit.files):
        file = {"publication_id": publication_id, "position": position, "path": path, "content": content}
        connection.execute(insert(signed_files).values(file))
    return publication_id


def _publication(connection: Connection, row: Row[Any]) -> Publication:
    return Publication(row.id, row.created_at, row.kind, _files(connection, row.id))


def _files(connection: Connection, publication_id: int) -> SignedFiles:
    statement = (
        select(signed_files.c.path, signed_files.c.content)
        .where(signed_files.c.publication_id == publication_id)
        .order_by(signed_files.c.position)
    )
    return tuple((path, content) for path, content in connection.execute(statement))
