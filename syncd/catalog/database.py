"""SQLite underneath: connections, transactions, copies, and its errors as ours."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, QueuePool, Select, Table, create_engine, event, insert, update
from sqlalchemy.exc import DBAPIError

from syncd.errors import StoreError
from syncd.files import PRIVATE_FILE, install_file, make_folder, storage, sync_folder, temporary_path

_BEGIN: Final = "syncd_begin"

_HINTS: Final = {
    sqlite3.SQLITE_FULL: "free disk space, then run the command again; nothing was changed",
    sqlite3.SQLITE_BUSY: "another process is writing to it; try again when that has finished",
    sqlite3.SQLITE_LOCKED: "another process is writing to it; try again when that has finished",
    sqlite3.SQLITE_READONLY: "run as the user that owns the folder; the file system may be mounted read-only",
    sqlite3.SQLITE_PERM: "run as the user that owns the folder, or correct its mode",
    sqlite3.SQLITE_CANTOPEN: "does it exist, may this user write to its folder, or is it mounted read-only?",
    sqlite3.SQLITE_CORRUPT: "stop the daemon, move catalog.sqlite3* aside and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "stop the daemon, move catalog.sqlite3* aside and restore it from a backup",
    sqlite3.SQLITE_IOERR: "free space where the disk is full; else check it and the kernel's log",
}


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """Turn an error of the database at ``path`` into a `StoreError` that says what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _store_error(path, error.orig) from error
    except sqlite3.Error as error:
        raise _store_error(path, error) from error


def _store_error(path: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code: https://sqlite.org/rescode.html
    return StoreError(f"cannot use the catalog {path}: {error}", hint=_HINTS.get(code, "see the file named above"))


def make_engine(path: Path, lock_wait: float, *, foreign_keys: bool = True) -> Engine:
    """Return an engine on the existing file ``path``; a writer waits ``lock_wait`` seconds for another.

    A transaction begins on that very file, or raises `StoreError`: open connections go on in one that was removed or
    replaced, and all that they write is lost with the process.
    """
    opened = _identity(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a file that vanished is an error, not a new empty catalog

    def connect() -> sqlite3.Connection:
        # isolation_level=None: the transactions are ours, not guessed by the driver from the statements
        connection = sqlite3.connect(uri, uri=True, timeout=lock_wait, isolation_level=None, check_same_thread=False)
        try:
            _configure(connection, foreign_keys=foreign_keys)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        max_overflow=-1,  # transactions are short: a thread never waits for a connection
        hide_parameters=True,
    )

    def begin(connection: Connection) -> None:
        if _identity(path) != opened:
            raise StoreError(
                f"the catalog {path} was removed or replaced while in use",
                hint="stop the daemon, move catalog.sqlite3* aside and restore it from a backup",
            )
        _begin(connection)

    event.listen(engine, "begin", begin)
    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _configure(connection: sqlite3.Connection, *, foreign_keys: bool) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"write-ahead logging is not available here (journal mode {mode})")
    connection.execute("PRAGMA synchronous=FULL")  # in WAL mode NORMAL may lose the newest commits in a power cut
    connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


@contextlib.contextmanager
def reading(engine: Engine, path: Path) -> Iterator[Connection]:
    """One consistent view. Raises `StoreError`."""
    with guard(path), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def writing(engine: Engine, path: Path) -> Iterator[Connection]:
    """One transaction that owns the write lock from its start: what it reads stays so. Raises `StoreError`."""
    with guard(path), engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


class Tables:
    """One database, as a part of the catalog reads it."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine

    def _rows(self, statement: Select[Any]) -> list[dict[str, Any]]:
        with reading(self._engine, self.path) as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]


def values_of(record: Any) -> dict[str, Any]:
    """A record's fields as column values; not `asdict`, which would take the values apart as well."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change the row whose columns have the values of ``key``, or add one.

    Two statements that every database has. Nobody adds the row in between: a transaction of `writing` owns the lock.
    """
    same = [table.c[name] == value for name, value in key.items()]
    if connection.execute(update(table).where(*same).values(**values)).rowcount == 0:
        connection.execute(insert(table).values({**key, **values}))


def damage(connection: Connection) -> tuple[str, ...]:
    """List what SQLite finds wrong with the file and its references. Reads all of it."""
    found = [str(one) for one in connection.exec_driver_sql("PRAGMA integrity_check").scalars()]
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    lost = [f"{len(dangling)} rows refer to others that are missing"] if dangling else []
    return tuple([one for one in found if one != "ok"] + lost)


def make_file(path: Path) -> None:
    """Make ``path`` where it does not exist, readable by its owner only. Raises `StoreError`."""
    make_folder(path.parent)
    with storage(path, "open the catalog"):
        # Never opened here: closing any descriptor of a database drops the locks that this process holds on it
        # through other connections (https://sqlite.org/howtocorrupt.html, section 2.2).
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFREG | PRIVATE_FILE)
            sync_folder(path.parent)
        if path.stat().st_mode & 0o077:  # a copy put back by hand
            path.chmod(PRIVATE_FILE)


def copy(engine: Engine, target: Path) -> None:
    """Put a consistent copy of the database at ``target``, in one file, durably. Raises `StoreError`."""
    staged = temporary_path(target.parent)
    with guard(target), storage(target, "write"):
        os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
        try:
            with contextlib.closing(engine.raw_connection()) as pooled:
                _copy_pages(pooled.driver_connection, staged)
            install_file(staged, target, PRIVATE_FILE)
        finally:
            staged.unlink(missing_ok=True)


def _copy_pages(source: Any, staged: Path) -> None:
    with contextlib.closing(sqlite3.connect(staged, isolation_level=None)) as copied:
        source.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")  # no second file: the copy alone is the whole database
