"""The catalog: one transaction a method, compare-and-swap at the commit point, migrations that lose nothing."""

import stat
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

from databases import alter, everything, rows_of
from syncd.acts import Earlier, PublishedVersion, Retrusted, RevokedMatcher
from syncd.catalog import schema, tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import HeadNote, OriginMove, Records
from syncd.catalog.database import CatalogPlace
from syncd.catalog.records import (
    AuditEntry,
    HeadRecord,
    LoadedVersion,
    MatcherRecord,
    OriginRecord,
    SourceState,
    SyncRecord,
    VersionRecord,
)
from syncd.database_address import DatabaseAddress
from syncd.errors import LostRaceError, RefusedError, StoreError, UsageError
from syncd.format.manifest import EndState, Manifest, SegmentRef
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Outcome
from syncd.publish.ledger import Commit, HeadMove

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ONE = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
IMAGES = ListName("images")
PUBLISHED = ListName("iwf.images")

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
def place(tmp_path: Path, database: DatabaseAddress | None) -> CatalogPlace:
    return database or tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(place: CatalogPlace) -> Iterator[Catalog]:
    with Catalog.open(place) as opened:
        yield opened


# records


def test_a_new_catalog_is_empty(catalog: Catalog) -> None:
    """A new catalog knows nothing and says so without errors."""
    assert (catalog.heads(), catalog.origins(), catalog.recent_syncs()) == ((), (), ())
    assert (catalog.pending(), catalog.versions(PUBLISHED), catalog.audit_entries()) == ((), (), ())
    assert (catalog.head(PUBLISHED), catalog.origin("iwf", IMAGES)) == (None, None)
    assert catalog.version(PUBLISHED, 1) is None
    assert catalog.source("iwf") == SourceState("iwf")


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
    with pytest.raises(StoreError, match=r"(?i)unique constraint"):
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
    before = everything(catalog)
    with pytest.raises(UsageError, match="a matcher named web exists already") as caught:
        catalog.add_matcher(replace(WEB, token_sha256="3" * 64), ENTRY)
    assert "syncd matchers revoke web" in caught.value.hint
    with pytest.raises(UsageError, match="there is no matcher of that name"):
        catalog.revoke_matcher("other", ENTRY)
    assert everything(catalog) == before


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
    before = everything(catalog)
    with pytest.raises(LostRaceError, match="another process published") as caught:
        catalog.commit(stale)
    assert caught.value.exit_code == 6
    assert everything(catalog) == before


def test_a_vanished_origin_or_head_is_a_conflict(catalog: Catalog) -> None:
    """Expecting an origin or a head where there is none is refused too."""
    with pytest.raises(RefusedError):
        catalog.commit(moved(1, FIRST))
    with pytest.raises(RefusedError):
        catalog.commit(without_origin(SECOND))


def test_a_version_number_is_published_once(catalog: Catalog) -> None:
    """A number that was published is refused even if the head is not at it."""
    catalog.commit(FIRST)
    alter(catalog, "DELETE FROM heads")
    with pytest.raises(RefusedError):
        catalog.commit(without_origin(FIRST))


def test_of_two_connections_one_publishes(place: CatalogPlace) -> None:
    """Of two processes that computed from the same state, at the same moment, exactly one publishes."""
    start = threading.Barrier(2)
    outcomes: list[object] = []

    def publish() -> None:
        with Catalog.open(place) as mine:
            start.wait()
            try:
                outcomes.append(mine.commit(SECOND))
            except RefusedError as error:
                outcomes.append(error.exit_code)

    with Catalog.open(place) as catalog:
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
    assert rows_of(catalog, "SELECT id, installed FROM publications ORDER BY id") == [(2, False), (4, True)]
    assert rows_of(catalog, "SELECT publication_id FROM signed_files ORDER BY 1") == [(2,), (4,)]
    assert len(catalog.versions(PUBLISHED)) == 2


def test_publication_numbers_are_not_used_again(catalog: Catalog) -> None:
    """A publication committed after the newest was lost gets a new number."""
    assert catalog.commit(RESIGNED) == 1
    alter(catalog, "DELETE FROM signed_files", "DELETE FROM publications")
    assert catalog.commit(RESIGNED) == 2


# the disk and other processes


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
    alter(catalog, damage)
    with pytest.raises(StoreError, match="a value that cannot be read"):
        catalog.origin("iwf", IMAGES)


# schema and copies


def test_the_migrations_build_the_tables(catalog: Catalog) -> None:
    """Migrating an empty file gives exactly the tables that the code reads, and the newest revision is the code's."""
    with catalog._database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == tables.REVISION
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [tables.REVISION]


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
