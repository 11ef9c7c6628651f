"""The catalog's SQL is portable: PostgreSQL is to follow as a second database."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Integer, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from syncd.catalog import tables
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import Records
from syncd.catalog.decisions import CanaryNote, HoldEnd, HoldRecord, HoldState, SuppressionState, UpdateRecord
from syncd.catalog.fleet_records import DaemonRecord, NextKeys
from syncd.catalog.records import AuditFilter, Position
from syncd.catalog.sign_in_records import StoredSession
from syncd.model import Algorithm, ListName
from syncd.outcomes import HoldReason, Lane, Outcome
from syncd.publish.ledger import Commit
from syncd.retention import DEFAULTS, RetentionLimits
from test_catalog import ALL, ENTRY, FIRST, IMAGES, LOADED, NOON, ONE, ORIGIN, PUBLISHED, RESIGNED, SECOND, WEB

PACKAGE = Path(tables.__file__).parent
POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
NOT_STATEMENTS = {"open", "close", "backup", "copy_to", "damage"}
"""Methods about the database itself."""


def use_every_method(catalog: Catalog, target: Path) -> set[str]:
    """Call each method of the catalog so that every statement is issued; return the names of those called."""
    called: set[str] = set()

    def call(name: str, *arguments: Any, **named: Any) -> None:
        called.add(name)
        found = getattr(catalog, name)(*arguments, **named)
        if isinstance(found, Iterator):
            list(found)

    call("leader")
    call("row_counts")
    call("newest")
    call("wait_for_notice", 0.0, threading.Event())
    call("note_daemon", DaemonRecord("a", "host", 7, "1", NOON))
    call("daemons")
    call("forget_daemon", "a")
    call("place_order", "a", "alice", "{}")
    call("order_epoch", 1)
    call("order_answers", 1, 0)
    call("commit", FIRST)
    call("commit", SECOND)
    call("commit", RESIGNED)
    update = UpdateRecord(PUBLISHED, 9, "a" * 64, b"{}", NOON)
    waits = HoldRecord(PUBLISHED, "iwf", next(iter(Lane)), (HoldReason.EMPTIED,), (), 3, NOON)
    call("commit", Commit("hold", (), NOON, records=Records(update=update, opened=(waits,))))
    call("holds", PUBLISHED)
    call("hold", 1)
    call("update_of", catalog.holds()[0])
    ended = HoldEnd(1, HoldState.OPEN, HoldState.RELEASED, "alice", "confirmed")
    call("commit", Commit("release", (), NOON, records=Records(ended=(ended,))))
    call("prune_holds", 1)
    call("note_attempt", "iwf", NOON)
    call("note_verified", "iwf", {"root": 1}, NOON)
    call("note_schedule", "iwf", ONE)
    call("begin_sync", "01", "iwf", NOON)
    call("finish_sync", "01", Outcome.UP_TO_DATE, now=ONE)
    call("begin_sync", "02", "iwf", NOON)
    call("mark_interrupted", ONE)
    call("recent_syncs", "iwf")
    call("recent_syncs")
    for name in ("source", "last_ended", "last_success"):
        call(name, "iwf")
    call("sync", "01")
    call("touch_verified", "iwf", {IMAGES: 8}, ONE)
    for name in ("head", "versions", "history", "version", "prune_versions"):
        call(name, PUBLISHED, *{"history": (5,), "version": (2,), "prune_versions": (1,)}.get(name, ()))
    call("origin", ORIGIN.source, ORIGIN.list)
    call("list_records", ORIGIN.source, ORIGIN.list)
    for name in (
        "origins",
        "heads",
        "head_rows",
        "last_commit",
        "last_published",
        "pending",
        "matchers",
        "loaded",
        "audit_entries",
        "audit_head",
    ):
        call(name)
    call("current", None, ListName("other"))
    call("in_force", ListName("other"))
    call("freshness", None, (), None, NOON)
    call("installed", 1)
    call("note_unnamed_files", "feed", "{}")
    call("unnamed_files", "feed")
    call("prune_publications", 1)
    call("append", "me", ENTRY.act, NOON)
    call("append_all", [ENTRY])
    wanted = AuditFilter(NOON, ONE, "me", "revoked_matcher", "iwf.images")
    call("audit_records", wanted, limit=1)
    called.add("audit_pages")
    assert list(catalog.audit_pages(wanted, 1)) == []
    call("version_at", PUBLISHED, NOON)
    call("oldest_version", PUBLISHED)
    call("check_audit")
    call("add_matcher", WEB, ENTRY)
    call("add_matcher", ALL, ENTRY)
    call("replace_loaded", [("web", "web-1")], [LOADED])
    call("loaded_since", 0)
    call("loaded_instances")
    call("revoke_matcher", "web", ENTRY)
    call("due_versions", ONE)
    call("correct_verified", NOON)
    call("last_hold_ends")
    for name in ("history_lists", "newest_history", "oldest_history", "first_load"):
        call(name)
    for name in ("unfolded_history", "history_states", "first_history", "history_months"):
        call(name, PUBLISHED)
    call("history_records", [1, 2])
    call("history_at", PUBLISHED, ONE)
    call("note_folded", [1], [2])
    call("prune_history", ONE)
    call("loads_at", [PUBLISHED], ONE)
    call("prune_loads", ONE, 1)
    call("past_changes", PUBLISHED, NOON)
    call("past_label_changes", PUBLISHED, NOON)
    call("prune_sizes", NOON)
    for name in ("suppressions", "last_suppression", "suppression_counts", "canary_notes", "known_good_marks"):
        call(name)
    call("suppressions", SuppressionState.ACTIVE)
    call("suppression", 1)
    call("suppressions_of", Algorithm.MD5, "00" * 16)
    call("suppressions_in_hold", 1)
    call("suppressions_ending", NOON, 5)
    call("count_ending", NOON)
    call("note_suppressions", [1], "others_at", NOON)
    call("note_canaries", CanaryNote(PUBLISHED))
    call("page_holds", ONE, timedelta(days=1))
    call("each_version", PUBLISHED)
    call("version_after", PUBLISHED, 1)
    call("first_kept", PUBLISHED)
    call("needed_versions", NOON)
    call("old_records", RetentionLimits(versions=1, syncs=1, holds=1, publications=1), ONE)
    for old in catalog.old_records(DEFAULTS, ONE):
        call("count_old", old)
        call("forget", old)
    call("old_audit", ONE)
    call("shorten_audit", ONE + timedelta(days=8), "syncd", ONE)
    call("retrust", "iwf", {"root": 2}, ENTRY)
    call("source_states")
    call("accept_clock", NOON, {"iwf": {}}, NOON, ENTRY)
    call("answers", "iwf")
    (origin,) = catalog.origins()
    call("note_polled", origin, Position({"next": 1}, "0" * 64, 1), NOON)
    call("replace_staged", 1, b"{}")
    call("move_store", "folder")
    call("lead", "a", "host", "folder", 15.0)
    call("check_store", "folder")
    call("fleet")
    call("renew_lead", 1, 15.0)
    call("take_orders", 1)
    call("answer_order", 1, ["{}"], ended=True)
    call("abandoned_orders", 2)
    call("drop_order", 1)
    call("give_up_lead", 1)
    call("announce_keys", NextKeys("lists", ("k1", "k2"), 1, 0, "alice"), ENTRY)
    call("next_keys")
    call("withdraw_keys", "lists", ENTRY)
    call("form_key")
    call("store_sessions", [StoredSession("a", "b", 1000)], ["b"], 0)
    call("stored_sessions")
    call("stored_session", "a")
    call("note_attempts", "a", ["192.0.2.1"])
    call("attempts_elsewhere", "b")
    return called


@pytest.fixture
def statements(tmp_path: Path) -> Iterator[list[Any]]:
    """Every statement that the catalog issues, as SQLAlchemy has it."""
    found: list[Any] = []
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:
        event.listen(catalog._database.engine, "before_execute", lambda _, statement, *__: found.append(statement))
        called = use_every_method(catalog, tmp_path)
        methods = {name for name in dir(Catalog) if not name.startswith("_")}
        assert methods - NOT_STATEMENTS == called, "a method is missing above: call it there"
        yield found


def test_every_statement_compiles_for_postgresql(statements: list[Any]) -> None:
    """No statement needs what SQLite alone has: its own inserts, its row numbers, its settings."""
    texts = {str(one.compile(dialect=POSTGRESQL)) for one in statements if not isinstance(one, str)}
    assert len(texts) > 40
    assert [one for one in texts if re.search(r"rowid|pragma|\bor replace\b|on conflict|\+syncs", one, re.I)] == []


def test_nothing_is_written_as_text(statements: list[Any]) -> None:
    """SQL as text would be passed to either database as it is; only SQLite's BEGIN is."""
    assert {one for one in statements if isinstance(one, str)} <= {"BEGIN", "BEGIN IMMEDIATE"}


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda one: str(one.name))
def test_every_table_compiles_for_postgresql(table: Any) -> None:
    """With its indexes, and with 64 bits for every number."""
    made = str(CreateTable(table).compile(dialect=POSTGRESQL))
    assert not re.search(r"\bINTEGER\b|\bSERIAL\b", made)
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=POSTGRESQL))
    for column in table.columns:
        assert not isinstance(column.type, Integer) or isinstance(column.type, BigInteger), column.name


def test_only_one_module_knows_each_database() -> None:
    """A dialect, a PRAGMA or a driver is named in its own module and, for migrations, in `schema.py` alone."""
    known = {"postgres.py", "postgres_driver.py", "schema.py", "sqlite.py"}
    modules = [path for path in PACKAGE.glob("*.py") if path.name not in known]
    words = r"sqlalchemy\.dialects|import sqlite3|import psycopg|PRAGMA|rowid|exec_driver_sql|sqlite_master|\bpg_"
    assert [path.name for path in modules if re.search(words, path.read_text())] == []


@pytest.fixture
def plans(tmp_path: Path) -> Iterator[tuple[Catalog, list[str]]]:
    """A catalog, and how SQLite finds the rows of each statement."""
    found: list[str] = []
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:

        def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                cursor = connection.connection.cursor()
                cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                found.extend(row[3] for row in cursor.fetchall())

        event.listen(catalog._database.engine, "before_cursor_execute", explain)
        yield catalog, found


def test_the_last_syncs_of_a_source_are_found_without_reading_the_others(plans: tuple[Catalog, list[str]]) -> None:
    """`syncd status` stays quick after years: each question walks the index of its source, and sorts nothing."""
    catalog, found = plans
    catalog.recent_syncs("iwf")
    catalog.last_ended("iwf")
    assert found == ["SEARCH syncs USING INDEX ix_syncs_source_number (source=?)"] * 2
    found.clear()
    catalog.last_success("iwf")
    by_outcome = "SEARCH syncs USING COVERING INDEX ix_syncs_source_dry_run (source=? AND dry_run=? AND outcome=?)"
    assert found.count(by_outcome) == 3  # published, up to date, held
    assert not [one for one in found if "SCAN" in one or "B-TREE" in one]


def test_nothing_reads_every_sync_or_version(plans: tuple[Catalog, list[str]]) -> None:
    """Status, a sync and the removal of old records cost the same after years."""
    catalog, found = plans
    catalog.commit(FIRST)
    catalog.note_attempt("iwf", NOON)
    catalog.mark_interrupted(NOON)
    catalog.due_versions(NOON)
    catalog.head_rows()
    catalog.list_records("iwf", IMAGES)
    catalog.history(PUBLISHED, 5)
    for old in catalog.old_records(DEFAULTS, ONE):
        catalog.forget(old)
    assert [one for one in found if re.match(r"SCAN (syncs|versions)\b", one)] == []


def test_a_number_beyond_32_bits_is_kept(tmp_path: Path) -> None:
    """Bytes received and serials outgrow 32 bits."""
    with Catalog.open(tmp_path / "catalog.sqlite3") as catalog:
        catalog.begin_sync("01", "iwf", datetime(2026, 3, 1, tzinfo=UTC))
        catalog.finish_sync("01", Outcome.UP_TO_DATE, now=ONE, received=1 << 40)
        assert catalog.recent_syncs()[0].bytes == 1 << 40
