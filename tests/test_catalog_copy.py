"""``syncd catalog copy``: the catalog of a state that is in use moves to PostgreSQL, and back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from command_line import settings, syncd
from databases import everything, rows_of
from engines.postgres import PostgresServer
from syncd.acts import CopiedCatalog
from syncd.catalog import transfer
from syncd.catalog.catalog import Catalog
from syncd.database_address import DatabaseAddress
from syncd.errors import StoreError
from syncd.locks import lock
from two_versions import running
from world import World, row

__all__ = ["running"]  # a fixture


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[DatabaseAddress]:
    with postgres.database(empty=True) as address:
        yield address


@pytest.fixture
def moving(running: World, empty: DatabaseAddress) -> World:
    """A state in use, whose configuration now names an empty database."""
    assert syncd("matchers", "add", "web").code == 0
    moved = World(running.base, running.clock, database=empty)
    configure(moved)
    return moved


def configure(world: World) -> None:
    world.base.joinpath("syncd.toml").write_text(settings(world))


def stored(world: World) -> dict[str, list[tuple[object, ...]]]:
    with Catalog.open(world.state.catalog) as catalog:
        return everything(catalog)


def test_a_catalog_is_moved_to_a_server(moving: World) -> None:
    """Every row and number goes over; what must not be used any more is kept aside; and work goes on there."""
    before = stored(World(moving.base))
    refused = syncd("status")
    assert (refused.code, "`syncd catalog copy`" in refused.err) == (2, True)
    ran = syncd("catalog", "copy", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["rows"] == sum(map(len, before.values()))
    after = stored(moving)
    (record,) = set(after.pop("audit")) - set(before.pop("audit"))
    assert (record[3], after) == ("copied_catalog", before)
    assert not moving.state.catalog_file.exists()
    assert Path(ran.json["kept"]).stat().st_mode & 0o777 == 0o600
    for command in (("verify",), ("audit", "verify"), ("status",), ("run", "--check")):
        assert syncd(*command).code == 0, command
    moving.publish(add=[row(40)])
    assert syncd("sync").code == 0
    assert not moving.pull().errors
    assert moving.hits(40)
    with Catalog.open(moving.state.catalog) as catalog:  # numbers go on where they were
        assert rows_of(catalog, "SELECT max(id) FROM publications") > [(len(before["publications"]),)]


def test_a_catalog_is_moved_back(moving: World) -> None:
    """The file has all that was done on the server, and is used once the configuration names no server."""
    assert syncd("catalog", "copy").code == 0
    moving.publish(add=[row(40)])
    assert syncd("sync").code == 0
    before = stored(moving)
    assert syncd("catalog", "copy", "--to-file").code == 0
    refused = syncd("status")
    assert (refused.code, "otherwise correct `catalog`" in refused.err) == (2, True)
    file = World(moving.base, moving.clock)
    configure(file)
    after = stored(file)
    assert [name for name in before if before[name] != after[name]] == ["audit"]
    assert (syncd("verify").code, syncd("audit", "verify").code) == (0, 0)
    file.publish(add=[row(41)])
    assert syncd("sync").code == 0


def test_a_move_that_was_interrupted_is_continued(moving: World) -> None:
    """Killed after the copy was committed, the command says so once more, and copies nothing twice."""
    with Catalog.open(moving.state.catalog_file) as source:
        copied = source.copy_to(moving.state.catalog, "alice", CopiedCatalog(str(moving.database)), moving.clock())
    before = stored(moving)
    ran = syncd("catalog", "copy", "--json")
    assert (ran.code, ran.json["rows"]) == (0, copied)
    assert stored(moving) == before
    assert syncd("verify").code == 0


def test_a_database_in_use_is_not_overwritten(moving: World) -> None:
    """Of another state, or of another program."""
    with Catalog.open(moving.state.catalog) as other:
        other.note_attempt("other", moving.clock())
    before = stored(moving)
    ran = syncd("catalog", "copy")
    assert (ran.code, "is not empty" in ran.err) == (6, True)
    assert stored(moving) == before
    assert moving.state.catalog_file.exists()


def test_a_copy_that_differs_is_not_committed(moving: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was lost on the way leaves the database empty and the file in use."""
    true = transfer._copy_table

    def lose(source: object, target: object, table: object, stored: object) -> int:
        return true(source, target, table, stored) if str(table) != "signed_files" else 0  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "_copy_table", lose)
    ran = syncd("catalog", "copy")
    assert (ran.code, "is not the same" in ran.err) == (1, True)
    assert moving.state.catalog_file.exists()
    assert not moving.state.is_set_up()


def test_a_damaged_catalog_is_not_moved(running: World, empty: DatabaseAddress) -> None:
    """An audit log that was altered is noticed before anything is committed."""
    with Catalog.open(running.state.catalog) as catalog:
        with catalog._database.writing() as connection:
            connection.exec_driver_sql("UPDATE audit SET actor = 'mallory' WHERE number = 1")
        with pytest.raises(StoreError, match="not the same") as caught:
            catalog.copy_to(empty, "alice", CopiedCatalog("there"), running.clock())
    assert "syncd verify" in caught.value.hint
    assert not replace(running.state, database=empty).is_set_up()


def test_there_must_be_something_to_move(moving: World, running: World) -> None:
    """Without a database in the configuration, without a file, or beside a daemon, nothing happens."""
    with lock(moving.state.root / "lock", "a test"):
        assert syncd("catalog", "copy").code == 6
    assert syncd("catalog", "copy").code == 0
    again = syncd("catalog", "copy")
    assert (again.code, "`syncd run --check`" in again.err) == (2, True)
    assert syncd("run", "--check").code == 0
    configure(running)
    for options in ((), ("--to-file",)):
        assert syncd("catalog", "copy", *options).code == 2
    lost = syncd("status")
    assert (lost.code, "the configuration does not name it" in lost.err) == (2, True)
