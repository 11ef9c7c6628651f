"""The catalog in SQLite: one file, its connections, transactions and copies, and its errors turned into ours."""

import contextlib
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError

from syncd.errors import RESTORE_CATALOG, StoreError
from syncd.files import PRIVATE_FILE, install_file, make_folder, storage, sync_folder, temporary_path
from syncd.units import count

logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())  # what its pool logs is in our errors too

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


class SqliteDatabase:
    """A `syncd.catalog.database.Database` in one file, which `create` makes if it is missing."""

    restore = RESTORE_CATALOG
    before_migration = "the copy that it made before it migrated"
    created_whole = False
    where = "check that state_dir names the right folder"

    def __init__(self, path: Path, lock_wait: float) -> None:
        self.name, self._path, self._lock_wait = str(path), path, lock_wait
        make_file(path)
        self.engine = make_engine(path, lock_wait)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """See `Database.reading`."""
        with _guard(self._path), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """See `Database.writing`."""
        with _writing(self.engine, self._path) as connection:
            yield connection

    @contextlib.contextmanager
    def migrating(self) -> Iterator[Connection]:
        """See `Database.migrating`."""
        # Foreign keys off: SQLite cannot switch them inside a transaction, and a migration that rebuilds a table would
        # drop its dependent rows as well (https://sqlite.org/lang_altertable.html, section 7).
        engine = make_engine(self._path, self._lock_wait, foreign_keys=False)
        try:
            with _writing(engine, self._path) as connection:
                yield connection
                if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise StoreError(f"{self._path}: rows refer to missing rows", hint=RESTORE_CATALOG)
        finally:
            engine.dispose()

    def keep_before(self, revision: str) -> None:
        """See `Database.keep_before`: copy the file to ``<name>.before-<revision>``."""
        self.copy_file(self._path.with_name(f"{self._path.name}.before-{revision}"))

    def tables(self, connection: Connection) -> frozenset[str]:
        """See `Database.tables`."""
        statement = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return frozenset(connection.exec_driver_sql(statement).scalars())

    def damage(self, connection: Connection) -> tuple[str, ...]:
        """See `Database.damage`."""
        messages = [str(message) for message in connection.exec_driver_sql("PRAGMA integrity_check").scalars()]
        dangling = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        lost = [f"{count(len(dangling), 'reference')} to missing rows"] if dangling else []
        return tuple([message for message in messages if message != "ok"] + lost)

    def counters(self, connection: Connection) -> dict[str, int]:
        """See `Database.counters`."""
        numbers = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all()
        return {str(name): int(last) for name, last in numbers}

    def close(self) -> None:
        """See `Database.close`."""
        self.engine.dispose()

    def notify(self, connection: Connection) -> None:
        """See `Database.notify`: there is one daemon."""

    def wait_for_notice(self, seconds: float, stop: threading.Event) -> None:
        """See `Database.wait_for_notice`."""
        stop.wait(seconds)

    def set_counters(self, connection: Connection, counters: Mapping[str, int]) -> None:
        """See `Database.set_counters`."""
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        for name, last in counters.items():
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))

    def copy_file(self, target: Path) -> None:
        """Write a consistent copy to ``target``, in one file, durably. Raises `StoreError`."""
        staged = temporary_path(target.parent)
        with _guard(target), storage(target, "write"):
            os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
            try:
                with contextlib.closing(self.engine.raw_connection()) as pooled:
                    _copy_pages(pooled.driver_connection, staged)
                install_file(staged, target, PRIVATE_FILE)
            finally:
                remove_database(staged)


def remove_database(path: Path) -> None:
    """Remove a database with the logs that SQLite keeps beside it; some stay if SQLite could not remove them.

    Raises `OSError`.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
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
def _writing(engine: Engine, path: Path) -> Iterator[Connection]:
    with _guard(path), engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


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


def _copy_pages(source: Any, staged: Path) -> None:
    with contextlib.closing(sqlite3.connect(staged, isolation_level=None)) as copied:
        source.backup(copied)
        copied.execute("PRAGMA journal_mode=DELETE")  # no write-ahead log: the one file is the whole database
