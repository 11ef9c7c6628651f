"""Rows of the catalog that somebody deleted by hand: no sync ends in an internal error, or says that all is well."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from command_line import operate, syncd
from syncd.errors import StoreError
from syncd.operate import matchers
from syncd.report import overview
from world import HEAD, World, rows

BEFORE, LATER = 145, 3
"""Entries on the list at the partner, and those that it adds after the loss."""
TABLES = (
    "audit",
    "canaries",
    "heads",
    "history",
    "holds",
    "matchers",
    "origins",
    "publications",
    "signed_files",
    "sizes",
    "sources",
    "syncs",
    "updates",
    "usable",
    "versions",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A state with three versions, a hold and a matcher."""
    world = World(tmp_path_factory.mktemp("rows"))
    world.publish(full=rows(0, 100))
    world.sync()
    world.publish(add=rows(200, 245))
    world.sync()
    world.publish(remove=rows(0, 60))
    assert world.sync().exit_code == 3
    world.publish(add=rows(0, 60))  # the partner takes it back
    with world.publisher() as publisher:
        matchers.add(publisher.catalog, "web", (), asked_by="me", now=world.clock(), token="x" * 20)
    return world


def tables_of(catalog: Path) -> set[str]:
    """The tables of a catalog that have a row, except the note of its own version."""
    with sqlite3.connect(catalog) as connection:
        named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        names = [str(name) for (name,) in named]
        full = {name for name in names if connection.execute(f"SELECT 1 FROM {name}").fetchone()}
    connection.close()
    return full - {"alembic_version"}


def test_every_table_is_tried(made: World) -> None:
    """Those that have rows here."""
    assert tables_of(made.state.catalog_file) == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_deleted_row_is_named_or_does_no_harm(made: World, table: str, tmp_path: Path) -> None:
    """The newest of its table. Either the partner's next change is published, or the error leads to a backup."""
    assert table in tables_of(made.state.catalog_file)
    shutil.copytree(made.base, tmp_path / "w", symlinks=True)
    world = World(tmp_path / "w")
    world.clock.now = made.clock()
    with sqlite3.connect(world.state.catalog_file) as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    connection.close()
    world.publish(add=rows(300, 300 + LATER))
    world.clock.forward(minutes=10)
    outcome = world.sync()
    errors = [error for error in (outcome.error, *(listed.error for listed in outcome.lists)) if error]
    assert not world.pull().errors
    if not errors:
        assert world.matcher().status()[0].rows == BEFORE + LATER
        with world.publisher() as publisher:
            overview.read(world.state, publisher.catalog, {"iwf": 600.0}, world.clock())
        return
    (error,) = errors
    assert isinstance(error, StoreError)
    assert str(error).startswith(f"the catalog lacks a row about version 2 of {HEAD}, which is published")
    assert error.hint.startswith("`syncd verify` names every fault; stop the daemon, move catalog.sqlite3* aside and")
    assert world.matcher().status()[0].rows == BEFORE, "what is served stays"


@pytest.mark.parametrize("table", ["heads", "versions"])
def test_verify_names_a_row_that_is_missing(
    made: World, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the error of the sync advises; it is an error of every view, and not an empty list."""
    shutil.copytree(made.base, tmp_path / "w", symlinks=True)
    world = World(tmp_path / "w")
    world.clock.now = made.clock()
    operate(world, monkeypatch)
    with sqlite3.connect(world.state.catalog_file) as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    connection.close()
    ran = syncd("sync")
    assert (ran.code, "run `syncd verify`" in ran.err or "`syncd verify` names" in ran.err) == (1, True)
    assert "still served: iwf.images version 2" in ran.err or table == "heads"
    proved = syncd("verify")
    assert (proved.code, "catalog" in proved.err) == (4, True)
