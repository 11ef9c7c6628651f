"""The catalog in PostgreSQL: connections, transactions and copies, and its errors turned into ours.

Nothing depends on the state of a session, so that a pooler in transaction mode does no harm, and a fail-over forgets
only the transaction that it interrupts: locks and time-outs are those of one transaction, and statements are not
prepared. See ADR 0027.
"""

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import (
    Connection,
    ForeignKeyConstraint,
    QueuePool,
    and_,
    case,
    create_engine,
    event,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from syncd.catalog.tables import metadata
from syncd.database_address import DatabaseAddress
from syncd.errors import ConfigError, StoreError
from syncd.units import count

OLDEST: Final = 14
"""The oldest major version of the server that is supported."""
_CHANNEL: Final = "syncd"
_LOCK: Final = 0x73796E6364
"""The key of the lock that a writing transaction holds: "syncd". Advisory locks are those of one database."""
_WRITE_WITHIN: Final = 30.0
_READ_WITHIN: Final = 120.0
_MIGRATE_WITHIN: Final = 3600.0
"""Seconds for one statement."""
_IDLE_WITHIN: Final = 10.0
"""Seconds between two statements of a transaction, after which the server ends it. A process that was paused with the
write lock held keeps it no longer than this."""
_COPY_IDLE: Final = 600.0
"""The same of a transaction that copies or migrates all rows, or reads them for a copy."""
_SLACK: Final = 10.0
"""Seconds after a time-out of the server, at which we give up a connection on which it says nothing."""
_CONNECTIONS: Final = 5
_MORE_CONNECTIONS: Final = 15
_WAIT_FOR_CONNECTION: Final = 10.0
_CONNECT: Final = {
    "connect_timeout": 5,  # seconds, for each host of the address
    "target_session_attrs": "read-write",  # of several servers the primary; a single replica is refused
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
    "application_name": "syncd",
}
"""Defaults that the address may override. A server that vanishes is noticed within some 15 seconds."""

_INSTALL: Final = "pip install 'syncd[postgres]'"
_AGAIN: Final = "run the command again; the daemon tries again by itself"
_REPLICA: Final = (
    "name the primary in `catalog`, or all servers as HOST1,HOST2 with target_session_attrs=read-write; if the server "
    "is set to default_transaction_read_only, end that"
)
_RESTORE: Final = (
    'stop the daemons and restore the database from a backup: see "Backup and restore" in docs/operations.md'
)
_UNREACHABLE: Final = f"check that the server runs and can be reached from this host, then {_AGAIN}"

_HINTS: Final[Mapping[str, str]] = {
    "53100": "free disk space on the database's server, then run the command again; nothing was changed",
    "53200": f"the database's server is out of memory: check it, then {_AGAIN}",
    "53300": f"raise max_connections of the server, or end connections of others; then {_AGAIN}",
    "55P03": "another process is writing to it; try again when that process has finished",
    "57014": f"the server was too slow: check its load and locks held by others, then {_AGAIN}",
    "25006": _REPLICA,
    "0A000": _REPLICA,  # the only thing that a server of a supported version does not do for us
    "28": "check the user in `catalog` and the password in catalog_password_file, and pg_hba.conf of the server",
    "3D000": "create the database first, with encoding UTF8, or correct its name in `catalog`",
    "42501": "let the user of `catalog` own the database, or grant it all rights on its tables and schema",
    "08": _UNREACHABLE,
    "57P": _UNREACHABLE,
    "25P03": _AGAIN,
    "58": "check the disk and the log of the database's server",
    "XX": _RESTORE,
    "TLS": "check sslmode and sslrootcert in `catalog`, and the certificate of the server",
}
"""What to do, by SQLSTATE or its beginning: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

_REFUSALS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"password authentication failed|no password supplied|no pg_hba\.conf entry|role .* (does not exist|is not)",
        "28",
    ),
    (r"database .* does not exist", "3D000"),
    (r"permission denied for database", "42501"),
    (r"too many (clients|connections)|connection slots are reserved", "53300"),
    (r"session is read-only|not a standby|server is not in hot standby", "25006"),
    (r"No space left on device", "53100"),
    (r"certificate|SSL|sslrootcert", "TLS"),
)
"""SQLSTATE of an attempt to connect, by its message: libpq does not tell it."""


class ConnectionLost(StoreError):  # noqa: N818 - reads as what happened, in code and in log
    """The connection to the server was lost, perhaps while a transaction was committed."""


class PostgresDatabase:
    """A `syncd.catalog.database.Database` on a PostgreSQL server, which must exist and be in UTF-8."""

    restore = _RESTORE
    before_migration = "the backup that was made before the migration"
    created_whole = True
    where = "check that `catalog` names the right database"

    def __init__(self, address: DatabaseAddress, lock_wait: float) -> None:
        self.name, self._lock_wait = str(address), lock_wait
        connection_class = _driver()
        password = address.password()

        def connect(**more: Any) -> Any:
            return connection_class.connect(
                address.url,
                **{name: value for name, value in _CONNECT.items() if f"{name}=" not in address.url},
                **({"password": password} if password is not None else {}),
                prepare_threshold=None,
                **more,
            )

        self._connect = connect
        self._listener: Any = None
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=_WAIT_FOR_CONNECTION,
            pool_pre_ping=True,  # after a fail-over the old connections are dead
            pool_recycle=300,
            use_native_hstore=False,
            hide_parameters=True,
        )
        event.listen(self.engine, "checkin", _forget_limit)
        self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        # READ COMMITTED, so that each statement sees what was committed before the lock was given to us. Under
        # REPEATABLE READ the view would date from before the wait.
        self._writer = self.engine.execution_options(isolation_level="READ COMMITTED")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """See `Database.reading`."""
        with self._guard(), self._reader.begin() as connection:
            self._limit(connection, _READ_WITHIN, _COPY_IDLE)
            yield connection

    def writing(self) -> contextlib.AbstractContextManager[Connection]:
        """See `Database.writing`."""
        return self._writing(_WRITE_WITHIN, _IDLE_WITHIN)

    @contextlib.contextmanager
    def migrating(self) -> Iterator[Connection]:
        """See `Database.migrating`. Text is ordered by its bytes, as in SQLite, whatever the server's language."""
        with self._writing(_MIGRATE_WITHIN, _COPY_IDLE) as connection:
            yield connection
            _order_by_bytes(connection)

    @contextlib.contextmanager
    def _writing(self, within: float, idle: float) -> Iterator[Connection]:
        with self._guard(), self._writer.begin() as connection:
            self._limit(connection, within, idle)
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    def _limit(self, connection: Connection, within: float, idle: float) -> None:
        """Set the time-outs of this transaction, and that its commit is durable."""
        _driver_of(connection).answer_within = within + _SLACK
        times = {
            "lock_timeout": self._lock_wait,
            "statement_timeout": within,
            "idle_in_transaction_session_timeout": idle,
        }
        settings = (func.set_config(name, f"{max(1, round(time * 1000))}ms", True) for name, time in times.items())
        current = func.current_setting("synchronous_commit")
        durable = case((current.in_(("off", "local")), "on"), else_=current)
        connection.execute(select(*settings, func.set_config("synchronous_commit", durable, True)))

    def keep_before(self, revision: str) -> None:
        """See `Database.keep_before`: a server has backups of its own."""

    def tables(self, connection: Connection) -> frozenset[str]:
        """See `Database.tables`."""
        _check_server(connection, self.name)
        statement = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"
        return frozenset(connection.execute(text(statement)).scalars())

    def damage(self, connection: Connection) -> tuple[str, ...]:
        """See `Database.damage`. The server checks its own files, as it reads them."""
        keys = [key for table in metadata.sorted_tables for key in table.foreign_key_constraints]
        lost = sum(_dangling(connection, key) for key in keys)
        return (f"{count(lost, 'reference')} to missing rows",) if lost else ()

    def counters(self, connection: Connection) -> dict[str, int]:
        """See `Database.counters`."""
        statement = "SELECT last_value, is_called FROM {}"
        last = {name: connection.execute(text(statement.format(of))).one() for name, of in _sequences(connection)}
        return {name: int(row.last_value) for name, row in last.items() if row.is_called}

    def set_counters(self, connection: Connection, counters: Mapping[str, int]) -> None:
        """See `Database.set_counters`."""
        for name, sequence in _sequences(connection):
            if name in counters:
                connection.execute(select(func.setval(sequence, counters[name])))

    def close(self) -> None:
        """See `Database.close`."""
        self._stop_listening()
        self.engine.dispose()

    def notify(self, connection: Connection) -> None:
        """See `Database.notify`."""
        connection.execute(select(func.pg_notify(_CHANNEL, "")))

    def wait_for_notice(self, seconds: float, stop: threading.Event) -> None:
        """See `Database.wait_for_notice`. Behind a pooler in transaction mode no notice comes."""
        try:
            if self._listener is None:
                self._listener = self._connect(autocommit=True)
                self._listener.execute(f"LISTEN {_CHANNEL}")
                return  # what was committed before this is not noticed
            for _ in self._listener.notifies(timeout=seconds, stop_after=1):
                return
        except Exception:  # noqa: BLE001 - whatever it is, the next look at the catalog says it better
            self._stop_listening()
            stop.wait(seconds)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(Exception):
                listener.close()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn an error of the server into one of ours, with a hint."""
        try:
            yield
        except DBAPIError as error:
            raise self._error(error) from error
        except PoolTimeout as error:
            raise StoreError(
                f"cannot use the catalog {self.name}: this process uses {_CONNECTIONS + _MORE_CONNECTIONS} connections",
                hint=f"the server is slow: check its load, and locks that others hold; then {_AGAIN}",
            ) from error

    def _error(self, error: DBAPIError) -> StoreError:
        message = _first_line(error.orig)
        state = getattr(error.orig, "sqlstate", None) or _refusal(message)
        if state in {"25006", "0A000"}:
            self.engine.dispose()  # it was the primary when we connected: look for another next time
        if error.connection_invalidated:
            return ConnectionLost(f"the connection to the catalog {self.name} was lost: {message}", hint=_UNREACHABLE)
        return StoreError(f"cannot use the catalog {self.name}: {message}", hint=_hint(state))


def _first_line(error: BaseException | None) -> str:
    """Return what went wrong, without the statement and the values that the server may add."""
    return str(error).strip().partition("\n")[0]


def _refusal(message: str) -> str:
    """Return the SQLSTATE of an attempt to connect; by default that of a server that cannot be reached."""
    return next((state for pattern, state in _REFUSALS if re.search(pattern, message)), "08001")


def _hint(state: str) -> str:
    known = (state[:length] for length in (5, 3, 2))
    return next((_HINTS[part] for part in known if part in _HINTS), "check the log of the database's server")


def _forget_limit(driver: Any, record: object) -> None:
    """Let what is done outside of transactions, such as the first question on a pooled connection, wait less long."""
    del record
    if driver is not None:  # None: it was given up
        driver.answer_within = type(driver).answer_within


def _check_server(connection: Connection, name: str) -> None:
    """Refuse a server that is too old, and a database that cannot hold every text. Raises `ConfigError`."""
    info = _driver_of(connection).info
    if info.server_version < OLDEST * 10_000:
        raise ConfigError(
            f"catalog: the server of {name} is PostgreSQL {info.server_version // 10_000}",
            hint=f"use PostgreSQL {OLDEST} or newer",
        )
    encoding = info.parameter_status("server_encoding")
    if encoding not in {None, "UTF8"}:
        raise ConfigError(
            f"catalog: the database {name} has the encoding {encoding}",
            hint="create one with ENCODING 'UTF8' TEMPLATE template0",
        )


def _order_by_bytes(connection: Connection) -> None:
    """Give every text column that a migration made the collation "C"."""
    columns = text(
        "SELECT quote_ident(table_name), quote_ident(column_name) FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    for table, column in connection.execute(columns).all():
        connection.execute(text(f'ALTER TABLE {table} ALTER COLUMN {column} TYPE text COLLATE "C"'))


def _dangling(connection: Connection, key: ForeignKeyConstraint) -> int:
    """Count the rows whose foreign key names a row that is missing."""
    there = key.referred_table.alias()
    pairs = [(element.parent, there.c[element.column.name]) for element in key.elements]
    named = [column.is_not(None) for column, _ in pairs]
    found = exists().where(and_(*(column == other for column, other in pairs)))
    statement = select(func.count()).select_from(key.table).where(*named, ~found)
    return int(connection.execute(statement).scalar_one())


def _sequences(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield the tables whose rows the server numbers, each with the quoted name of its sequence."""
    for table in metadata.sorted_tables:
        if table.autoincrement_column is not None:
            named = func.pg_get_serial_sequence(table.name, table.autoincrement_column.name)
            if (sequence := connection.execute(select(named)).scalar_one()) is not None:
                yield table.name, str(sequence)


def _driver_of(connection: Connection) -> Any:
    """Return the `syncd.catalog.postgres_driver.PatientConnection`."""
    return connection.connection.driver_connection


def _driver() -> Any:
    """Return the class of our connections. Raises `ConfigError` if the driver is not installed."""
    try:
        from syncd.catalog.postgres_driver import PatientConnection  # of an extra: most installations have it not
    except ImportError as error:
        raise ConfigError(
            f"catalog: the driver for PostgreSQL is not installed ({error.name or error})", hint=f"run `{_INSTALL}`"
        ) from None
    return PatientConnection
