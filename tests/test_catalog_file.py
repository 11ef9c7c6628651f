"""The catalog in SQLite: one private file, migrations that lose nothing, and what a disk does to it."""

import contextlib
import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from databases import file_of
from syncd.catalog import schema, sqlite, tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.database import open_database
from syncd.catalog.records import SourceState, SyncFault, SyncRecord
from syncd.errors import RESTORE_CATALOG, StoreError, UsageError
from syncd.outcomes import Outcome
from syncd.sources.feed_memory import FeedMemory
from syncd.trust.values import Floors
from test_catalog import (
    ENTRY,
    FILES,
    FIRST,
    HEAD,
    LOADED,
    MEMORY,
    NEXT_HEAD,
    NEXT_ORIGIN,
    NOON,
    ONE,
    ORIGIN,
    PUBLISHED,
    SECOND,
    VERSION,
    WEB,
)

FIXTURE = Path(__file__).parent / "fixtures" / "catalog_v1.sqlite3.sql"
SECOND_FIXTURE = FIXTURE.with_name("catalog_v2.sqlite3.sql")
THIRD_FIXTURE = FIXTURE.with_name("catalog_v3.sqlite3.sql")
FOURTH_FIXTURE = FIXTURE.with_name("catalog_v4.sqlite3.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    with Catalog.open(path) as opened:
        yield opened


def dump(path: Path) -> list[str]:
    """All of a database as SQL text."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def bring_up(path: Path, scripts: Path) -> None:
    """Migrate a file as a later release will."""
    opened = open_database(path, 0)
    try:
        schema.bring_up(opened, revision="9999", scripts=scripts)
    finally:
        opened.engine.dispose()


def test_files_are_private(path: Path) -> None:
    """The catalog and SQLite's files beside it are readable by their owner only, also after a copy put back by hand."""
    Catalog.open(path).close()
    path.chmod(0o644)
    with Catalog.open(path) as catalog:
        catalog.note_attempt("iwf", NOON)
        modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in path.parent.iterdir()}
    assert modes == {"catalog.sqlite3": "0o600", "catalog.sqlite3-wal": "0o600", "catalog.sqlite3-shm": "0o600"}


def test_connections_are_durable_and_checked(catalog: Catalog) -> None:
    """Every connection writes ahead, syncs each commit, checks foreign keys and waits for a lock."""
    with catalog._database.engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert values == ["wal", 2, 1, 10_000]


# killed

KILLED_COMMIT = textwrap.dedent(
    """
    import os, shutil, signal, sys
    from pathlib import Path
    from sqlalchemy import event
    from syncd.catalog.catalog import Catalog
    import test_catalog

    def commit_and_block_at(path, step, ready, never):
        catalog, left = Catalog.open(path), [step]

        def block(*_):
            left[0] -= 1
            if left[0] == 0:
                os.write(ready, b"in")
                os.read(never, 1)

        event.listen(catalog._database.engine, "before_cursor_execute", block)
        event.listen(catalog._database.engine, "commit", block)
        catalog.commit(test_catalog.SECOND)
        os.write(ready, b"done")
        os.read(never, 1)

    start, step, said = Path(sys.argv[1]), 0, b""
    while said != b"done":
        step += 1
        path = start.with_name(f"killed-{step}.sqlite3")
        shutil.copy(start, path)
        (told, ready), (never, _) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            commit_and_block_at(path, step, ready, never)
        os.close(ready)
        said = os.read(told, 4)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print(step)
    """
)


def test_killed_at_any_statement_it_is_before_or_after(path: Path) -> None:
    """A process killed at any statement of a commit leaves the catalog as before it, and after COMMIT as after it."""
    with Catalog.open(path) as catalog:
        catalog.commit(FIRST)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    script = [sys.executable, "-W", "error", "-c", KILLED_COMMIT, str(path)]
    steps = int(subprocess.run(script, env=environment, check=True, capture_output=True, timeout=60).stdout)
    # BEGIN, the epoch, 3 comparisons, 3 of the history, origin, labels so far, version, head, size, end and next record
    # of the audit log, publication, its file, COMMIT; and once not killed
    assert steps == 19
    seen = []
    for step in range(1, steps + 1):
        with Catalog.open(path.with_name(f"killed-{step}.sqlite3")) as catalog:
            seen.append((catalog.origins(), catalog.heads(), len(catalog.pending())))
    assert seen == [((ORIGIN,), (HEAD,), 1)] * 18 + [((NEXT_ORIGIN,), (NEXT_HEAD,), 2)]


def test_a_full_disk_changes_nothing(catalog: Catalog) -> None:
    """A commit that meets a full disk is refused whole, says what to do, and succeeds once there is room."""
    catalog.commit(FIRST)
    with catalog._database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    before = dump(file_of(catalog))
    large = replace(SECOND, files=(("metadata/timestamp.json", b"0" * 65536),))
    with pytest.raises(StoreError, match="database or disk is full") as caught:
        catalog.commit(large)
    assert "free disk space" in caught.value.hint
    assert dump(file_of(catalog)) == before
    with catalog._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert catalog.commit(large) == 2


def test_a_read_only_disk_is_a_store_error(catalog: Catalog) -> None:
    """A write where nothing may be written is a StoreError, and reading goes on."""
    with catalog._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(StoreError, match="readonly database") as caught:
        catalog.commit(FIRST)
    assert "read-only" in caught.value.hint
    assert catalog.heads() == ()


def test_a_read_only_folder_is_a_store_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a catalog in a read-only folder says so."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mknod", refuse)
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        Catalog.open(path)
    assert caught.value.hint == "the file system is mounted read-only: mount it writable, or use another folder"


def test_a_folder_in_its_place_is_a_store_error(path: Path) -> None:
    """A folder where the catalog should be is a StoreError that names it."""
    path.mkdir(mode=0o700)
    with pytest.raises(StoreError, match=r"catalog\.sqlite3: unable to open database file"):
        Catalog.open(path)


def test_a_catalog_that_vanishes_is_not_made_anew(catalog: Catalog) -> None:
    """A file removed under a running process is an error, never a silently empty catalog."""
    catalog.note_attempt("iwf", NOON)
    catalog._database.engine.dispose()
    file_of(catalog).unlink()
    with pytest.raises(StoreError, match="unable to open"):
        catalog.heads()
    assert not file_of(catalog).exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_into_a_catalog_that_nobody_finds_again(catalog: Catalog, *, replaced: bool) -> None:
    """Connections that are open still reach a file that was removed, or another put in its place; we say so instead."""
    catalog.note_attempt("iwf", NOON)
    other = file_of(catalog).with_name("copy.sqlite3")
    catalog.backup(other)
    file_of(catalog).unlink()
    if replaced:
        other.rename(file_of(catalog))
    for use in (catalog.heads, lambda: catalog.note_attempt("iwf", ONE)):
        with pytest.raises(StoreError, match="was removed or replaced while in use") as caught:
            use()
        assert caught.value.hint == RESTORE_CATALOG


def test_a_lock_held_too_long_is_a_store_error(path: Path) -> None:
    """A writer that waits in vain for another gives up with a StoreError; readers are not disturbed."""
    with Catalog.open(path, lock_wait=0) as catalog, contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="database is locked") as caught:
            catalog.commit(FIRST)
        assert catalog.heads() == ()
    assert "another process is writing" in caught.value.hint


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4080])
def test_a_damaged_file_is_a_store_error(path: Path, content: bytes) -> None:
    """A file that is no database is left untouched and reported as a StoreError."""
    path.write_bytes(content)
    with pytest.raises(StoreError, match="file is not a database") as caught:
        Catalog.open(path)
    assert "backup" in caught.value.hint
    assert path.read_bytes() == content


def test_damaged_pages_are_a_store_error(path: Path) -> None:
    """A catalog whose inner pages were overwritten is reported as a StoreError."""
    with Catalog.open(path) as catalog:
        catalog.commit(FIRST)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StoreError, match="malformed"), Catalog.open(path) as catalog:
        catalog.heads()


def test_a_catalog_of_the_first_release_opens(path: Path) -> None:
    """A catalog as the first release wrote it opens with all that it held."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        assert catalog.source("iwf") == SourceState("iwf", MEMORY, ONE, NOON)
        assert catalog.recent_syncs() == (SyncRecord("5afe", "iwf", NOON, ONE, Outcome.PUBLISHED, (), "done", 512),)
        assert catalog.origins() == (ORIGIN,)
        assert catalog.heads() == (HEAD,)
        assert catalog.versions(PUBLISHED) == (VERSION,)
        assert catalog.audit_entries() == (ENTRY,)
        assert [(pending.id, pending.files) for pending in catalog.pending()] == [(1, FILES)]
        assert catalog.commit(SECOND) == 2


def test_a_catalog_of_the_first_release_takes_a_schedule(path: Path) -> None:
    """Migrated, it knows of no run to come and no failure, remembers both, and the old file is kept beside it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        before = catalog.source("iwf")
        assert (before.next_run_at, before.cool_down_until, before.failures) == (None, None, 0)
        catalog.note_schedule("iwf", ONE, cool_down_until=ONE, failures=3)
        assert catalog.source("iwf") == replace(before, next_run_at=ONE, cool_down_until=ONE, failures=3)
    assert path.with_name("catalog.sqlite3.before-0001").exists()


def test_a_catalog_of_the_second_schema_takes_matchers(path: Path) -> None:
    """Migrated, it keeps schedule and lists, knows of no matcher, and takes one; the old file is kept beside it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(SECOND_FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        before = catalog.source("iwf")
        assert (before.next_run_at, before.failures, before.last_verified_at) == (ONE, 2, NOON)
        assert (catalog.heads(), catalog.versions(PUBLISHED)) == ((HEAD,), (VERSION,))
        assert (catalog.matchers(), catalog.loaded()) == ((), ())
        catalog.add_matcher(WEB, ENTRY)
        assert catalog.matchers() == (WEB,)
    assert path.with_name("catalog.sqlite3.before-0002").exists()


def test_a_catalog_of_the_third_schema_takes_faults(path: Path) -> None:
    """Migrated, it knows a dry run that would have published as one, and takes what became of each list."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(THIRD_FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        dry, held, published = catalog.recent_syncs("iwf")
        assert (dry.dry_run, held.dry_run, published.dry_run) == (True, False, False)
        assert catalog.last_ended("iwf") == held
        assert held.reported_faults == {"": SyncFault(Outcome.HELD, ("emptied",), "")}
        assert (dry.reported_faults, published.reported_faults) == ({}, {})
        catalog.begin_sync("7e57", "iwf", ONE)
        faults = {"iwf.videos": SyncFault(Outcome.HELD, ("emptied",))}
        catalog.finish_sync("7e57", Outcome.HELD, now=ONE, faults=faults)
        assert catalog.recent_syncs("iwf", 1)[0].reported_faults == faults
    assert path.with_name("catalog.sqlite3.before-0003").exists()


def test_a_catalog_of_the_fourth_schema_keeps_order_and_reasons_of_its_syncs(path: Path) -> None:
    """Migrated, its syncs come in the order in which they were begun, whatever the clock said, and so do new ones."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FOURTH_FIXTURE.read_text())
    with Catalog.open(path) as catalog:
        assert [one.id for one in catalog.recent_syncs()] == ["0001", "bad0", "d4a1", "5eed", "5afe", "ffff"]
        rejected = catalog.sync("bad0")
        assert rejected is not None
        assert (rejected.outcome, rejected.bytes, rejected.started_at) == (Outcome.REJECTED, 9_000_000_000, ONE)
        assert rejected.reasons == ("RollbackError",)
        assert rejected.faults == {"": SyncFault(Outcome.REJECTED, ("RollbackError",), rejected.message)}
        assert rejected.message == "the snapshot, version 3, is older"  # nothing but reasons is taken apart
        held = catalog.sync("5eed")
        assert held is not None
        assert held.reasons == ("emptied", "forked")
        assert held.faults["iwf.videos"] == SyncFault(Outcome.HELD, ("emptied", "forked"))
        assert catalog.mark_interrupted(ONE) == 1
        catalog.begin_sync("0a0a", "iwf", NOON)
        assert [one.id for one in catalog.recent_syncs("iwf", 2)] == ["0a0a", "d4a1"]
        assert (catalog.heads(), catalog.matchers(), catalog.loaded()) == ((HEAD,), (WEB,), (LOADED,))
    assert path.with_name("catalog.sqlite3.before-0004").exists()


def test_a_catalog_of_the_fourth_schema_keeps_what_its_sources_remember(path: Path) -> None:
    """Migrated, floors and pinned root are one memory, also of a source that was retrusted; an attempt leaves none."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FOURTH_FIXTURE.read_text())
        old = "INSERT INTO sources (name, floors, root_sha256, last_attempt_at) VALUES (?, ?, ?, ?)"
        floors = {"root": 1, "timestamp": 41, "snapshot": 12, "roles": {"lists": 9}, "clock": "2026-03-01T12:00:00Z"}
        connection.execute(old, ("hotline", json.dumps(floors), "e" * 64, "2026-03-01T12:00:00.000000+00:00"))
        nothing = {"root": 0, "timestamp": 0, "snapshot": 0, "roles": {}, "clock": None}
        connection.execute(old, ("new", json.dumps(nothing), None, "2026-03-01T12:00:00.000000+00:00"))
    with Catalog.open(path) as catalog:
        assert FeedMemory.of(catalog.source("iwf").memory) == FeedMemory(Floors(clock=NOON), "f" * 64)
        assert FeedMemory.of(catalog.source("hotline").memory) == FeedMemory(
            Floors(root=1, timestamp=41, snapshot=12, roles={"lists": 9}, clock=NOON), "e" * 64
        )
        assert catalog.source("new") == SourceState("new", {}, NOON)
        before = catalog.source("iwf")
        assert (before.next_run_at, before.failures, before.last_verified_at) == (ONE, 2, NOON)
        catalog.note_verified("iwf", MEMORY, ONE)
        assert catalog.source("iwf") == replace(before, memory=MEMORY, last_verified_at=ONE)


def later_scripts(folder: Path, upgrade: str) -> Path:
    """The shipped migrations and one more, as a later release will have."""
    for script in (schema.MIGRATIONS / "env.py", *schema.MIGRATIONS.glob("versions/v*.py")):
        copied = folder / script.relative_to(schema.MIGRATIONS)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(script.read_text())
    (folder / "versions" / "v9999_later.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision, down_revision = '9999', '{tables.REVISION}'\ndef upgrade():\n    {upgrade}\n"
    )
    return folder


REBUILD = (
    "with op.batch_alter_table('publications', recreate='always') as table:\n"
    "        table.add_column(sa.Column('note', sa.Text))"
)


def test_an_older_catalog_is_kept_before_it_is_migrated(path: Path, tmp_path: Path) -> None:
    """A migration keeps a private, whole copy of the old catalog, and loses no row even where it rebuilds a table."""
    with Catalog.open(path) as catalog:
        catalog.commit(FIRST)
    before = dump(path)
    scripts = later_scripts(tmp_path / "100% later", REBUILD)
    bring_up(path, scripts)
    kept = path.with_name(f"catalog.sqlite3.before-{tables.REVISION}")
    assert dump(kept) == before
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
        assert connection.execute("SELECT id, note FROM publications").fetchall() == [(1, None)]
        assert connection.execute("SELECT count(*) FROM signed_files").fetchall() == [(2,)]


def test_a_new_catalog_keeps_no_copy(path: Path) -> None:
    """Making a catalog, or opening one that is up to date, leaves no copy beside it."""
    Catalog.open(path).close()
    Catalog.open(path).close()
    assert [file.name for file in path.parent.iterdir()] == ["catalog.sqlite3"]


@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ("op.drop_table('audit'); op.execute('INSERT INTO nowhere VALUES (1)')", "no such table: nowhere"),
        ("op.drop_table('audit'); op.execute('DELETE FROM publications')", "rows refer to missing rows"),
    ],
)
def test_a_failed_migration_changes_nothing(path: Path, tmp_path: Path, upgrade: str, message: str) -> None:
    """A migration that fails half-way leaves the old schema and every row."""
    with Catalog.open(path) as catalog:
        catalog.commit(FIRST)
    before = dump(path)
    with pytest.raises(StoreError, match=message):
        bring_up(path, later_scripts(tmp_path / "later", upgrade))
    assert dump(path) == before


def test_of_two_that_migrate_the_second_finds_it_done(path: Path) -> None:
    """A process that waited while another migrated neither migrates again nor copies the new catalog as an old one."""
    Catalog.open(path).close()
    opened = open_database(path, 0)
    schema._migrate(opened, tables.REVISION, schema.MIGRATIONS)
    opened.engine.dispose()
    assert [file.name for file in path.parent.iterdir()] == ["catalog.sqlite3"]


def test_a_newer_schema_is_refused(path: Path) -> None:
    """A catalog that a newer syncd wrote is refused as a usage error, untouched, with a way out."""
    Catalog.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    before = dump(path)
    with pytest.raises(UsageError, match="has schema 0099, which this syncd does not know") as caught:
        Catalog.open(path)
    assert caught.value.exit_code == 2
    assert "newer syncd" in caught.value.hint
    assert dump(path) == before
    assert not path.with_name("catalog.sqlite3.before-0099").exists()


def test_another_programs_database_is_refused(path: Path) -> None:
    """A database of another program gets no tables of ours."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = dump(path)
    with pytest.raises(UsageError, match="is not a syncd catalog"):
        Catalog.open(path)
    assert dump(path) == before


def test_a_backup_that_fails_leaves_nothing(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that fails half-way is a StoreError and leaves no file behind."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite, "_copy_pages", fail)
    target = tmp_path / "backups" / "catalog.sqlite3"
    target.parent.mkdir()
    with pytest.raises(StoreError, match="disk is full"):
        catalog.backup(target)
    assert list(target.parent.iterdir()) == []
