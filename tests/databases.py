"""Catalogs in both databases, filled, read and altered; and a line to a server that can be cut.

A PostgreSQL runs for each process that runs tests, with one database for each test.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from select import select as select_ready
from typing import Any

from sqlalchemy import select, text

from engines.postgres import USER, PostgresServer
from syncd.catalog.catalog import Catalog
from syncd.catalog.transfer import TABLES, copy_rows
from syncd.database_address import DatabaseAddress

ENGINES = ("sqlite", "postgresql")


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
