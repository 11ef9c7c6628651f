"""The catalog in PostgreSQL, when the server or the way to it fails: typed errors, and nothing done by halves."""

import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from databases import Proxy, everything, rows_of
from engines.postgres import PostgresServer, programs
from syncd.catalog import postgres as module
from syncd.catalog import tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.postgres import ConnectionLost
from syncd.catalog.sqlite import SqliteDatabase
from syncd.database_address import DatabaseAddress, check_url
from syncd.errors import ConfigError, LostRaceError, StoreError, UsageError
from test_catalog import ENTRY, FIRST, HEAD, IMAGES, NOON, ONE, RESIGNED, SECOND, WEB
from test_catalog_portable import use_every_method
from world import World, row, rows

COMMITS = b"COMMIT\0"


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    with postgres.database() as made:
        yield made


@pytest.fixture
def catalog(address: DatabaseAddress) -> Iterator[Catalog]:
    with Catalog.open(address, lock_wait=0.2) as opened:
        yield opened


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder:
        made = Proxy(postgres, Path(folder))
        yield made
        made.close()


def through(proxy: Proxy, address: DatabaseAddress) -> DatabaseAddress:
    return DatabaseAddress(proxy.url(name_of(address)))


def name_of(address: DatabaseAddress) -> str:
    return str(address).rpartition("/")[2]


def end_sessions(server: PostgresServer, address: DatabaseAddress) -> None:
    """What a fail-over does to every connection."""
    of = f"datname = '{name_of(address)}'"
    server.do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of}")


# transactions


def test_a_fail_over_between_transactions_is_not_noticed(postgres: PostgresServer, catalog: Catalog) -> None:
    """The connections of the pool are dead, and the next transaction uses another."""
    catalog.commit(FIRST)
    end_sessions(postgres, catalog_address(catalog, postgres))
    assert catalog.heads() == (HEAD,)
    end_sessions(postgres, catalog_address(catalog, postgres))
    assert catalog.commit(SECOND) == 2


def catalog_address(catalog: Catalog, server: PostgresServer) -> DatabaseAddress:
    return DatabaseAddress(server.url(catalog._database.name.rpartition("/")[2]))


@pytest.mark.parametrize("statement", [b"publications", b"INSERT INTO audit", b"signed_files"])
def test_a_connection_lost_in_a_transaction_changes_nothing(
    proxy: Proxy, address: DatabaseAddress, statement: bytes
) -> None:
    """The error says what happened and what to do; the same commit succeeds once there is a server again."""
    with Catalog.open(through(proxy, address)) as catalog:
        catalog.commit(FIRST)
        before = everything(catalog)
        proxy.judge = lambda content: "cut" if statement in content else "pass"
        with pytest.raises(ConnectionLost, match=r"the connection to the catalog .* was lost") as caught:
            catalog.commit(SECOND)
        assert "check that the server runs" in caught.value.hint
        proxy.judge = lambda _: "pass"
        assert everything(catalog) == before
        assert catalog.commit(SECOND) > 1


@pytest.mark.parametrize(("verdict", "committed"), [("cut", False), ("lose", True)])
def test_a_commit_whose_answer_is_lost_is_read_back(
    proxy: Proxy, address: DatabaseAddress, verdict: str, committed: bool
) -> None:
    """Committed: its number is returned as if nothing had happened. Not committed: an error, and nothing is there."""
    lost: list[bytes] = []

    def judge(content: bytes) -> str:
        if COMMITS in content and not lost:
            lost.append(content)
            return verdict
        return "pass"

    with Catalog.open(through(proxy, address)) as catalog:
        catalog.commit(FIRST)
        proxy.judge = judge
        if committed:
            assert catalog.commit(SECOND) == 2
        else:
            with pytest.raises(ConnectionLost):
                catalog.commit(SECOND)
        assert lost
        assert [one.id for one in catalog.pending()] == ([1, 2] if committed else [1])


def test_an_unknown_outcome_is_said_and_read_back_later(proxy: Proxy, address: DatabaseAddress) -> None:
    """No server to ask: the error says so, and the next publication follows what was committed, whatever that was."""

    def judge(content: bytes) -> str:
        if COMMITS in content:
            proxy.judge = lambda _: "cut"
            return "lose"
        return "pass"

    with Catalog.open(through(proxy, address)) as catalog:
        catalog.commit(FIRST)
        last = catalog.last_commit()
        proxy.judge = judge
        with pytest.raises(ConnectionLost, match="it is not known whether a publication was committed") as caught:
            catalog.commit(replace(RESIGNED, after=last))
        assert "nothing of it is visible yet" in caught.value.hint
        proxy.judge = lambda _: "pass"
        with pytest.raises(LostRaceError):
            catalog.commit(replace(RESIGNED, after=last, files=(("metadata/timestamp.json", b"timestamp 4"),)))
        assert [one.files for one in catalog.pending()] == [FIRST.files, RESIGNED.files]


def test_a_number_is_not_signed_twice_when_the_answer_to_a_commit_is_lost(
    proxy: Proxy, address: DatabaseAddress, tmp_path: Path
) -> None:
    """The road: a sync whose commit is unknown fails, and the next one installs exactly what it had signed."""
    world = World(tmp_path, database=through(proxy, address))
    world.publish(full=rows(0, 10))
    assert world.sync().exit_code == 0

    def judge(content: bytes) -> str:
        if b"INSERT INTO signed_files" in content:
            armed.append(content)
        if armed and COMMITS in content:
            proxy.judge = lambda _: "cut"
            return "lose"
        return "pass"

    armed: list[bytes] = []
    world.publish(add=[row(10)])
    proxy.judge = judge
    failed = world.sync()
    assert failed.exit_code == 1
    assert not world.pull().errors
    assert not world.hits(10)
    proxy.judge = lambda _: "pass"
    with Catalog.open(world.state.catalog) as catalog:
        (signed,) = catalog.pending()
    with world.publisher() as publisher:
        assert publisher.catalog.pending() == ()
        stored = {path: world.state.feed.read(path) for path, _ in signed.files}
    assert stored == dict(signed.files)
    assert not world.pull().errors
    assert world.hits(10)


def test_writers_take_turns_and_readers_see_one_moment(address: DatabaseAddress) -> None:
    """As in SQLite: a writer that waits too long says so; a reader is not disturbed, nor does it see the half of it."""
    with Catalog.open(address, lock_wait=0.2) as first, Catalog.open(address, lock_wait=0.2) as second:
        first.commit(FIRST)
        with first._database.reading() as reader:
            assert reader.execute(text("SELECT count(*) FROM audit")).scalar_one() == 2
            with first._database.writing() as writer:
                writer.execute(text("DELETE FROM audit"))
                with pytest.raises(StoreError, match="lock timeout") as caught:
                    second.append("me", ENTRY.act, NOON)
                assert len(second.audit_entries()) == 2
            assert second.audit_entries() == ()
            assert reader.execute(text("SELECT count(*) FROM audit")).scalar_one() == 2
    assert "another process is writing" in caught.value.hint


def test_a_writer_sees_what_was_written_while_it_waited(address: DatabaseAddress) -> None:
    """The chain of the audit log and every compare-and-swap rely on it."""
    with Catalog.open(address) as catalog:
        threads = [threading.Thread(target=catalog.append, args=(f"a{n}", ENTRY.act, NOON)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [one.number for one in catalog.audit_records()] == list(range(1, 9))
        assert catalog.check_audit().faults == ()


def test_a_paused_writer_blocks_no_other_for_long(address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends a transaction in which nothing is said, and gives its lock to the next."""
    monkeypatch.setattr(module, "_IDLE_WITHIN", 0.2)
    with Catalog.open(address) as paused, Catalog.open(address) as other:

        def pause() -> None:
            with paused._database.writing() as writer:
                other.append("me", ENTRY.act, NOON)  # waits until the server has ended this transaction
                writer.execute(text("DELETE FROM audit"))

        with pytest.raises(ConnectionLost):
            pause()
        assert len(other.audit_entries()) == 1


def test_a_server_that_falls_silent_is_given_up(
    proxy: Proxy, address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays open and nothing comes: no thread waits for ever."""
    monkeypatch.setattr(module, "_SLACK", 0.2)
    monkeypatch.setattr(module, "_WRITE_WITHIN", 0.1)
    with Catalog.open(through(proxy, address)) as catalog:
        catalog.commit(FIRST)
        proxy.judge = lambda content: "silent" if b"INSERT INTO audit" in content else "pass"
        with pytest.raises(ConnectionLost, match="no answer within"):
            catalog.append("me", ENTRY.act, ONE)
        proxy.judge = lambda _: "pass"
        assert catalog.heads() == (HEAD,)


# the server


def test_a_read_only_server_is_refused(postgres: PostgresServer, address: DatabaseAddress) -> None:
    """A replica named by mistake: at once by default, and when something is written if the address allows replicas."""
    name = name_of(address)
    with Catalog.open(DatabaseAddress(f"{address.url}&target_session_attrs=any")) as catalog:
        postgres.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        end_sessions(postgres, address)
        with pytest.raises(StoreError, match="read-only transaction") as caught:
            catalog.commit(FIRST)
        assert "name the primary" in caught.value.hint
        assert catalog.heads() == ()
    with pytest.raises(StoreError, match="session is read-only") as caught:
        Catalog.open(address)
    assert "name the primary" in caught.value.hint
    postgres.do(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def test_of_several_hosts_the_one_that_answers_is_used(postgres: PostgresServer, address: DatabaseAddress) -> None:
    """A fail-over moves the primary to another host of the address."""
    several = f"postgresql://syncd@/{name_of(address)}?host=/nowhere,{postgres.folder}"
    with Catalog.open(DatabaseAddress(several)) as catalog:
        assert catalog.heads() == ()


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"host": "/nowhere"}, "No such file or directory", "check that the server runs"),
        ({"name": "none"}, "does not exist", "create the database first"),
        ({"user": "nobody"}, "does not exist", "check the user in `catalog`"),
    ],
)
def test_a_server_that_refuses(postgres: PostgresServer, change: dict[str, str], message: str, hint: str) -> None:
    """Each refusal says what to do, and names no password."""
    there = {"user": "syncd", "name": "postgres", "host": str(postgres.folder), **change}
    with pytest.raises(StoreError, match=message) as caught:
        Catalog.open(DatabaseAddress(f"postgresql://{there['user']}@/{there['name']}?host={there['host']}"))
    assert hint in caught.value.hint


def test_a_wrong_password_is_not_shown(tmp_path: Path) -> None:
    """Nor a right one; a missing file and an empty one are errors of the configuration."""
    if programs() is None:
        pytest.skip("no PostgreSQL")
    file = tmp_path / "password"
    with PostgresServer.running() as server:
        server.do("CREATE ROLE locked LOGIN PASSWORD 'open-sesame'", "CREATE DATABASE mine OWNER locked")
        hba = server.folder / "data" / "pg_hba.conf"
        hba.write_text("local all locked scram-sha-256\nlocal all all trust\n")
        server.do("SELECT pg_reload_conf()")
        there = DatabaseAddress(server.url("mine", "locked"), file)
        for content, kind, message in (
            (None, ConfigError, "catalog_password_file"),
            ("\n", ConfigError, "is not a password"),
            ("wrong-guess\n", StoreError, "password authentication failed"),
        ):
            if content is not None:
                file.write_text(content)
            with pytest.raises(kind, match=message) as caught:
                Catalog.open(there)
            assert "wrong-guess" not in caught.value.message + caught.value.hint
        file.write_text("open-sesame\n")
        with Catalog.open(there) as catalog:
            catalog.commit(FIRST)
        with Catalog.open(there) as catalog:
            # a stopped server; then one with too few connections
            server.stop(signal.SIGQUIT)
            with pytest.raises(StoreError, match="connection") as caught:
                catalog.heads()
            assert "check that the server runs" in caught.value.hint
            server.settings |= {"max_connections": "8", "superuser_reserved_connections": "3"}
            server.start()
            assert catalog.heads() == (HEAD,)
            opened: list[Catalog] = []
            with pytest.raises(StoreError, match=r"connection slots|too many") as caught:
                opened.extend(Catalog.open(there) for _ in range(8))
            assert "max_connections" in caught.value.hint
            for one in opened:
                one.close()


def test_a_database_in_another_encoding_is_refused(postgres: PostgresServer) -> None:
    """It could not hold every name."""
    postgres.do("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(ConfigError, match="encoding LATIN1"):
            Catalog.open(DatabaseAddress(postgres.url("latin")))
    finally:
        postgres.do("DROP DATABASE latin WITH (FORCE)")


def test_an_old_server_is_refused(address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one would be that is older than what is tested."""
    monkeypatch.setattr(module, "OLDEST", 99)
    with pytest.raises(ConfigError, match="is PostgreSQL 1") as caught:
        Catalog.open(address)
    assert "PostgreSQL 99 or newer" in caught.value.hint


def test_another_programs_database_is_refused(postgres: PostgresServer) -> None:
    """A database of another program gets no tables of ours."""
    with postgres.database(empty=True) as address:
        postgres.do("CREATE TABLE recipes (name text)", name=name_of(address))
        with pytest.raises(UsageError, match="is not a syncd catalog"):
            Catalog.open(address)


def test_a_missing_driver_says_what_to_install(address: DatabaseAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in an extra."""
    monkeypatch.setitem(__import__("sys").modules, "syncd.catalog.postgres_driver", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        Catalog.open(address)
    assert "pip install 'syncd[postgres]'" in caught.value.hint


# tables and values


def test_new_tables_are_those_of_the_code(postgres: PostgresServer) -> None:
    """An empty database gets them at once, ordered by bytes, and of two that open it one makes them."""
    with postgres.database(empty=True) as address:
        opened: list[Catalog] = []
        threads = [threading.Thread(target=lambda: opened.append(Catalog.open(address))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) == 3
        collations = (
            "SELECT DISTINCT collation_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND data_type = 'text'"
        )
        assert rows_of(opened[0], collations) == [("C",)]
        with opened[0]._database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
            assert context.get_current_revision() == tables.REVISION
        for one in opened:
            one.close()


def test_every_method_works_on_a_server(address: DatabaseAddress, tmp_path: Path) -> None:
    """Each statement that the catalog has is carried out once."""
    with Catalog.open(address) as catalog:
        assert len(use_every_method(catalog, tmp_path)) > 80
        assert catalog.damage() == ()


def test_names_are_ordered_by_their_bytes(catalog: Catalog) -> None:
    """In every language of the server, as in a file."""
    names = ["a-b", "B", "a", "ä", "Z", "a.b", "_"]
    for name in names:
        catalog.add_matcher(replace(WEB, name=name), ENTRY)
    assert [one.name for one in catalog.matchers()] == sorted(names)


def test_a_character_that_cannot_be_stored_is_refused(catalog: Catalog) -> None:
    """NUL, of which the error shows nothing."""
    with pytest.raises(StoreError, match="NUL") as caught:
        catalog.append("ali\0ce", ENTRY.act, NOON)
    assert "ali" not in caught.value.message
    assert catalog.audit_entries() == ()


def test_a_number_beyond_64_bits_is_refused(catalog: Catalog) -> None:
    """It is an error of ours, and changes nothing."""
    with pytest.raises(StoreError, match="out of range"):
        catalog.touch_verified("iwf", {IMAGES: 1 << 70}, ONE)


def test_a_backup_is_a_file_that_opens(catalog: Catalog, tmp_path: Path) -> None:
    """With every row as it is stored, and with numbers that go on."""
    catalog.commit(FIRST)
    catalog.commit(SECOND)
    catalog.installed(1)
    target = tmp_path / "catalog.sqlite3"
    catalog.backup(target)
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.sqlite3"]
    with Catalog.open(target) as copy:
        assert isinstance(copy._database, SqliteDatabase)
        assert everything(copy) == everything(catalog)
        assert copy.damage() == ()
        assert copy.commit(RESIGNED) == 3


def test_dangling_references_are_damage(postgres: PostgresServer, catalog: Catalog) -> None:
    """The server refuses them unless its checks were switched off."""
    catalog.commit(FIRST)
    assert catalog.damage() == ()
    name = catalog._database.name.rpartition("/")[2]
    postgres.do("SET session_replication_role = replica", name=name)
    with catalog._database.writing() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM versions"))
    assert catalog.damage() == ("1 reference to missing rows",)


# the address


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://syncd@localhost/syncd",
        "postgresql://syncd@localhost:5433/syncd",
        "postgresql:///syncd",
        "postgres://syncd@/syncd?host=/run/postgresql",
        "postgresql://syncd@db.example.org/syncd?sslmode=verify-full",
        "postgresql://syncd@a.example.org:5432,b.example.org/syncd?sslmode=verify-full&target_session_attrs=read-write",
    ],
)
def test_addresses(url: str) -> None:
    """As libpq takes them."""
    assert check_url(url) == url
    assert "?" not in str(DatabaseAddress(url))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://syncd@localhost/syncd", "not the address of a PostgreSQL database"),
        ("postgresql://syncd@localhost", "names no database"),
        ("postgresql://syncd:sesame@localhost/syncd", "contains a password"),
        ("postgresql:///syncd?password=sesame", "contains a password"),
        ("postgresql://syncd@db.example.org/syncd", "nothing says whether TLS is used"),
        ("postgresql://syncd@localhost,db.example.org/syncd", "nothing says whether TLS is used"),
        ("postgresql://syncd@local host/syncd", "not the address"),
        ("postgresql://[::1/syncd", "not the address"),
    ],
)
def test_addresses_that_are_refused(url: str, message: str) -> None:
    """The address is not repeated: it may hold a password."""
    with pytest.raises(UsageError, match=message) as caught:
        check_url(url)
    assert "sesame" not in caught.value.message + caught.value.hint
    assert caught.value.hint
