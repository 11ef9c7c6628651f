"""The database of the catalog: what differs between SQLite and PostgreSQL, behind one protocol.

Tables and statements are the same on both; `syncd.catalog.sqlite` and `syncd.catalog.postgres` have the rest.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, Select, Table, insert, update

from syncd.catalog.lead import check_lead
from syncd.catalog.postgres import PostgresDatabase
from syncd.catalog.sqlite import SqliteDatabase
from syncd.database_address import DatabaseAddress

LOCK_WAIT: Final = 10.0
"""Seconds that a writer waits for another; no transaction here takes a hundredth of that."""
CatalogPlace = Path | DatabaseAddress
"""A file of SQLite, or a database of a PostgreSQL server."""


class Database(Protocol):
    """One open database. Safe to share between threads."""

    engine: Engine
    name: str
    """for messages: a path, or an address without a password"""
    restore: str
    """the hint for a catalog that is damaged or lost"""
    before_migration: str
    """what to restore if a newer syncd migrated it"""
    where: str
    """the hint for a database of another program"""
    created_whole: bool
    """true: an empty database gets all tables at once; false: by the migrations, which old catalogs need anyway"""

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that only reads: one consistent view. Raises `StoreError`."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that owns the write lock from its start: nobody changes what it reads.

        Raises `StoreError`.
        """

    def migrating(self) -> AbstractContextManager[Connection]:
        """Open a `writing` transaction that may change tables, and check the result before it is committed."""

    def keep_before(self, revision: str) -> None:
        """Keep the tables of ``revision`` aside before they are migrated, if the database can."""

    def tables(self, connection: Connection) -> frozenset[str]:
        """Return the names of the tables."""

    def damage(self, connection: Connection) -> tuple[str, ...]:
        """Return the faults that the database finds in its files and references. Reads all of it."""

    def counters(self, connection: Connection) -> Mapping[str, int]:
        """Return, for each table whose numbers are never used again, the last number that was given out."""

    def set_counters(self, connection: Connection, counters: Mapping[str, int]) -> None:
        """Continue these numbers."""

    def close(self) -> None:
        """Close every connection."""

    def notify(self, connection: Connection) -> None:
        """Let a transaction end the waits of other daemons once it is committed."""

    def wait_for_notice(self, seconds: float, stop: threading.Event) -> None:
        """Wait for a transaction that called `notify`, at most ``seconds``, or until ``stop`` is set.

        For one thread. A notice may be lost: look for changes after every wait.
        """


def open_database(place: CatalogPlace, lock_wait: float) -> Database:
    """Open the database at a place; a writer waits ``lock_wait`` seconds for another.

    A missing file is created; a database of a server must exist. Raises `ConfigError`, `StoreError`.
    """
    return SqliteDatabase(place, lock_wait) if isinstance(place, Path) else PostgresDatabase(place, lock_wait)


def is_empty(address: DatabaseAddress) -> bool:
    """Return True if a server's database has no tables yet. Raises `ConfigError`, `StoreError`."""
    database = PostgresDatabase(address, LOCK_WAIT)
    try:
        with database.reading() as connection:
            return not database.tables(connection)
    finally:
        database.engine.dispose()


class Tables:
    """Base of the parts of the catalog: one database, and a way to read it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.epoch: Callable[[], int | None] = lambda: None
        """returns the epoch in which this process leads; None if it does not, or if no other daemon may"""

    @contextmanager
    def _leading(self) -> Iterator[Connection]:
        """Open a transaction that publishes or that only a leader may write; see `check_lead`."""
        with self._database.writing() as connection:
            check_lead(connection, self.epoch())
            yield connection

    def _rows(self, statement: Select[Any]) -> list[dict[str, Any]]:
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]


def values_of(record: Any) -> dict[str, Any]:
    """Return a record's fields as column values; unlike `asdict`, leaves nested dataclasses whole."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change the row whose columns have the values of ``key``, or add it.

    Uses only statements that every database has. Nobody adds the row in between: `writing` owns the lock.
    """
    same = [table.c[name] == value for name, value in key.items()]
    if connection.execute(update(table).where(*same).values(**values)).rowcount == 0:
        connection.execute(insert(table).values({**key, **values}))


def put_record(connection: Connection, table: Table, record: Any) -> None:
    """Change the row with the primary key of ``record``, or add it."""
    values = values_of(record)
    key = {column.name: values.pop(column.name) for column in table.primary_key}
    put(connection, table, key, values)
