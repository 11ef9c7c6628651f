"""All rows of a catalog, moved from one database to another, exactly as they are stored."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, Table, func, insert, select

from syncd.acts import Act
from syncd.catalog.audit import append, check_chain, head_of
from syncd.catalog.database import Database
from syncd.catalog.records import AuditEntry
from syncd.catalog.schema import bring_up, create
from syncd.catalog.sqlite import SqliteDatabase, remove_database
from syncd.catalog.tables import Stored, audit, daemons, leader, metadata, order_answers, orders, usable
from syncd.errors import RefusedError, StoreError
from syncd.files import PRIVATE_FILE, storage, temporary_path

_AT_ONCE: Final = 500
"""Rows read and written at a time."""


def _as_stored(table: Table) -> Table:
    """Return a table with the same columns, whose values are those that the database stores."""
    columns = (
        Column(column.name, column.type.impl if isinstance(column.type, Stored) else column.type)
        for column in table.columns
    )
    return Table(table.name, MetaData(), *columns)


_NOT_COPIED: Final = frozenset({usable, leader, daemons, orders, order_answers})
"""Of the schema itself, and of the daemons that run on one database: on another one nobody leads yet."""
TABLES: Final = tuple((table, _as_stored(table)) for table in metadata.sorted_tables if table not in _NOT_COPIED)
"""Each table of the state, those first that others refer to, and the same with its values as stored."""


def copy_rows(source: Connection, target: Connection) -> dict[str, int]:
    """Copy every row into empty tables of the same schema; return the number of rows of each table."""
    return {table.name: _copy_table(source, target, table, stored) for table, stored in TABLES}


def _copy_table(source: Connection, target: Connection, table: Table, stored: Table) -> int:
    copied = 0
    keys = [stored.c[column.name] for column in table.primary_key]
    ordered = select(stored).order_by(*keys)
    with source.execute(ordered, execution_options={"yield_per": _AT_ONCE}) as rows:
        for some in rows.mappings().partitions():
            target.execute(insert(stored), [dict(row) for row in some])
            copied += len(some)
    return copied


def count_rows(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {
        table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one()) for table, _ in TABLES
    }


def move(source: Database, target: Database, entry: AuditEntry) -> int:
    """Copy a whole catalog into an empty database, in one transaction, with an audit entry; return the number of rows.

    What was copied is counted, and the chain of its audit log is recomputed, before anything is committed. Raises
    `RefusedError`, and changes nothing, if ``target`` has tables; `StoreError`.
    """
    with source.reading() as old, target.migrating() as new:
        if target.tables(new):
            raise RefusedError(
                f"{target.name} is not empty", hint="create an empty database and name it; nothing was changed"
            )
        create(target, new)
        copied = copy_rows(old, new)
        target.set_counters(new, source.counters(old))
        _compare(old, new, copied, target.name)
        append(new, entry)
        return sum(copied.values())


def is_copied(source: Database, target: Database, act: Act) -> bool:
    """Return True if ``target`` begins with the audit log of ``source``, followed by a record of that act."""
    with source.reading() as old, target.reading() as new:
        head = head_of(old)
        after = select(audit.c.act).where(audit.c.number == head.records + 1)
        same = select(audit.c.number).where(audit.c.number == head.records, audit.c.sha256 == head.head)
        if not target.tables(new) or new.execute(same).first() is None:
            return False
        return new.execute(after).scalar_one_or_none() == act.name()


def _compare(old: Connection, new: Connection, copied: Mapping[str, int], name: str) -> None:
    faults = check_chain(new).faults
    if not count_rows(old) == count_rows(new) == copied or head_of(old) != head_of(new) or faults:
        raise StoreError(
            f"the copy in {name} is not the same as the catalog that was copied",
            hint="run `syncd verify` and `syncd audit verify` first; nothing was changed",
        )


def write_file(database: Database, target: Path) -> None:
    """Write a consistent copy of a catalog to ``target``: one file of SQLite, durably. Raises `StoreError`.

    A file is copied page by page, another database row by row.
    """
    if isinstance(database, SqliteDatabase):
        database.copy_file(target)
        return
    staged = temporary_path(target.parent)
    with storage(target, "write"):
        os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
    written = SqliteDatabase(staged, 0.0)
    try:
        bring_up(written)
        with database.reading() as source, written.writing() as copied:
            copy_rows(source, copied)
            written.set_counters(copied, database.counters(source))
        written.copy_file(target)
    finally:
        written.engine.dispose()
        remove_database(staged)
