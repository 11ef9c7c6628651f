"""SQLite: connections, transactions and copies, and its errors turned into ours."""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, QueuePool, Select, Table, create_engine, event, insert, update
from sqlalchemy.exc import DBAPIError

from syncd.catalog.lead import check_lead
from syncd.errors import RESTORE_CATALOG, StoreError
from syncd.files import PRIVATE_FILE, install_file, make_folder, storage, sync_folder, temporary_path
from syncd.units import count

_BEGIN: Final = "syncd_begin"

_HINTS: Final = {
    sqlite3.SQLITE_FULL: "free disk space, then run the command again; nothing was changed",
    sqlite3.SQLITE_BUSY: "another process is writing to it; try again when that process has finished",
    sqlite3.SQLITE_LOCKED: "another process is writing to it; try again when that process has finished",
    sqlite3.SQLITE_READONLY: "run as the user that owns the folder, and check that the disk is not mounted read-only",
    sqlite3.SQLITE_PERM: "run as the user that owns the folder, or correct its mode",
    sqlite3.SQLITE_CANTOPEN: (
        "check that it exists, that this user may write to its folder, and that the disk is not mounted read-only"
    ),
    sqlite3.SQLITE_CORRUPT: RESTORE_CATALOG,
    sqlite3.SQLITE_NOTADB: RESTORE_CATALOG,
    sqlite3.SQLITE_IOERR: "free disk space if the disk is full; otherwise check the disk and the kernel's log",
}


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """Turn an error of the database at ``path`` into a `StoreError` with a hint."""
    try:
        yield
    except DBAPIError as error:
        raise _store_error(path, error.orig) from error
    except sqlite3.Error as error:
        raise _store_error(path, error) from error


def _store_error(path: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code: https://sqlite.org/rescode.html
    return StoreError(
        f"cannot use the catalog {path}: {error}", hint=_HINTS.get(code, "check its disk, owner and mode")
    )


def make_engine(path: Path, lock_wait: float, *, foreign_keys: bool = True) -> Engine:
    """Return an engine on the existing file ``path``; a writer waits ``lock_wait`` seconds for another.

    A transaction raises `StoreError` if ``path`` is no longer the file that was opened: open connections would go on
    writing to the removed file, and all of that would be lost with the process.
    """
    opened = _identity(path)
    uri = f"{path.absolute().as_uri()}?mode=rw"  # a missing file is an error, not a new empty catalog

    def connect() -> sqlite3.Connection:
        # isolation_level=None: we begin transactions; the driver does not guess them from the statements
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
            raise StoreError(f"the catalog {path} was removed or replaced while in use", hint=RESTORE_CATALOG)
        _begin(connection)

    event.listen(engine, "begin", begin)
    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
    """Open a transaction that only reads: one consistent view. Raises `StoreError`."""
    with guard(path), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def writing(engine: Engine, path: Path) -> Iterator[Connection]:
    """Open a transaction that owns the write lock from its start: nobody changes what it reads. Raises `StoreError`."""
    with guard(path), engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


class Tables:
    """Base of the parts of the catalog: one database, and a way to read it."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self.epoch: Callable[[], int | None] = lambda: None
        """returns the epoch in which this process leads; None if it does not, or if no other daemon may"""

    @contextlib.contextmanager
    def _leading(self) -> Iterator[Connection]:
        """Open a transaction that publishes or that only a leader may write; see `check_lead`."""
        with writing(self._engine, self.path) as connection:
            check_lead(connection, self.epoch())
            yield connection

    def _rows(self, statement: Select[Any]) -> list[dict[str, Any]]:
        with reading(self._engine, self.path) as connection:
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


def damage(connection: Connection) -> tuple[str, ...]:
    """Return the faults that SQLite finds in the file and its references. Reads all of it."""
    messages = [str(message) for message in connection.exec_driver_sql("PRAGMA integrity_check").scalars()]
    dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    lost = [f"{count(len(dangling), 'reference')} to missing rows"] if dangling else []
    return tuple([message for message in messages if message != "ok"] + lost)


def make_file(path: Path) -> None:
    """Create ``path`` unless it exists; make it readable by its owner only. Raises `StoreError`."""
    make_folder(path.parent)
    with storage(path, "open the catalog"):
        # Do not open it here: closing any descriptor of a database drops the locks that this process holds on it
        # through other connections (https://sqlite.org/howtocorrupt.html, section 2.2).
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFREG | PRIVATE_FILE)
            sync_folder(path.parent)
        if path.stat().st_mode & 0o077:  # a backup copied into place by hand
            path.chmod(PRIVATE_FILE)


def copy(engine: Engine, target: Path) -> None:
    """Write a consistent copy of the database to ``target``, in one file, durably. Raises `StoreError`."""
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
        copied.execute("PRAGMA journal_mode=DELETE")  # no write-ahead log: the one file is the whole database
