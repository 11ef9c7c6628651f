"""The catalog: one transaction a method, compare-and-swap at the commit point, migrations that lose nothing."""

import contextlib
import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import JsonValue

from syncd.acts import Earlier, PublishedVersion, Retrusted, RevokedMatcher
from syncd.catalog import database, schema, tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import HeadNote, OriginMove, Records
from syncd.catalog.records import (
    AuditEntry,
    HeadRecord,
    LoadedVersion,
    MatcherRecord,
    OriginRecord,
    SourceState,
    SyncFault,
    SyncRecord,
    VersionRecord,
)
from syncd.errors import RESTORE_CATALOG, LostRaceError, RefusedError, StoreError, UsageError
from syncd.format.manifest import EndState, Manifest, SegmentRef
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Outcome
from syncd.publish.ledger import Commit, HeadMove
from syncd.sources.feed_memory import FeedMemory
from syncd.trust.values import Floors

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
IMAGES = ListName("images")
PUBLISHED = ListName("iwf.images")
FIXTURE = Path(__file__).parent / "fixtures" / "catalog_v1.sqlite3.sql"
SECOND_FIXTURE = FIXTURE.with_name("catalog_v2.sqlite3.sql")
THIRD_FIXTURE = FIXTURE.with_name("catalog_v3.sqlite3.sql")
FOURTH_FIXTURE = FIXTURE.with_name("catalog_v4.sqlite3.sql")

BASE = SegmentRef(sha256="5" * 64, length=4096, algorithm=Algorithm.SHA256, kind="base", rows=10, removals=0)
ORIGIN = OriginRecord(
    source="iwf",
    list=IMAGES,
    serial=7,
    manifest_sha256="a" * 64,
    manifest=b'{"serial":7}',
    end_state={Algorithm.SHA256: EndState(rows=10, checksum="c" * 32)},
    verified_at=NOON,
)
HEAD = HeadRecord(PUBLISHED, "iwf", 1, "b" * 64, 7, NOON)
VERSION = VersionRecord(
    list=PUBLISHED,
    version=1,
    manifest_sha256="b" * 64,
    manifest=b'{"version":1}',
    created_at=NOON,
    sync_id="5afe",
    plan="full: first",
    counts={Algorithm.SHA256: Counts(added=10)},
    rows=10,
)
FLOORS: dict[str, JsonValue] = {"root": 1, "timestamp": 41, "snapshot": 12, "roles": {"lists": 9}}
MEMORY: dict[str, JsonValue] = {
    "floors": {**FLOORS, "clock": "2026-03-01T12:00:00Z"},
    "root_sha256": "f" * 64,
    "type": "feed",
}
WEB = MatcherRecord("web", "1" * 64, (PUBLISHED,), NOON, "alice")
ALL = MatcherRecord("all", "2" * 64, None, NOON, "alice")
LOADED = LoadedVersion("web", "web-1", PUBLISHED, 1, NOON, ONE)
FILES = (("metadata/1.snapshot.json", b"snapshot 1"), ("metadata/timestamp.json", b"timestamp 1"))
ENTRY = AuditEntry(NOON, "operator", Earlier("sync", "iwf", {"version": 1}))
NOTE = HeadNote("iwf", 7, "full: first", "5afe", VERSION.counts)
MOVE = HeadMove(
    Manifest(list=PUBLISHED, version=1, previous=None, created=NOON, end_state=dict(ORIGIN.end_state), stack=(BASE,)),
    "b" * 64,
    VERSION.manifest,
    None,
)
FIRST = Commit("publish", FILES, NOON, (MOVE,), Records((OriginMove(ORIGIN, 0),), {PUBLISHED: NOTE}, audit=(ENTRY,)))
NEXT_ORIGIN = replace(ORIGIN, serial=8, manifest_sha256="d" * 64, revision=2)
NEXT_MOVE = HeadMove(MOVE.manifest.model_copy(update={"version": 2}), "e" * 64, VERSION.manifest, 1)
NEXT_HEAD = replace(HEAD, version=2, manifest_sha256="e" * 64, published_at=ONE)
NEXT_VERSION = replace(VERSION, version=2, manifest_sha256="e" * 64, created_at=ONE)
SECOND = Commit(
    "publish",
    (("metadata/timestamp.json", b"timestamp 2"),),
    ONE,
    (NEXT_MOVE,),
    Records((OriginMove(NEXT_ORIGIN, 1),), {PUBLISHED: NOTE}),
)
RESIGNED: Commit[Records] = Commit("resign", (("metadata/timestamp.json", b"timestamp 3"),), ONE)


def moved(before: int, commit: Commit[Records] = SECOND) -> Commit[Records]:
    """The same commit, computed from another origin."""
    assert commit.records
    (move,) = commit.records.origins
    return replace(commit, records=replace(commit.records, origins=(replace(move, before=before),)))


def without_origin(commit: Commit[Records]) -> Commit[Records]:
    """The same commit of a head alone."""
    assert commit.records
    return replace(commit, records=replace(commit.records, origins=()))


def computed_from(head: int | None, commit: Commit[Records] = SECOND) -> Commit[Records]:
    """The same commit, computed from another version of the head."""
    (move,) = commit.heads
    return replace(commit, heads=(replace(move, before=head),))


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


# records


def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    """A new catalog knows nothing and says so without errors."""
    assert (catalog.heads(), catalog.origins(), catalog.recent_syncs()) == ((), (), ())
    assert (catalog.pending(), catalog.versions(PUBLISHED), catalog.audit_entries()) == ((), (), ())
    assert (catalog.head(PUBLISHED), catalog.origin("iwf", IMAGES)) == (None, None)
    assert catalog.version(PUBLISHED, 1) is None
    assert catalog.source("iwf") == SourceState("iwf")


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
    with catalog._engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert values == ["wal", 2, 1, 10_000]


def test_attempts_do_not_move_verification(catalog: Catalog) -> None:
    """A failed attempt moves last_attempt_at only: memory and the last verification stay what they were."""
    catalog.note_attempt("iwf", NOON)
    catalog.note_verified("iwf", MEMORY, NOON)
    catalog.note_attempt("iwf", ONE)
    assert catalog.source("iwf") == SourceState("iwf", MEMORY, ONE, NOON)
    assert catalog.source("other").memory == {}


def test_a_first_verification_needs_no_attempt(catalog: Catalog) -> None:
    """Verification of a source that was never seen is stored, and later ones replace it as given."""
    catalog.note_verified("iwf", MEMORY, NOON)
    catalog.note_verified("iwf", {"checkpoint": [1, None]}, ONE)
    assert catalog.source("iwf") == SourceState("iwf", {"checkpoint": [1, None]}, None, ONE)


def test_syncs_run_and_finish(catalog: Catalog) -> None:
    """A sync is running until it is finished, once; the newest comes first."""
    catalog.begin_sync("01", "iwf", NOON)
    catalog.begin_sync("02", "ncmec", ONE)
    assert catalog.recent_syncs("iwf") == (SyncRecord("01", "iwf", NOON, None, Outcome.RUNNING, (), "", 0),)
    catalog.finish_sync("01", Outcome.HELD, reasons=("SHRINK",), message="12 % fewer", now=ONE, received=512)
    finished = SyncRecord("01", "iwf", NOON, ONE, Outcome.HELD, ("SHRINK",), "12 % fewer", 512)
    assert catalog.recent_syncs() == (SyncRecord("02", "ncmec", ONE), finished)
    assert catalog.recent_syncs(limit=1) == (SyncRecord("02", "ncmec", ONE),)
    with pytest.raises(StoreError, match="sync 01 is not running"):
        catalog.finish_sync("01", Outcome.PUBLISHED, now=ONE)
    assert catalog.recent_syncs("iwf") == (finished,)


def test_a_sync_id_is_used_once(catalog: Catalog) -> None:
    """The same sync cannot begin twice, and the error is one of ours."""
    catalog.begin_sync("01", "iwf", NOON)
    with pytest.raises(StoreError, match="UNIQUE constraint"):
        catalog.begin_sync("01", "iwf", NOON)


def test_interrupted_syncs_are_marked(catalog: Catalog) -> None:
    """Syncs that a killed process left running become interrupted; finished ones stay as they were."""
    catalog.begin_sync("01", "iwf", NOON)
    catalog.begin_sync("02", "iwf", NOON + timedelta(seconds=1))
    catalog.finish_sync("01", Outcome.UP_TO_DATE, now=NOON)
    assert catalog.mark_interrupted(ONE) == 1
    assert [(sync.id, sync.outcome, sync.finished_at) for sync in catalog.recent_syncs()] == [
        ("02", Outcome.INTERRUPTED, ONE),
        ("01", Outcome.UP_TO_DATE, NOON),
    ]
    assert catalog.mark_interrupted(ONE) == 0


def test_times_come_back_in_utc(catalog: Catalog) -> None:
    """A time in any zone is stored and returned as the same instant in UTC."""
    catalog.note_attempt("iwf", datetime(2026, 3, 1, 14, 30, 0, 250, tzinfo=timezone(timedelta(hours=2))))
    found = catalog.source("iwf").last_attempt_at
    assert found is not None
    assert found.isoformat() == "2026-03-01T12:30:00.000250+00:00"


def test_audit_entries_come_newest_first(catalog: Catalog) -> None:
    """The audit log returns what was written, newest first."""
    later = AuditEntry(ONE, "operator", Retrusted("iwf", 2, "rebuilt"))
    catalog.append(ENTRY.actor, ENTRY.act, ENTRY.at)
    catalog.append_all([later])
    assert catalog.audit_entries() == (later, ENTRY)
    assert catalog.audit_entries(limit=1) == (later,)


def test_touch_verified_moves_only_what_was_verified(catalog: Catalog) -> None:
    """Only the origin that is still at the verified serial is marked as verified later."""
    catalog.commit(FIRST)
    videos = replace(ORIGIN, list=ListName("videos"), serial=3)
    catalog.commit(Commit("origin", (), NOON, records=Records((OriginMove(videos, 0),))))
    catalog.touch_verified("iwf", {IMAGES: 7, ListName("videos"): 2, ListName("unknown"): 1}, ONE)
    assert [(origin.list, origin.verified_at) for origin in catalog.origins()] == [("images", ONE), ("videos", NOON)]


# matchers


def test_matchers_are_added_and_revoked(catalog: Catalog) -> None:
    """Each with its audit entry, in one transaction; a revoked one is in force no more, and may be added again."""
    revoked, again = AuditEntry(ONE, "bob", RevokedMatcher("web")), replace(WEB, token_sha256="3" * 64, created_at=ONE)
    catalog.add_matcher(WEB, ENTRY)
    catalog.add_matcher(ALL, ENTRY)
    assert catalog.matchers() == (ALL, WEB)
    catalog.revoke_matcher("web", revoked)
    assert catalog.matchers() == (ALL,)
    catalog.add_matcher(again, ENTRY)
    assert catalog.matchers() == (ALL, again)
    assert catalog.audit_entries() == (ENTRY, revoked, ENTRY, ENTRY)


def test_a_name_in_force_is_not_given_twice(catalog: Catalog) -> None:
    """Nothing changes, and what to do is said; so it is where there is nothing to revoke."""
    catalog.add_matcher(WEB, ENTRY)
    before = dump(catalog.path)
    with pytest.raises(UsageError, match="a matcher named web exists already") as caught:
        catalog.add_matcher(replace(WEB, token_sha256="3" * 64), ENTRY)
    assert "syncd matchers revoke web" in caught.value.hint
    with pytest.raises(UsageError, match="there is no matcher of that name"):
        catalog.revoke_matcher("other", ENTRY)
    assert dump(catalog.path) == before


def test_what_is_loaded_is_replaced_by_instance(catalog: Catalog) -> None:
    """What an instance says is the whole truth about it; others are left alone, however many are replaced."""
    catalog.add_matcher(WEB, ENTRY)
    many = [LoadedVersion("web", f"web-{number:04}", PUBLISHED, 1, NOON, NOON) for number in range(1200)]
    catalog.replace_loaded((), many)
    assert catalog.loaded() == tuple(many)
    catalog.replace_loaded([(one.matcher, one.instance) for one in many[1:]], [replace(many[1], version=2)])
    assert catalog.loaded() == (many[0], replace(many[1], version=2))


def test_a_revoked_matcher_has_nothing_loaded(catalog: Catalog) -> None:
    """What it had is forgotten with it, and what was still under way is not remembered."""
    catalog.add_matcher(WEB, ENTRY)
    catalog.replace_loaded((), [LOADED])
    catalog.revoke_matcher("web", ENTRY)
    assert catalog.loaded() == ()
    catalog.replace_loaded((), [LOADED, replace(LOADED, matcher="unknown")])
    assert catalog.loaded() == ()


def test_due_is_the_newest_version_of_then(catalog: Catalog) -> None:
    """A version that was published after that moment is not due."""
    catalog.commit(FIRST)
    assert catalog.due_versions(NOON - timedelta(seconds=1)) == {}
    catalog.commit(SECOND)
    assert catalog.due_versions(NOON) == {PUBLISHED: 1}
    assert catalog.due_versions(ONE) == {PUBLISHED: 2}


def test_several_audit_entries_are_written_at_once(catalog: Catalog) -> None:
    """In their order."""
    later = replace(ENTRY, at=ONE)
    catalog.append_all([ENTRY, later])
    assert catalog.audit_entries() == (later, ENTRY)


# the commit point


def test_a_commit_writes_everything(catalog: Catalog) -> None:
    """One commit stores origin, head, version, audit entry and the exact signed bytes."""
    assert catalog.commit(FIRST) == 1
    assert catalog.origin("iwf", IMAGES) == ORIGIN
    assert catalog.origins() == (ORIGIN,)
    assert catalog.head(PUBLISHED) == HEAD
    assert catalog.heads() == (HEAD,)
    assert catalog.version(PUBLISHED, 1) == VERSION
    published = PublishedVersion(PUBLISHED, 1, VERSION.rows, VERSION.plan, VERSION.sync_id or "")
    assert catalog.audit_entries() == (ENTRY, AuditEntry(FIRST.created_at, ENTRY.actor, published))
    (pending,) = catalog.pending()
    assert (pending.id, pending.kind, pending.created_at, pending.files) == (1, "publish", NOON, FILES)


def test_a_second_commit_replaces_head_and_keeps_history(catalog: Catalog) -> None:
    """The next commit moves origin and head and keeps every published version, newest first."""
    catalog.commit(FIRST)
    assert catalog.commit(SECOND) == 2
    assert (catalog.origin("iwf", IMAGES), catalog.head(PUBLISHED)) == (NEXT_ORIGIN, NEXT_HEAD)
    assert catalog.versions(PUBLISHED) == (NEXT_VERSION, VERSION)
    assert catalog.versions(PUBLISHED, limit=1) == (NEXT_VERSION,)


def test_a_resigning_touches_no_list(catalog: Catalog) -> None:
    """A re-signing stores files only."""
    catalog.commit(FIRST)
    catalog.commit(RESIGNED)
    assert (catalog.origins(), catalog.heads(), catalog.versions(PUBLISHED)) == ((ORIGIN,), (HEAD,), (VERSION,))
    assert [pending.files for pending in catalog.pending()] == [FILES, RESIGNED.files]


@pytest.mark.parametrize(
    "stale",
    [
        FIRST,
        moved(9),
        moved(0),
        computed_from(None),
        computed_from(0),
        without_origin(computed_from(None)),
        replace(moved(9), heads=()),
    ],
)
def test_a_stale_commit_is_refused_whole(catalog: Catalog, stale: Commit[Records]) -> None:
    """A commit computed from another origin or head changes nothing at all."""
    catalog.commit(FIRST)
    before = dump(catalog.path)
    with pytest.raises(LostRaceError, match="another process published") as caught:
        catalog.commit(stale)
    assert caught.value.exit_code == 6
    assert dump(catalog.path) == before


def test_a_vanished_origin_or_head_is_a_conflict(catalog: Catalog) -> None:
    """Expecting an origin or a head where there is none is refused too."""
    with pytest.raises(RefusedError):
        catalog.commit(moved(1, FIRST))
    with pytest.raises(RefusedError):
        catalog.commit(without_origin(SECOND))


def test_a_version_number_is_published_once(catalog: Catalog) -> None:
    """A number that was published is refused even if the head is not at it."""
    catalog.commit(FIRST)
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection, connection:
        connection.execute("DELETE FROM heads")
    with pytest.raises(RefusedError):
        catalog.commit(without_origin(FIRST))


def test_of_two_connections_one_publishes(path: Path) -> None:
    """Of two processes that computed from the same state, at the same moment, exactly one publishes."""
    start = threading.Barrier(2)
    outcomes: list[object] = []

    def publish() -> None:
        with Catalog.open(path) as mine:
            start.wait()
            try:
                outcomes.append(mine.commit(SECOND))
            except RefusedError as error:
                outcomes.append(error.exit_code)

    with Catalog.open(path) as catalog:
        catalog.commit(FIRST)
        threads = [threading.Thread(target=publish) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) == ["2", "6"]
        assert len(catalog.pending()) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(MOVE, before=1),
        lambda: replace(FIRST, files=(*reversed(FILES),)),
    ],
)
def test_parts_that_do_not_belong_together_are_a_bug(make: Callable[[], object]) -> None:
    """A version that does not rise and a file after the timestamp that is no root cannot even be built."""
    with pytest.raises(ValueError, match=r"only rise|only a root"):
        make()


def test_one_commit_moves_several_heads(catalog: Catalog) -> None:
    """All of them or none: one signed state names them all."""
    videos = ListName("iwf.videos")
    other = replace(MOVE, manifest=MOVE.manifest.model_copy(update={"list": videos}))
    both = Records(notes={PUBLISHED: NOTE, videos: NOTE})
    with pytest.raises(LostRaceError):
        catalog.commit(Commit("publish", FILES, NOON, (other, NEXT_MOVE), both))
    assert catalog.heads() == ()
    catalog.commit(Commit("publish", FILES, NOON, (MOVE, other), both))
    assert [(one.list, one.version) for one in catalog.heads()] == [(PUBLISHED, 1), (videos, 1)]


def test_records_show_no_content() -> None:
    """No repr shows manifest or signed bytes."""
    assert "1111" not in repr(WEB)
    assert "snapshot 1" not in repr(FIRST)
    assert '"serial"' not in repr(FIRST)
    assert '"version"' not in repr(VERSION)


# what is to be installed


def test_publications_are_installed_in_order(catalog: Catalog) -> None:
    """What is committed stays pending, oldest first, until it is marked as installed."""
    for commit in (FIRST, SECOND, RESIGNED):
        catalog.commit(commit)
    assert [pending.id for pending in catalog.pending()] == [1, 2, 3]
    catalog.installed(1)
    assert [pending.id for pending in catalog.pending()] == [2, 3]
    with pytest.raises(StoreError, match="does not know publication 9"):
        catalog.installed(9)


def test_pruning_spares_the_newest_and_the_pending(catalog: Catalog) -> None:
    """Pruning removes installed publications with their files, and never a pending one, the newest, or a version."""
    for commit in (FIRST, SECOND, RESIGNED, RESIGNED):
        catalog.commit(commit)
    for publication_id in (1, 3, 4):
        catalog.installed(publication_id)
    assert catalog.prune_publications(3) == 1
    assert catalog.prune_publications(0) == 1
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection:
        assert connection.execute("SELECT id, installed FROM publications").fetchall() == [(2, 0), (4, 1)]
        assert connection.execute("SELECT publication_id FROM signed_files").fetchall() == [(2,), (4,)]
    assert len(catalog.versions(PUBLISHED)) == 2


def test_publication_numbers_are_not_used_again(catalog: Catalog) -> None:
    """A publication committed after the newest was lost gets a new number."""
    assert catalog.commit(RESIGNED) == 1
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection, connection:
        connection.execute("DELETE FROM signed_files")
        connection.execute("DELETE FROM publications")
    assert catalog.commit(RESIGNED) == 2


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

        event.listen(catalog._engine, "before_cursor_execute", block)
        event.listen(catalog._engine, "commit", block)
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


# the disk and other processes


def test_a_full_disk_changes_nothing(catalog: Catalog) -> None:
    """A commit that meets a full disk is refused whole, says what to do, and succeeds once there is room."""
    catalog.commit(FIRST)
    with catalog._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    before = dump(catalog.path)
    large = replace(SECOND, files=(("metadata/timestamp.json", b"0" * 65536),))
    with pytest.raises(StoreError, match="database or disk is full") as caught:
        catalog.commit(large)
    assert "free disk space" in caught.value.hint
    assert dump(catalog.path) == before
    with catalog._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert catalog.commit(large) == 2


def test_a_read_only_disk_is_a_store_error(catalog: Catalog) -> None:
    """A write where nothing may be written is a StoreError, and reading goes on."""
    with catalog._engine.connect() as connection:
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
    catalog._engine.dispose()
    catalog.path.unlink()
    with pytest.raises(StoreError, match="unable to open"):
        catalog.heads()
    assert not catalog.path.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_into_a_catalog_that_nobody_finds_again(catalog: Catalog, *, replaced: bool) -> None:
    """Connections that are open still reach a file that was removed, or another put in its place; we say so instead."""
    catalog.note_attempt("iwf", NOON)
    other = catalog.path.with_name("copy.sqlite3")
    catalog.backup(other)
    catalog.path.unlink()
    if replaced:
        other.rename(catalog.path)
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


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE origins SET owed = '[{}]'",
        "UPDATE origins SET verified_at = 'noon'",
        "UPDATE origins SET end_state = ''",
    ],
)
def test_a_damaged_value_is_a_store_error(catalog: Catalog, damage: str) -> None:
    """A value that this code never writes is a StoreError that does not show it."""
    catalog.commit(FIRST)
    with contextlib.closing(sqlite3.connect(catalog.path)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match="a value that cannot be read"):
        catalog.origin("iwf", IMAGES)


# schema and copies


def test_the_migrations_build_the_tables(catalog: Catalog) -> None:
    """Migrating an empty file gives exactly the tables that the code reads, and the newest revision is the code's."""
    with catalog._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == tables.REVISION
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [tables.REVISION]


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


def test_a_dry_run_is_neither_the_last_sync_nor_a_success(catalog: Catalog) -> None:
    """Whatever came of it: it changed nothing."""
    catalog.begin_sync("01", "iwf", NOON)
    catalog.finish_sync("01", Outcome.UP_TO_DATE, now=NOON)
    for number, outcome in enumerate((Outcome.UP_TO_DATE, Outcome.STAGED, Outcome.FAILED)):
        catalog.begin_sync(f"1{number}", "iwf", ONE, dry_run=True)
        catalog.finish_sync(f"1{number}", outcome, now=ONE)
    catalog.begin_sync("21", "iwf", ONE)
    last = catalog.last_ended("iwf")
    assert last is not None
    assert (last.id, catalog.last_success("iwf")) == ("01", NOON)
    assert catalog.last_ended("other") is None


def test_the_last_sync_is_the_last_whatever_the_clock_said(catalog: Catalog) -> None:
    """One of an hour when the clock ran ahead is not the last one for as long as that."""
    for number, at in enumerate((NOON + timedelta(days=400), ONE)):
        catalog.begin_sync(f"0{number}", "iwf", at)
        catalog.finish_sync(f"0{number}", Outcome.UP_TO_DATE, now=at)
    assert [one.id for one in catalog.recent_syncs("iwf")] == ["01", "00"]
    assert [one.id for one in catalog.recent_syncs(limit=1)] == ["01"]
    assert catalog.last_success("iwf") == ONE
    assert (catalog.recent_syncs("other"), catalog.last_success("other")) == ((), None)


def test_a_sync_is_found_by_its_name(catalog: Catalog) -> None:
    """Whoever started one without waiting can ask for it; an unknown name is none."""
    catalog.begin_sync("5afe", "iwf", NOON)
    assert catalog.sync("5afe") == SyncRecord("5afe", "iwf", NOON)
    assert catalog.sync("other") is None


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
    schema.bring_up(path, 0, revision="9999", scripts=scripts)
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
        schema.bring_up(path, 0, revision="9999", scripts=later_scripts(tmp_path / "later", upgrade))
    assert dump(path) == before


def test_of_two_that_migrate_the_second_finds_it_done(path: Path) -> None:
    """A process that waited while another migrated neither migrates again nor copies the new catalog as an old one."""
    Catalog.open(path).close()
    engine = database.make_engine(path, 0)
    schema._migrate(engine, path, tables.REVISION, schema.MIGRATIONS)
    engine.dispose()
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


def test_a_backup_is_a_whole_catalog(catalog: Catalog, tmp_path: Path) -> None:
    """A backup is one private file, free of a write-ahead log, that opens as a catalog with all committed so far."""
    catalog.commit(FIRST)
    target = tmp_path / "backups" / "catalog.sqlite3"
    target.parent.mkdir()
    catalog.backup(target)
    assert [file.name for file in target.parent.iterdir()] == ["catalog.sqlite3"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes()[18:20] == b"\x01\x01"  # rollback journal: https://sqlite.org/fileformat.html, 1.3.3
    catalog.commit(SECOND)
    with Catalog.open(target) as restored:
        assert (restored.heads(), restored.versions(PUBLISHED)) == ((HEAD,), (VERSION,))


def test_a_backup_overwrites_nothing(catalog: Catalog, tmp_path: Path) -> None:
    """A backup to an existing name, even a dangling link, is refused and leaves it as it was."""
    target, link = tmp_path / "precious", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for name in (target, link):
        with pytest.raises(UsageError, match="exists already"):
            catalog.backup(name)
    assert target.read_text() == "mine"
    assert link.is_symlink()


def test_a_backup_into_nowhere_is_a_store_error(catalog: Catalog, tmp_path: Path) -> None:
    """A backup into a folder that does not exist is a StoreError and makes no folder."""
    with pytest.raises(StoreError, match="cannot write"):
        catalog.backup(tmp_path / "unmounted" / "catalog.sqlite3")
    assert not (tmp_path / "unmounted").exists()


def test_a_backup_that_fails_leaves_nothing(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that fails half-way is a StoreError and leaves no file behind."""

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(database, "_copy_pages", fail)
    target = tmp_path / "backups" / "catalog.sqlite3"
    target.parent.mkdir()
    with pytest.raises(StoreError, match="disk is full"):
        catalog.backup(target)
    assert list(target.parent.iterdir()) == []


def test_old_versions_are_forgotten_and_the_head_never(catalog: Catalog) -> None:
    """Manifests of old versions do not pile up for ever."""
    catalog.commit(FIRST)
    catalog.commit(SECOND)
    assert catalog.prune_versions(PUBLISHED, 5) == 0
    assert catalog.prune_versions(PUBLISHED, 1) == 1
    assert [version.version for version in catalog.versions(PUBLISHED)] == [2]
    assert catalog.prune_versions(PUBLISHED, 0) == 0


def test_the_history_of_a_list_is_its_newest_versions_in_order(catalog: Catalog) -> None:
    """Without their manifests, of which a page of many would read megabytes."""
    catalog.commit(FIRST)
    catalog.commit(SECOND)
    both = [(one.version, one.created_at, one.plan, one.counts, one.rows) for one in (VERSION, NEXT_VERSION)]
    found = [(one.version, one.created_at, one.plan, one.counts, one.rows) for one in catalog.history(PUBLISHED, 5)]
    assert found == both
    assert [one.version for one in catalog.history(PUBLISHED, 1)] == [2]
    assert catalog.history(ListName("none"), 5) == ()
